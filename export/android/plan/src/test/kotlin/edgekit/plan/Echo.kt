package edgekit.plan

import java.io.File
import org.json.JSONArray
import org.json.JSONObject

/** Answers with the golden output, whatever it is given: a report can be written where there is no runtime. */
private class Echo(private val outputs: Map<String, Tensor>) : Model {
    override fun run(inputs: Map<String, Tensor>) = outputs
}

/** Prints the report of a bundle of one file, and the boxes of its golden output if it is a detector. */
fun main(arguments: Array<String>) {
    val bundle = try {
        Bundle.open(File(arguments[0]))
    } catch (fault: Fault) {
        System.err.println(fault.message)
        return
    }
    val outputs = bundle.golden("output.")
    val device = Device("echo", System.getProperty("os.arch"), System.getProperty("os.name"), 1, "none", 1)
    val report = Measurement(bundle, device, 0.05) { bundle.opened { _, _ -> Echo(outputs) } }.report()
    println(report)
    val image = bundle.image ?: return
    val contract = BoxContract(image)
    val rows = contract.chosen(outputs.getValue("boxes"), outputs.getValue("scores")).map {
        val placed = Placement.of(300, 200, bundle.inputShape[3], bundle.inputShape[2], contract.resize).toPicture(it)
        JSONArray(listOf(placed.label, placed.score, placed.left, placed.top, placed.right, placed.bottom))
    }
    println(JSONObject().put("boxes", JSONArray(rows)))
}
