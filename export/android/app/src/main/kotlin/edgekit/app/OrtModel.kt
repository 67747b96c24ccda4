package edgekit.app

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import edgekit.plan.Fault
import edgekit.plan.Model
import edgekit.plan.Tensor
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

/** One ONNX file in onnxruntime, without memory patterns; "returning" sessions hold their tensors outside of an arena. */
class OrtModel(file: File, session: String, threads: Int) : Model {
    private val environment = OrtEnvironment.getEnvironment()
    private val options = OrtSession.SessionOptions()
    private val opened: OrtSession

    init {
        options.setIntraOpNumThreads(threads)
        options.setMemoryPatternOptimization(false)
        if (session == "returning") options.setCPUArenaAllocator(false)
        opened = environment.createSession(file.path, options)
    }

    override fun run(inputs: Map<String, Tensor>): Map<String, Tensor> {
        val given = inputs.mapValues { (name, tensor) -> fed(name, tensor) }
        try {
            opened.run(given).use { made -> return made.associate { Pair(it.key, tensorOf(it.key, it.value as OnnxTensor)) } }
        } finally {
            given.values.forEach { it.close() }
        }
    }

    override fun close() {
        opened.close()
        options.close()
    }

    private fun fed(name: String, tensor: Tensor): OnnxTensor {
        val shape = LongArray(tensor.shape.size) { tensor.shape[it].toLong() }
        val info = opened.inputInfo[name]?.info as? TensorInfo ?: throw Fault("The file has no input '$name'.")
        return when (info.type) {
            OnnxJavaType.FLOAT -> OnnxTensor.createTensor(environment, FloatBuffer.wrap(tensor.values), shape)
            OnnxJavaType.UINT8 -> {
                val bytes = ByteBuffer.allocateDirect(tensor.values.size).order(ByteOrder.nativeOrder())
                tensor.values.forEach { bytes.put(it.toInt().toByte()) }
                bytes.rewind()
                OnnxTensor.createTensor(environment, bytes, shape, OnnxJavaType.UINT8)
            }
            else -> throw Fault("The input '$name' is ${info.type}, which this host does not feed.")
        }
    }

    private fun tensorOf(name: String, found: OnnxTensor): Tensor {
        val info = found.info
        val values = when (info.type) {
            OnnxJavaType.FLOAT, OnnxJavaType.FLOAT16 -> found.floatBuffer.let { from -> FloatArray(from.remaining()) { from.get(it) } }
            OnnxJavaType.INT64 -> found.longBuffer.let { from -> FloatArray(from.remaining()) { from.get(it).toFloat() } }
            OnnxJavaType.INT32 -> found.intBuffer.let { from -> FloatArray(from.remaining()) { from.get(it).toFloat() } }
            else -> throw Fault("The output '$name' is ${info.type}, which this host does not read.")
        }
        return Tensor(info.shape.map { it.toInt() }, values)
    }
}
