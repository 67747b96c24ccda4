package edgekit.plan

import java.io.Closeable

/** A model file that a runtime has opened. */
interface Model : Closeable {
    fun run(inputs: Map<String, Tensor>): Map<String, Tensor>

    override fun close() {}
}

/** Runs a plan's stages, whatever runs the models. `models` are by file, `outputs` the network's in order. */
class PlanRunner(private val plan: Plan, private val outputs: List<String>, private val models: Map<String, Model>) {
    /** The network's only input; in a stream it may be longer or shorter than the plan's. */
    val input: String = plan.stages.first().source

    fun run(source: Tensor): Map<String, Tensor> {
        val (shapes, stages) = forInput(source.shape)
        if (plan.isOneFile) return model(stages[0].models[0]).run(mapOf(stages[0].input to source))
        val tensors = mutableMapOf(input to source)
        val lastReader = stages.withIndex().associate { (index, stage) -> stage.source to index }
        for ((index, stage) in stages.withIndex()) {
            tensors[stage.result] = StageRun(stage).run(tensors.getValue(stage.source), shapes.getValue(stage.result))
            lastReader.filter { it.value == index && it.key !in outputs }.keys.forEach { tensors.remove(it) }
        }
        if (plan.columns.isEmpty()) return outputs.associateWith { tensors.getValue(it) }
        val last = tensors.getValue(stages.last().result)
        return outputs.associateWith { last.part(Tensor.whole(last.shape).dropLast(1) + plan.columns.getValue(it)) }
    }

    private fun model(file: ModelFile): Model =
        models[file.file] ?: throw Fault("The plan names the file ${file.file}, which was not opened.")

    private fun forInput(shape: List<Int>): Pair<Map<String, List<Int>>, List<Stage>> {
        val planned = plan.shapes.getValue(input)
        if (shape == planned) return Pair(plan.shapes, plan.stages)
        val stage = plan.stages[0]
        val repeat = stage.repeat
        if (repeat == null || plan.stages.size > 1 || shape.size != planned.size) {
            throw Fault("'$input' has the shape $planned, and $shape was given.")
        }
        val longer = shape[repeat.dim] - planned[repeat.dim]
        val more = Math.floorDiv(longer, repeat.readBy)
        val isSame = shape.indices.all { it == repeat.dim || shape[it] == planned[it] }
        if (longer != more * repeat.readBy || !isSame || more < -repeat.times || shape[repeat.dim] < 1) {
            val shortest = planned[repeat.dim] - repeat.times * repeat.readBy
            throw Fault(
                "'$input' streams at the shape $planned with $shortest + n * ${repeat.readBy} along dimension " +
                    "${repeat.dim}, and $shape was given."
            )
        }
        val result = plan.shapes.getValue(stage.result).toMutableList()
        result[repeat.resultDim] += more * repeat.writeBy
        return Pair(plan.shapes + (input to shape) + (stage.result to result), listOf(repeated(stage, repeat, more)))
    }

    private fun repeated(stage: Stage, repeat: Repeat, more: Int): Stage {
        val end = repeat.first + repeat.windows * repeat.times
        val once = stage.windows.subList(repeat.first, repeat.first + repeat.windows)
        val steady = (0 until repeat.times + more).flatMap { number -> once.map { it.moved(repeat, number) } }
        val windows = stage.windows.take(repeat.first) + steady + stage.windows.drop(end).map { it.moved(repeat, more) }
        return Stage(
            stage.models, stage.source, stage.result, stage.input, stage.output, windows, stage.averaged, repeat
        )
    }

    /** One run of a stage's windows, with what they keep. */
    private inner class StageRun(private val stage: Stage) {
        private val kept = mutableMapOf<Pair<Int, String>, Tensor>()
        private val stripsTakeTurns = stage.windows.map { it.strip }.let { it != it.sorted() }

        fun run(source: Tensor, shape: List<Int>): Tensor {
            val result = Tensor.zeros(shape)
            for (window in stage.windows) {
                val part = window(window, source)
                if (stage.averaged) addMean(part, window.share, result) else result.put(window.write, part)
            }
            return result
        }

        private fun window(window: Window, source: Tensor): Tensor {
            if (!stripsTakeTurns) kept.keys.removeAll { it.first != window.strip }
            val file = stage.models[window.model]
            val given = mutableMapOf<String, Tensor>()
            for (port in file.before) {
                given[port.name] = kept[Pair(window.strip, port.state)] ?: throw Fault("Nothing was kept of '${port.state}'.")
            }
            if (window.read.all { it.size > 0 }) given[stage.input] = source.part(window.read)
            val made = model(file).run(given)
            for (port in file.after) kept[Pair(window.strip, port.state)] = of(made, port.name, file)
            val written = of(made, stage.output, file)
            return if (window.take == null) written else written.part(window.take)
        }

        private fun of(made: Map<String, Tensor>, name: String, file: ModelFile): Tensor =
            made[name] ?: throw Fault("${file.file} gave no '$name'.")
    }
}

/** Adds `share` of the mean over all dimensions behind the second. */
private fun addMean(part: Tensor, share: Double, result: Tensor) {
    val rest = Tensor.elements(part.shape.drop(2))
    for (row in result.values.indices) {
        var sum = 0.0
        for (index in row * rest until (row + 1) * rest) sum += part.values[index]
        result.values[row] += (sum / rest * share).toFloat()
    }
}
