package edgekit.plan

import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** A name of kept values, and the model's input or output for them. */
class Port(val state: String, val name: String)

class ModelFile(val file: String, val session: String, val before: List<Port>, val after: List<Port>)

class Window(
    val model: Int, val read: Box, val write: Box, val share: Double, val strip: Int, val take: Box?
) {
    /** Further on, along one dimension of what is read and one of what is written. */
    fun moved(repeat: Repeat, times: Int) = Window(
        model, read.moved(repeat.dim, times * repeat.readBy),
        write.moved(repeat.resultDim, times * repeat.writeBy), share, strip, take
    )

    private fun Box.moved(dim: Int, by: Int): Box =
        mapIndexed { index, span -> if (index == dim) Span(span.start + by, span.stop + by) else span }
}

class Repeat(
    val first: Int, val windows: Int, val times: Int,
    val dim: Int, val readBy: Int, val resultDim: Int, val writeBy: Int
)

class Stage(
    val models: List<ModelFile>, val source: String, val result: String, val input: String, val output: String,
    val windows: List<Window>, val averaged: Boolean, val repeat: Repeat?
) {
    val isWhole: Boolean get() = windows.size == 1
}

/** A bundle's `plan.json`. `../vectors/README.md` says what its fields mean. */
class Plan(
    val shapes: Map<String, List<Int>>, val stages: List<Stage>, val columns: Map<String, Span>,
    val arenaBytes: Long
) {
    val models: List<ModelFile> get() = stages.flatMap { it.models }.distinctBy { it.file }

    /** One file that has all outputs by itself. */
    val isOneFile: Boolean get() = columns.isNotEmpty() && stages.size == 1 && stages[0].isWhole

    companion object {
        fun read(text: String): Plan = try {
            of(JSONObject(text))
        } catch (error: JSONException) {
            throw Fault("The plan is damaged (${error.message}); export the model again.")
        }

        fun of(data: JSONObject): Plan {
            if (data.getInt("schema") != 1) throw Fault("This host reads plans of schema 1, and this one has ${data.getInt("schema")}.")
            val tensors = data.getJSONObject("tensors")
            val columns = data.getJSONObject("columns")
            return Plan(
                tensors.fields().associateWith { tensors.getJSONObject(it).getJSONArray("shape").ints() },
                data.getJSONArray("stages").objects().map { stage(it) },
                columns.fields().associateWith { span(columns.getJSONArray(it)) },
                data.getLong("arena_bytes")
            )
        }

        private fun stage(data: JSONObject) = Stage(
            data.getJSONArray("models").objects().map {
                ModelFile(it.getString("file"), it.getString("session"), ports(it.getJSONArray("before")), ports(it.getJSONArray("after")))
            },
            data.getString("source"), data.getString("result"), data.getString("input"), data.getString("output"),
            data.getJSONArray("windows").objects().map { window(it) },
            data.getBoolean("averaged"),
            if (data.isNull("repeat")) null else repeat(data.getJSONObject("repeat"))
        )

        private fun window(data: JSONObject) = Window(
            data.getInt("model"), box(data.getJSONArray("read")), box(data.getJSONArray("write")),
            data.getDouble("share"), data.getInt("strip"),
            if (data.isNull("take")) null else box(data.getJSONArray("take"))
        )

        private fun repeat(data: JSONObject) = Repeat(
            data.getInt("first"), data.getInt("windows"), data.getInt("times"),
            data.getInt("dim"), data.getInt("read_by"), data.getInt("result_dim"), data.getInt("write_by")
        )

        private fun ports(data: JSONArray) = data.objects().map { Port(it.getString("state"), it.getString("name")) }

        private fun box(data: JSONArray): Box = (0 until data.length()).map { span(data.getJSONArray(it)) }

        private fun span(data: JSONArray) = Span(data.getInt(0), data.getInt(1))
    }
}
