package edgekit.plan

import java.io.Closeable
import java.io.File
import java.io.IOException
import java.security.MessageDigest
import org.json.JSONException
import org.json.JSONObject

const val GOLDEN = "golden.safetensors"

class OutputSpec(val name: String, val isReal: Boolean, val low: Double?, val high: Double?) {
    companion object {
        fun of(data: JSONObject) = OutputSpec(
            data.getString("name"), data.getString("dtype").startsWith("float"), data.doubleOrNull("low"), data.doubleOrNull("high")
        )
    }
}

/** A folder that `edgekit export --target onnx` wrote, whose files are those that were exported. */
class Bundle private constructor(val folder: File, private val manifest: JSONObject) {
    val name: String get() = folder.name
    val files: Map<String, String> = manifest.getJSONObject("files").let { all -> all.fields().associateWith { all.getString(it) } }
    val modelFile: String = manifest.getString("model")
    val outputs: List<OutputSpec> = manifest.getJSONArray("outputs").objects().map { OutputSpec.of(it) }
    val plan: Plan? = File(folder, "plan.json").let { if (it.isFile) Plan.read(it.readText()) else null }
    val gate: JSONObject get() = manifest.getJSONObject("gate")
    val suppression: JSONObject? get() = manifest.objectOrNull("suppression")
    val suppressesItself: Boolean get() = suppression != null
    val takesPixels: Boolean get() = manifest.optBoolean("takes_pixels")

    /** Of a network that takes pictures: order, mean, std, and what comes out. */
    val image: JSONObject? get() = manifest.objectOrNull("image")

    /** Of the first input. */
    val inputName: String get() = manifest.getJSONArray("inputs").getJSONObject(0).getString("name")
    val inputShape: List<Int> get() = manifest.getJSONArray("inputs").getJSONObject(0).getJSONArray("shape").ints()

    fun golden(prefix: String): Map<String, Tensor> = readSafetensors(File(folder, GOLDEN), prefix)

    /** What computes the bundle: its file, or the files of its plan in the plan's order. */
    fun opened(open: (file: File, session: String) -> Model): Opened {
        val plan = plan
        val files = plan?.models?.associate { it.file to it.session } ?: mapOf(modelFile to "frugal")
        val models = files.mapValues { (file, session) -> open(File(folder, file), session) }
        val runner = plan?.let { PlanRunner(it, outputs.map { output -> output.name }, models) }
        return Opened(models) { inputs ->
            if (runner != null) runner.run(inputs.getValue(runner.input)) else models.getValue(modelFile).run(inputs)
        }
    }

    companion object {
        fun open(folder: File): Bundle {
            val bundle = try {
                val manifest = JSONObject(File(folder, "manifest.json").readText())
                val format = manifest.getString("format")
                if (format != "onnx") throw Fault("${folder.name} is a $format bundle, which onnxruntime does not run.")
                if (!manifest.isNull("split")) throw Fault("${folder.name} is a head and its tails, which this host does not run.")
                Bundle(folder, manifest)
            } catch (error: IOException) {
                throw Fault("${folder.name} is no bundle: it has no manifest.json that can be read.")
            } catch (error: JSONException) {
                throw Fault("The manifest of ${folder.name} is damaged (${error.message}); copy the bundle again.")
            }
            for ((name, digest) in bundle.files) {
                val file = File(folder, name)
                if (!file.isFile || sha256(file) != digest) throw Fault("$name is not the file that was exported; copy it again.")
            }
            return bundle
        }

        private fun sha256(file: File): String {
            val digest = MessageDigest.getInstance("SHA-256")
            file.inputStream().use { input ->
                val block = ByteArray(1 shl 16)
                generateSequence { input.read(block).takeIf { it > 0 } }.forEach { digest.update(block, 0, it) }
            }
            return digest.digest().joinToString("") { "%02x".format(it) }
        }
    }
}

class Opened(private val models: Map<String, Model>, private val compute: (Map<String, Tensor>) -> Map<String, Tensor>) :
    Closeable {
    fun run(inputs: Map<String, Tensor>): Map<String, Tensor> = compute(inputs)

    override fun close() = models.values.forEach { it.close() }
}
