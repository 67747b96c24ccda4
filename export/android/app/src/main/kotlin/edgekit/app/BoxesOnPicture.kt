package edgekit.app

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import edgekit.plan.BoxContract
import edgekit.plan.Bundle
import edgekit.plan.Detection
import edgekit.plan.Fault
import edgekit.plan.Opened
import edgekit.plan.Placement

/** A picture with the boxes that a detector finds in it. */
fun withBoxes(picture: Bitmap, bundle: Bundle, model: Opened): Bitmap {
    val image = bundle.image
    val isDetector = image != null && image.getJSONObject("output").getString("kind") == "boxes"
    if (image == null || !isDetector || bundle.takesPixels || bundle.suppressesItself) {
        throw Fault("${bundle.name} is no detector whose file takes floats and leaves suppression to the host: no boxes are drawn.")
    }
    val contract = BoxContract(image)
    val (height, width) = bundle.inputShape.takeLast(2)
    val placement = Placement.of(picture.width, picture.height, width, height, contract.resize)
    val fitted = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
    val canvas = Canvas(fitted)
    canvas.drawColor(Color.rgb(contract.fill, contract.fill, contract.fill))
    val inner = Bitmap.createScaledBitmap(picture, placement.innerWidth, placement.innerHeight, true)
    canvas.drawBitmap(inner, placement.left.toFloat(), placement.top.toFloat(), null)
    val pixels = IntArray(width * height)
    fitted.getPixels(pixels, 0, width, 0, 0, width, height)
    val outputs = model.run(mapOf(bundle.inputName to contract.normalised(pixels, width, height)))
    val found = contract.chosen(outputs.getValue("boxes"), outputs.getValue("scores")).map { placement.toPicture(it) }
    return drawn(picture, found, contract.names)
}

private fun drawn(picture: Bitmap, found: List<Detection>, names: List<String>): Bitmap {
    val copy = picture.copy(Bitmap.Config.ARGB_8888, true)
    val canvas = Canvas(copy)
    val unit = maxOf(1f, minOf(copy.width, copy.height) / 200f)
    val line = Paint().apply { color = Color.GREEN; style = Paint.Style.STROKE; strokeWidth = unit }
    val text = Paint().apply { color = Color.GREEN; textSize = 6 * unit }
    for (box in found) {
        canvas.drawRect(box.left, box.top, box.right, box.bottom, line)
        val label = "${names[box.label]} ${"%.2f".format(box.score)}"
        canvas.drawText(label, box.left, maxOf(box.top - unit, text.textSize), text)
    }
    return copy
}
