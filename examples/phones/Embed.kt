// build.gradle.kts: implementation("com.microsoft.onnxruntime:onnxruntime-android:VERSION")
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.LongBuffer

/**
 * The model of a bundle. model: the path of model.onnx in the app's files, not in its assets: it is mapped from there.
 * ids of a text come from a tokenizer that reads tokenizer.json (see docs/phones.md).
 */
class Model(model: String) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val options = OrtSession.SessionOptions().apply { setIntraOpNumThreads(2) }
    private val session = environment.createSession(model, options)

    /** A vector of length 1. */
    fun encode(ids: LongArray): FloatArray {
        val shape = longArrayOf(1, ids.size.toLong())
        val mask = LongArray(ids.size) { 1 }
        OnnxTensor.createTensor(environment, LongBuffer.wrap(ids), shape).use { idTensor ->
            OnnxTensor.createTensor(environment, LongBuffer.wrap(mask), shape).use { maskTensor ->
                session.run(mapOf("input_ids" to idTensor, "attention_mask" to maskTensor)).use { result ->
                    val output = result.get("embedding").get() as OnnxTensor
                    val vector = FloatArray(output.info.shape[1].toInt())
                    output.floatBuffer.get(vector)
                    return vector
                }
            }
        }
    }

    override fun close() {
        session.close()
        options.close() // the session needs them as long as it is open
    }
}
