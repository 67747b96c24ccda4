package edgekit.app

import ai.onnxruntime.OrtException
import android.app.Activity
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.os.Build
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import edgekit.plan.Bundle
import edgekit.plan.Device
import edgekit.plan.Fault
import edgekit.plan.Measurement
import edgekit.plan.Opened
import edgekit.plan.objects
import edgekit.plan.percentile
import edgekit.plan.doubles
import java.io.File
import kotlin.concurrent.thread
import org.json.JSONObject

private const val SECONDS = 10.0

/** Measures the bundle in the app's folder, writes `report.json` beside it, and draws boxes on `picture.jpg`. */
class MainActivity : Activity() {
    private lateinit var text: TextView
    private lateinit var image: ImageView

    override fun onCreate(state: android.os.Bundle?) {
        super.onCreate(state)
        text = TextView(this)
        image = ImageView(this).apply { adjustViewBounds = true }
        val column = LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            addView(text)
            addView(image)
        }
        setContentView(ScrollView(this).apply { addView(column) })
        val folder = getExternalFilesDir(null) ?: filesDir
        thread { measure(folder) }
    }

    private fun measure(folder: File) {
        try {
            show("Checking and measuring ${folder.path}/bundle for $SECONDS s …")
            val bundle = Bundle.open(File(folder, "bundle"))
            val threads = Runtime.getRuntime().availableProcessors()
            val open: () -> Opened = { bundle.opened { file, session -> OrtModel(file, session, threads) } }
            val report = Measurement(bundle, device(threads), SECONDS, open).report()
            File(folder, "report.json").writeText(report.toString())
            show(summary(report))
            val picture = BitmapFactory.decodeFile(File(folder, "picture.jpg").path) ?: return
            val boxes = open().use { withBoxes(picture, bundle, it) }
            show(boxes)
        } catch (fault: Fault) {
            show(fault.message ?: "It failed.")
        } catch (error: OrtException) {
            show("onnxruntime: ${error.message}")
        }
    }

    private fun summary(report: JSONObject): String {
        val golden = report.getJSONObject("golden")
        val outputs = golden.getJSONArray("outputs").objects().joinToString("\n") {
            "${it.getString("name")}: ${if (it.isNull("psnr_db")) "not comparable" else "${it.getDouble("psnr_db")} dB"}"
        }
        val samples = report.getJSONObject("latency_ms").getJSONArray("samples").doubles()
        val latency = listOf(50, 90, 99).joinToString(", ") { "p$it ${"%.2f".format(percentile(samples, it))} ms" }
        val verdict = if (golden.getBoolean("passed")) "computes what was exported" else "DOES NOT compute what was exported"
        return "${report.getString("bundle")} $verdict\n$outputs\n$latency of ${samples.size} runs"
    }

    private fun device(threads: Int) = Device(
        "${Build.MANUFACTURER} ${Build.MODEL}, ${Build.HARDWARE}", Build.SUPPORTED_ABIS[0], "Android ${Build.VERSION.RELEASE}",
        threads, "onnxruntime ${BuildConfig.ONNXRUNTIME} CPUExecutionProvider", threads
    )

    private fun show(words: String) = runOnUiThread { text.text = words }

    private fun show(picture: Bitmap) = runOnUiThread { image.setImageBitmap(picture) }
}
