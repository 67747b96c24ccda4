package edgekit.plan

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONException
import org.json.JSONObject

/** The tensors of a safetensors file whose names begin with `prefix`: a length, a table in JSON, the bytes. */
fun readSafetensors(file: File, prefix: String): Map<String, Tensor> = try {
    RandomAccessFile(file, "r").use { open ->
        val length = bytes(open, 0, 8).getLong(0)
        if (length <= 0 || length > open.length() - 8) throw Fault("${file.name} is no safetensors file.")
        val table = JSONObject(String(bytes(open, 8, length.toInt()).array(), Charsets.UTF_8))
        table.fields().filter { it.startsWith(prefix) }.associate { key ->
            val entry = table.getJSONObject(key)
            val span = entry.getJSONArray("data_offsets")
            val start = span.getLong(0)
            val data = bytes(open, 8 + length + start, (span.getLong(1) - start).toInt())
            key.removePrefix(prefix) to Tensor(entry.getJSONArray("shape").ints(), numbers(data, entry.getString("dtype"), key))
        }
    }
} catch (error: IOException) {
    throw Fault("${file.name} is missing or cut short; copy the bundle again.")
} catch (error: JSONException) {
    throw Fault("${file.name} is damaged (${error.message}); copy the bundle again.")
}

private fun bytes(file: RandomAccessFile, start: Long, length: Int): ByteBuffer {
    val data = ByteArray(length)
    file.seek(start)
    file.readFully(data)
    return ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN)
}

private fun numbers(data: ByteBuffer, type: String, key: String): FloatArray {
    val count = data.capacity()
    return when (type) {
        "F32" -> FloatArray(count / 4) { data.getFloat(4 * it) }
        "I64" -> FloatArray(count / 8) { data.getLong(8 * it).toFloat() }
        "I32" -> FloatArray(count / 4) { data.getInt(4 * it).toFloat() }
        "U8" -> FloatArray(count) { (data.get(it).toInt() and 0xff).toFloat() }
        "BOOL" -> FloatArray(count) { data.get(it).toFloat() }
        else -> throw Fault("$key has the type $type, which this host does not read.")
    }
}
