package edgekit.plan

/** What a user is told, in a sentence. */
class Fault(message: String) : Exception(message)

/** From `start` to before `stop`, along one dimension. */
data class Span(val start: Int, val stop: Int) {
    val size: Int get() = stop - start
}

typealias Box = List<Span>

/** Elements in C order, as single-precision numbers whatever type a model has at its doors. */
class Tensor(val shape: List<Int>, val values: FloatArray) {
    init {
        if (elements(shape) != values.size) throw Fault("${values.size} numbers are no tensor of the shape $shape.")
    }

    /** The box as a tensor of its own, or this one where the box is all of it. */
    fun part(box: Box): Tensor {
        if (box == whole(shape)) return this
        val part = Tensor(box.map { it.size }, FloatArray(elements(box.map { it.size })))
        eachRow(box) { here, there, length -> values.copyInto(part.values, there, here, here + length) }
        return part
    }

    fun put(box: Box, part: Tensor) {
        if (part.shape != box.map { it.size }) throw Fault("A model gave the shape ${part.shape} for the box $box.")
        eachRow(box) { here, there, length -> part.values.copyInto(values, here, there, there + length) }
    }

    /** Where each row of a box begins in this tensor and in the box, and how long it is. */
    private fun eachRow(box: Box, use: (here: Int, there: Int, length: Int) -> Unit) {
        val fits = box.size == shape.size && box.indices.all { box[it].start >= 0 && box[it].stop <= shape[it] }
        if (!fits) throw Fault("The box $box is not within the shape $shape.")
        if (box.any { it.size <= 0 }) return
        val length = box.last().size
        val at = IntArray(box.size) { box[it].start }
        for (row in 0 until elements(box.map { it.size }) / length) {
            val here = at.indices.fold(0) { offset, dim -> offset * shape[dim] + at[dim] }
            use(here, row * length, length)
            var dim = box.size - 2
            while (dim >= 0 && ++at[dim] == box[dim].stop) {
                at[dim] = box[dim].start
                dim -= 1
            }
        }
    }

    companion object {
        fun zeros(shape: List<Int>) = Tensor(shape, FloatArray(elements(shape)))

        fun whole(shape: List<Int>): Box = shape.map { Span(0, it) }

        fun elements(shape: List<Int>): Int = shape.fold(1) { count, size -> count * size }
    }
}
