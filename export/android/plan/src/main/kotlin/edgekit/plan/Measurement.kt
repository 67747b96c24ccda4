package edgekit.plan

import java.io.File
import kotlin.math.abs
import org.json.JSONArray
import org.json.JSONObject

private const val STEADY_RUNS = 5
private const val STEADY_SHARE = 0.03
private const val WARM_UP_SHARE = 0.5
private const val LEAST_RUNS = 10

class Device(
    val processor: String, val architecture: String, val system: String, val cpus: Int, val runtime: String, val threads: Int
)

/** A report by `export/board/report.schema.json`, which `edgekit profile --from` reads; `open` as `Bundle.opened` takes it. */
class Measurement(
    private val bundle: Bundle, private val device: Device, private val seconds: Double, private val open: () -> Opened
) {
    fun report(): JSONObject {
        val inputs = bundle.golden("input.")
        lateinit var model: Opened
        lateinit var outputs: Map<String, Tensor>
        val cold = milliseconds { model = open() }
        val firstRun = milliseconds { outputs = model.run(inputs) }
        val warm = milliseconds { open().close() }
        return model.use {
            val golden = GoldenCheck(bundle, bundle.golden("output."), outputs)
            val warmUp = warmUp(model, inputs)
            val samples = mutableListOf<Double>()
            val end = System.nanoTime() + seconds * 1e9
            while (samples.size < LEAST_RUNS || System.nanoTime() < end) samples += milliseconds { model.run(inputs) }
            JSONObject()
                .put("schema", 1).put("complete", true).put("bundle", bundle.name).put("files", JSONObject(bundle.files))
                .put("disk_bytes", bundle.files.keys.filter { it != GOLDEN }.map { File(bundle.folder, it).length() }.sum())
                .put("device", told(device)).put("golden", told(golden))
                .put(
                    "load_ms",
                    JSONObject().put("cold_ms", cold).put("first_run_ms", firstRun).put("warm_ms", warm).put("is_cold", false)
                )
                .put("warm_up", warmUp).put("latency_ms", latency(samples))
        }
    }

    private fun warmUp(model: Opened, inputs: Map<String, Tensor>): JSONObject {
        val taken = mutableListOf(milliseconds { model.run(inputs) })
        val end = System.nanoTime() + WARM_UP_SHARE * seconds * 1e9
        var isSteady = false
        while (!isSteady && System.nanoTime() < end) {
            taken += milliseconds { model.run(inputs) }
            if (taken.size > 2 * STEADY_RUNS) {
                val before = percentile(taken.takeLast(2 * STEADY_RUNS).take(STEADY_RUNS), 50)
                isSteady = abs(percentile(taken.takeLast(STEADY_RUNS), 50) / before - 1) < STEADY_SHARE
            }
        }
        return JSONObject().put("runs", taken.size).put("is_steady", isSteady).put("first_ms", taken[0])
    }
}

/** Between the neighbouring samples, as NumPy's `percentile` does. */
fun percentile(samples: List<Double>, percent: Int): Double {
    val sorted = samples.sorted()
    val place = (sorted.size - 1) * percent / 100.0
    val below = place.toInt()
    val above = minOf(below + 1, sorted.size - 1)
    return sorted[below] + (sorted[above] - sorted[below]) * (place - below)
}

private fun milliseconds(run: () -> Unit): Double {
    val started = System.nanoTime()
    run()
    return (System.nanoTime() - started) / 1e6
}

private fun latency(samples: List<Double>) = JSONObject()
    .put("p50", percentile(samples, 50)).put("p90", percentile(samples, 90)).put("p99", percentile(samples, 99))
    .put("samples", JSONArray(samples))

private fun told(device: Device) = JSONObject()
    .put("processor", device.processor).put("architecture", device.architecture).put("system", device.system)
    .put("cpus", device.cpus).put("runtime", device.runtime).put("threads", device.threads)

private fun told(golden: GoldenCheck): JSONObject {
    val rows = golden.outputs.map {
        JSONObject().put("name", it.name).put("psnr_db", it.psnrDb ?: JSONObject.NULL)
            .put("max_abs", it.maxAbs ?: JSONObject.NULL).put("passed", it.passed)
    }
    return JSONObject().put("passed", golden.passed).put("gate_db", golden.gateDb).put("outputs", JSONArray(rows))
}
