package edgekit.plan

import kotlin.math.abs
import org.json.JSONObject

/** Boxes that overlap by less are not the same. */
private const val SAME_IOU = 0.5f

/** A box that covers another by so much less than suppression asks for may suppress it elsewhere. */
private const val IOU_MARGIN = 0.05

/** A used row of a file that suppresses by itself. */
private class Row(val corners: List<Float>, val score: Float, val label: Float) {
    private val ordered = Detection(
        label.toInt(), score, minOf(corners[0], corners[2]), minOf(corners[1], corners[3]),
        maxOf(corners[0], corners[2]), maxOf(corners[1], corners[3])
    )

    fun overlap(other: Row): Float = overlap(ordered, other.ordered)

    fun apart(other: Row): Float = corners.zip(other.corners).fold(0f) { most, (one, two) -> maxOf(most, abs(one - two)) }
}

/** Which rows of two outputs are the same boxes, by the rule of `export/vectors/README.md`. */
class MatchedBoxes(expected: Map<String, Tensor>, found: Map<String, Tensor>, gate: JSONObject, within: JSONObject) {
    private val scoreDifference = gate.getDouble("score_difference")
    private val matched = gate.getDouble("matched")
    private val score = within.getDouble("score")
    private val iou = within.getDouble("iou")
    private val limit = within.getInt("limit")
    private val ours = rowsInUse(expected)
    private val theirs = rowsInUse(found)
    private val pairs = twins()
    private val far = gate.getDouble("corner_px").let { near -> pairs.filter { (one, other) -> one.apart(other) > near } }

    /** Whether few enough boxes of either side lack their twin. */
    val isComplete: Boolean = fewLackTwins(ours, pairs.map { it.first }, theirs) && fewLackTwins(theirs, pairs.map { it.second }, ours)
    private val boxesAreNear = far.isEmpty() || far.map { (one, other) -> one.overlap(other) }.average() >= gate.getDouble("mean_iou")
    private val scoresAreNear = pairs.all { (one, other) -> abs(one.score.toDouble() - other.score) <= scoreDifference }

    fun isNear(output: String): Boolean = when (output) {
        "boxes" -> boxesAreNear
        "scores" -> scoresAreNear
        else -> isComplete
    }

    /** Numbers of pairs, expected and found. */
    fun values(output: String): List<Pair<Float, Float>> = pairs.flatMap { (one, other) -> numbers(one, output).zip(numbers(other, output)) }

    private fun numbers(row: Row, output: String): List<Float> = when (output) {
        "boxes" -> row.corners
        "scores" -> listOf(row.score)
        else -> listOf(row.label)
    }

    private fun rowsInUse(outputs: Map<String, Tensor>): List<Row> {
        val (boxes, scores, labels) = listOf("boxes", "scores", "labels").map { outputs.getValue(it).values }
        return labels.indices.filter { labels[it] >= 0 }.map { Row(boxes.slice(4 * it until 4 * it + 4), scores[it], labels[it]) }
    }

    /** Each expected row, best score first, with the free one of its label that covers it best. */
    private fun twins(): List<Pair<Row, Row>> {
        val free = theirs.toMutableList()
        return ours.mapNotNull { one ->
            val same = free.filter { it.label == one.label && one.overlap(it) >= SAME_IOU }
            same.sortedByDescending { one.overlap(it) }.firstOrNull()?.let {
                free.remove(it)
                Pair(one, it)
            }
        }
    }

    /** But for those that the other side lost by all but equal scores, or just does not show. */
    private fun fewLackTwins(side: List<Row>, paired: List<Row>, other: List<Row>): Boolean {
        val lowest = if (other.size < limit) 0.0 else other.fold(1.0) { least, row -> minOf(least, row.score.toDouble()) }
        val least = maxOf(score, lowest) + scoreDifference
        val lacking = side.filterIndexed { at, one ->
            val isExcused = one.score <= least || other.any { lostTo(one, it) } && side.take(at).none { covers(it, one) }
            one !in paired && !isExcused
        }
        return lacking.size <= (1 - matched) * side.size
    }

    /** So that suppression would have taken the second. */
    private fun covers(before: Row, one: Row): Boolean = before.label == one.label && before.overlap(one) > iou + IOU_MARGIN

    private fun lostTo(one: Row, better: Row): Boolean =
        better.label == one.label && better.score >= one.score - scoreDifference && one.overlap(better) > iou - IOU_MARGIN
}
