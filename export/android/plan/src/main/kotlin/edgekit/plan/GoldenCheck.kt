package edgekit.plan

import kotlin.math.abs
import kotlin.math.log10
import org.json.JSONObject

class Judged(val name: String, val psnrDb: Double?, val maxAbs: Double?, val passed: Boolean)

/** Whether the outputs of the golden input are what the bundle promises, by the rules of the runner for boards. */
class GoldenCheck(
    specs: List<OutputSpec>, gate: JSONObject, suppression: JSONObject?, expected: Map<String, Tensor>, found: Map<String, Tensor>
) {
    constructor(bundle: Bundle, expected: Map<String, Tensor>, found: Map<String, Tensor>) :
        this(bundle.outputs, bundle.gate, bundle.suppression, expected, found)

    private val ofDetections = gate.objectOrNull("detections")
    private val integersDiffer = gate.getDouble("integers_differ")
    val gateDb: Double = ofDetections?.doubleOrNull("psnr_db") ?: gate.getDouble("psnr_db")
    val outputs: List<Judged> =
        if (suppression != null) judgedBoxes(specs, suppression, expected, found)
        else specs.map { judged(it, expected.getValue(it.name), found[it.name]) }
    val passed: Boolean = outputs.isNotEmpty() && outputs.all { it.passed }

    /** Of a file that suppresses by itself, whose rows of near scores may change places: by boxes that belong together. */
    private fun judgedBoxes(
        specs: List<OutputSpec>, suppression: JSONObject, expected: Map<String, Tensor>, found: Map<String, Tensor>
    ): List<Judged> {
        val areComparable = specs.all { isComparable(expected.getValue(it.name), found[it.name]) }
        if (!areComparable || ofDetections == null) return specs.map { unmeasured(it) }
        val boxes = MatchedBoxes(expected, found, ofDetections, suppression)
        return specs.map {
            val row = measured(it, boxes.values(it.name))
            if (it.name == "labels" && !boxes.isComplete) unmeasured(it)
            else Judged(row.name, row.psnrDb, row.maxAbs, row.passed && boxes.isNear(it.name))
        }
    }

    private fun judged(spec: OutputSpec, expected: Tensor, found: Tensor?): Judged {
        if (found == null || !isComparable(expected, found)) return unmeasured(spec)
        var pairs = expected.values.zip(found.values)
        if (ofDetections != null && spec.name == "scores") { // a peak that falls the other way is a decision, no error
            val shown = pairs.filter { (wanted, _) -> wanted != 0f }
            val isLost = shown.size > 2 * shown.count { (_, got) -> got != 0f } // most of them
            if (isLost) return unmeasured(spec)
            pairs = pairs.filter { (wanted, got) -> (wanted == 0f) == (got == 0f) }
        }
        return measured(spec, pairs)
    }

    private fun isComparable(expected: Tensor, found: Tensor?): Boolean =
        found != null && found.shape == expected.shape && found.values.none { it.isNaN() || it.isInfinite() }

    private fun unmeasured(spec: OutputSpec) = Judged(spec.name, null, null, false)

    private fun measured(spec: OutputSpec, pairs: List<Pair<Float, Float>>): Judged {
        var squares = 0.0
        var largest = 0.0
        var furthest = 0.0
        for ((wanted, got) in pairs) {
            val off = abs(got.toDouble() - wanted)
            squares += off * off
            furthest = maxOf(furthest, off)
            largest = maxOf(largest, abs(wanted.toDouble()))
        }
        val span = if (spec.low == null || spec.high == null) 0.0 else spec.high - spec.low
        val peak = listOf(span, largest, 1.0).first { it > 0 }
        val decibels = if (squares == 0.0) 999.0 else 20 * log10(peak) - 10 * log10(squares / pairs.size)
        val passed = if (spec.isReal) decibels >= gateDb else {
            pairs.count { (wanted, got) -> wanted != got } <= integersDiffer * pairs.size
        }
        return Judged(spec.name, decibels, furthest, passed)
    }
}
