package edgekit.plan

import org.json.JSONObject

class Detection(val label: Int, val score: Float, val left: Float, val top: Float, val right: Float, val bottom: Float)

/** Where a picture of `width` by `height` pixels lies in a network's input. */
class Placement(private val width: Int, private val height: Int, val left: Int, val top: Int, val innerWidth: Int, val innerHeight: Int) {
    /** In pixels of the picture, cut at its borders. */
    fun toPicture(found: Detection): Detection {
        fun across(x: Float) = ((x - left) * width / innerWidth).coerceIn(0f, width.toFloat())
        fun down(y: Float) = ((y - top) * height / innerHeight).coerceIn(0f, height.toFloat())
        return Detection(found.label, found.score, across(found.left), down(found.top), across(found.right), down(found.bottom))
    }

    companion object {
        /** A letterboxed picture is as large as fits, in the middle. */
        fun of(width: Int, height: Int, inputWidth: Int, inputHeight: Int, resize: String): Placement {
            if (resize == "stretch") return Placement(width, height, 0, 0, inputWidth, inputHeight)
            val scale = minOf(inputWidth / width.toDouble(), inputHeight / height.toDouble())
            val innerWidth = Math.rint(width * scale).toInt().coerceIn(1, inputWidth)
            val innerHeight = Math.rint(height * scale).toInt().coerceIn(1, inputHeight)
            val (left, top) = Pair((inputWidth - innerWidth) / 2, (inputHeight - innerHeight) / 2)
            return Placement(width, height, left, top, innerWidth, innerHeight)
        }
    }
}

/** A manifest's `image`, of a detector: how its input is made of colours, and which candidates are shown. */
class BoxContract(image: JSONObject) {
    private val isRgb = image.getString("order") == "RGB"
    private val mean = image.getJSONArray("mean").doubles()
    private val std = image.getJSONArray("std").doubles()
    private val output = image.getJSONObject("output")
    val resize: String = output.getString("resize")
    val fill: Int = output.getInt("fill")
    val names: List<String> = output.getJSONArray("names").strings()
    private val score = output.getDouble("score").toFloat()
    private val iou = output.getDouble("iou").toFloat()
    private val limit = output.getInt("limit")

    /** Of pixels as Android's bitmaps have them, 0xAARRGGBB row by row: 1 3 H W, (x - mean) / std of x in [0, 1]. */
    fun normalised(pixels: IntArray, width: Int, height: Int): Tensor {
        val plane = width * height
        val values = FloatArray(3 * plane)
        for (channel in 0 until 3) {
            val shift = if (isRgb) 16 - 8 * channel else 8 * channel
            val (low, scale) = Pair(mean[channel].toFloat(), std[channel].toFloat())
            for (index in 0 until plane) {
                values[channel * plane + index] = ((pixels[index] shr shift and 0xff) / 255f - low) / scale
            }
        }
        return Tensor(listOf(1, 3, height, width), values)
    }

    /** Of boxes 1 A 4 with scores 1 A C: the best that no better one of their class covers, best first. */
    fun chosen(boxes: Tensor, scores: Tensor): List<Detection> {
        val classes = scores.shape.last()
        val kept = (0 until classes).flatMap { label ->
            val queue = (0 until scores.shape[1])
                .filter { scores.values[it * classes + label] > score }
                .map { candidate(boxes, it, label, scores.values[it * classes + label]) }
                .filter { box -> listOf(box.left, box.top, box.right, box.bottom).none { it.isNaN() || it.isInfinite() } }
                .sortedByDescending { it.score }
            greedy(queue)
        }
        return kept.sortedByDescending { it.score }.take(limit)
    }

    private fun candidate(boxes: Tensor, row: Int, label: Int, score: Float): Detection {
        val (x1, y1, x2, y2) = boxes.values.slice(4 * row until 4 * row + 4)
        return Detection(label, score, minOf(x1, x2), minOf(y1, y2), maxOf(x1, x2), maxOf(y1, y2))
    }

    private fun greedy(queue: List<Detection>): List<Detection> {
        val kept = mutableListOf<Detection>()
        for (box in queue) {
            if (kept.size == limit) break
            if (kept.none { overlap(it, box) > iou }) kept += box
        }
        return kept
    }
}

/** Intersection over union; corners in order. */
fun overlap(one: Detection, other: Detection): Float {
    val width = minOf(one.right, other.right) - maxOf(one.left, other.left)
    val height = minOf(one.bottom, other.bottom) - maxOf(one.top, other.top)
    if (width <= 0 || height <= 0) return 0f
    val shared = width * height
    return shared / (area(one) + area(other) - shared)
}

private fun area(box: Detection) = (box.right - box.left) * (box.bottom - box.top)
