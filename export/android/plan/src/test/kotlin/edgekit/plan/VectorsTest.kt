package edgekit.plan

import java.io.File
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Test

/** Every file of `export/vectors`, whose README says what it holds. */
class VectorsTest {
    private val folder = File(System.getProperty("edgekit.vectors", "../../vectors"))

    @Test
    fun everyVectorIsCalledAndComesOutAsItSays() {
        val files = folder.listFiles { file -> file.extension == "json" }.orEmpty().sorted()
        assertTrue("no vectors in $folder", files.isNotEmpty())
        for (file in files) check(file.name, JSONObject(file.readText()))
    }

    private fun check(name: String, vector: JSONObject) {
        val plan = Plan.of(vector.getJSONObject("plan"))
        val outputs = vector.getJSONArray("outputs").strings()
        for ((number, run) in vector.getJSONArray("runs").objects().withIndex()) {
            val calls = mutableListOf<Call>()
            val models = vector.getJSONObject("models").let { all ->
                all.fields().associateWith { StandIn(it, all.getJSONObject(it), calls) }
            }
            val runner = PlanRunner(plan, outputs, models)
            val where = "$name, run $number"
            val input = tensor(run.getJSONObject("input"))
            if (run.optBoolean("refused")) {
                try {
                    runner.run(input)
                } catch (expected: Fault) {
                    continue
                }
                fail("$where was not refused")
            }
            checkResults(where, run, calls, runner.run(input))
        }
    }

    private fun checkResults(where: String, run: JSONObject, calls: List<Call>, found: Map<String, Tensor>) {
        val expected = run.getJSONArray("calls").objects()
        assertEquals("calls of $where", expected.map { it.getString("model") }, calls.map { it.model })
        for ((index, call) in calls.withIndex()) {
            val inputs = expected[index].getJSONObject("inputs")
            assertEquals("inputs of call $index, $where", inputs.fields().sorted(), call.inputs.keys.sorted())
            for ((input, given) in call.inputs) {
                val wanted = inputs.getJSONObject(input)
                assertEquals("$input of call $index, $where", wanted.getJSONArray("shape").ints(), given.shape)
                near("$input of call $index, $where", wanted.getDouble("weighted"), weighted(given))
            }
        }
        for (wanted in run.getJSONArray("outputs").objects()) {
            val name = wanted.getString("name")
            val output = found.getValue(name)
            val values = tensor(wanted)
            assertEquals("$name of $where", values.shape, output.shape)
            for (index in values.values.indices) {
                near("$name[$index] of $where", values.values[index].toDouble(), output.values[index].toDouble())
            }
        }
    }

    private fun near(what: String, wanted: Double, found: Double) =
        assertEquals(what, wanted, found, 1e-4 * maxOf(1.0, Math.abs(wanted)))

    private fun tensor(data: JSONObject) = Tensor(
        data.getJSONArray("shape").ints(),
        data.getJSONArray("values").doubles().map { it.toFloat() }.toFloatArray()
    )
}

private class Call(val model: String, val inputs: Map<String, Tensor>)

private fun weighted(tensor: Tensor): Double {
    var sum = 0.0
    var weights = 0.0
    for ((index, value) in tensor.values.withIndex()) {
        val weight = index % 5 + 1
        sum += weight * value.toDouble()
        weights += weight
    }
    return sum / weights
}

private class StandIn(private val file: String, data: JSONObject, private val calls: MutableList<Call>) : Model {
    private val number = data.getInt("number")
    private val shapes = data.getJSONObject("outputs").let { all ->
        all.fields().sorted().map { Pair(it, all.getJSONArray(it).ints()) }
    }

    override fun run(inputs: Map<String, Tensor>): Map<String, Tensor> {
        calls += Call(file, inputs)
        val names = inputs.keys.sorted()
        val shares = names.indices.map { it + 1 }.sum()
        val level = names.mapIndexed { place, name -> (place + 1) * weighted(inputs.getValue(name)) }.sum() / shares
        return shapes.withIndex().associate { (place, output) ->
            val (name, shape) = output
            name to Tensor(shape, FloatArray(Tensor.elements(shape)) { (level + (number + place) / 2.0 + it % 8 / 8.0).toFloat() })
        }
    }
}
