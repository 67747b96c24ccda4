package edgekit.plan

import java.io.File
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** `export/vectors/boxes`: which boxes are those that were promised. */
class BoxVectorsTest {
    private val folder = File(System.getProperty("edgekit.vectors", "../../vectors"))
    private val cases = JSONArray(File(folder, "boxes/suppressed.json").readText()).objects()

    @Test
    fun theGoldenCheckSaysWhatEdgekitSays() {
        assertTrue(cases.size > 20)
        for (case in cases) {
            val where = case.getString("about")
            val check = checkOf(case, tensors(case, "found"))
            assertEquals(where, case.getBoolean("passed"), check.passed)
            for ((row, wanted) in check.outputs.zip(case.getJSONArray("outputs").objects())) {
                assertEquals(where, wanted.getString("name"), row.name)
                assertEquals("${row.name} where $where", wanted.getBoolean("passed"), row.passed)
                near("${row.name} where $where", wanted.doubleOrNull("psnr_db"), row.psnrDb, 0.01)
                near("${row.name} where $where", wanted.doubleOrNull("max_abs"), row.maxAbs, 1e-4)
            }
        }
    }

    @Test
    fun anOutputThatCannotBeComparedFailsAll() {
        val found = tensors(cases[0], "expected")
        for (broken in listOf(found - "labels", found + ("scores" to Tensor(listOf(1, 12), FloatArray(12) { Float.NaN })))) {
            assertEquals(listOf(false, false, false), checkOf(cases[0], broken).outputs.map { it.passed })
        }
    }

    private fun checkOf(case: JSONObject, found: Map<String, Tensor>): GoldenCheck {
        val manifest = case.getJSONObject("manifest")
        val specs = manifest.getJSONArray("outputs").objects().map { OutputSpec.of(it) }
        return GoldenCheck(specs, manifest.getJSONObject("gate"), manifest.objectOrNull("suppression"), tensors(case, "expected"), found)
    }

    private fun tensors(case: JSONObject, side: String): Map<String, Tensor> =
        case.getJSONObject("manifest").getJSONArray("outputs").objects().associate {
            val values = case.getJSONObject(side).getJSONArray(it.getString("name")).doubles()
            it.getString("name") to Tensor(it.getJSONArray("shape").ints(), values.map { value -> value.toFloat() }.toFloatArray())
        }

    private fun near(what: String, wanted: Double?, found: Double?, least: Double) {
        if (wanted == null || found == null) assertEquals(what, wanted, found) else assertEquals(what, wanted, found, least)
    }
}
