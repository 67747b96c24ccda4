package edgekit.plan

import kotlin.math.abs
import kotlin.math.log10

class Judged(val name: String, val psnrDb: Double?, val maxAbs: Double?, val passed: Boolean)

/** Whether the outputs of the golden input are what the bundle promises, by the rules of the runner for boards. */
class GoldenCheck(bundle: Bundle, expected: Map<String, Tensor>, found: Map<String, Tensor>) {
    private val gate = bundle.gate
    private val ofDetections = gate.objectOrNull("detections")
    private val integersDiffer = gate.getDouble("integers_differ")
    val gateDb: Double = ofDetections?.doubleOrNull("psnr_db") ?: gate.getDouble("psnr_db")
    val outputs: List<Judged> = bundle.outputs
        .filter { !bundle.suppressesItself || it.name == "scores" } // rows of near scores may change places
        .map { judged(it, bundle.suppressesItself, expected.getValue(it.name), found[it.name]) }
    val passed: Boolean = outputs.isNotEmpty() && outputs.all { it.passed }

    private fun judged(spec: OutputSpec, rowsMayMove: Boolean, expected: Tensor, found: Tensor?): Judged {
        val isComparable = found != null && found.shape == expected.shape && found.values.none { it.isNaN() || it.isInfinite() }
        if (found == null || !isComparable) return Judged(spec.name, null, null, false)
        var pairs = expected.values.zip(found.values)
        if (rowsMayMove) {
            pairs = expected.values.sorted().zip(found.values.sorted())
        } else if (ofDetections != null && spec.name == "scores") { // a peak that falls the other way is a decision, no error
            val shown = pairs.filter { (wanted, _) -> wanted != 0f }
            val isLost = shown.size > 2 * shown.count { (_, got) -> got != 0f } // most of them
            if (isLost) return Judged(spec.name, null, null, false)
            pairs = pairs.filter { (wanted, got) -> (wanted == 0f) == (got == 0f) }
        }
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
