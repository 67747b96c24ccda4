package edgekit.plan

import org.json.JSONArray
import org.json.JSONObject

/** `org.json` is part of Android, and its arrays and objects are no collections. */
fun JSONArray.objects(): List<JSONObject> = (0 until length()).map { getJSONObject(it) }

fun JSONArray.ints(): List<Int> = (0 until length()).map { getInt(it) }

fun JSONArray.strings(): List<String> = (0 until length()).map { getString(it) }

fun JSONArray.doubles(): List<Double> = (0 until length()).map { getDouble(it) }

fun JSONObject.fields(): List<String> = keys().asSequence().map { it.toString() }.toList()

/** Null where the field is missing or null. */
fun JSONObject.objectOrNull(field: String): JSONObject? = if (isNull(field)) null else getJSONObject(field)

fun JSONObject.doubleOrNull(field: String): Double? = if (isNull(field)) null else getDouble(field)
