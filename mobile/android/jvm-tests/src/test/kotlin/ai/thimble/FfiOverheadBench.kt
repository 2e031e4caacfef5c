package ai.thimble

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import org.json.JSONObject
import java.util.concurrent.CompletableFuture
import kotlin.system.exitProcess

/*
 * Claim: passing a token to Kotlin through the FFI costs less than 5% of its time at 500 tokens a second, 100 us.
 *
 * The worker's own clock runs while a listener is called, because the next token waits for it. So the same greedy text
 * is made on one thread by `thimble run`, which hands it to nobody, and through the binding, in turns, and the
 * difference of the decoding times, divided by the pieces handed over, is what a piece costs. A tiny model makes it
 * visible. The quickest of the rounds counts: whatever else the machine does only adds to them. `listener` is a
 * callback that does nothing, the FFI overhead alone; `flow` is what an app collects.
 *
 *     mvn test-compile exec:java@ffi-overhead -Dmodel=tiny.thimble
 */

private const val PROMPT = "hello"
private const val TOKENS = 200
private const val CONTEXT = 256
private const val ROUNDS = 25
private const val WARM_UP = 3
private const val MICROS = 1e6
private const val MILLIS = 1e3
private const val ALLOWED = 100.0

/** One way to make the text: decoding seconds and pieces handed over. */
private class Run(val text: String, val seconds: Double, val pieces: Int)

fun main(arguments: Array<String>) {
    val path = arguments.single()
    val runs = mutableMapOf<String, MutableList<Run>>()
    runBlocking {
        Model.open(path, ModelOptions(threads = 1u, context = CONTEXT.toUInt())).use { model ->
            ai.thimble.ffi.Model.open(path, ModelOptions(threads = 1u, context = CONTEXT.toUInt())).use { bare ->
                repeat(WARM_UP + ROUNDS) { round ->
                    val callers = mapOf("command" to command(path), "listener" to listener(bare), "flow" to flow(model))
                    check(callers.values.map { it.text }.toSet().size == 1) { "the texts differ" }
                    if (round >= WARM_UP) callers.forEach { (name, run) -> runs.getOrPut(name, ::mutableListOf) += run }
                }
            }
        }
    }
    val base = runs.getValue("command").minOf { it.seconds }
    println("$TOKENS tokens at most, $ROUNDS rounds, the quickest")
    println("command   decoding %.2f ms".format(base * MILLIS))
    var fine = true
    for (name in listOf("listener", "flow")) {
        val own = runs.getValue(name)
        val quickest = own.minOf { it.seconds }
        val pieces = own.first().pieces
        val micros = (quickest - base) / pieces * MICROS
        println("%-9s decoding %.2f ms, %d pieces, %.1f us a piece".format(name, quickest * MILLIS, pieces, micros))
        fine = fine && micros < ALLOWED
    }
    exitProcess(if (fine) 0 else 1)
}

private val options = CompletionOptions(maxTokens = TOKENS.toUInt(), sampling = Given.greedy)

private fun command(path: String): Run {
    val output = Given.thimble(
        "run", path, "--prompt", PROMPT, "--temperature", "0", "--max-tokens", "$TOKENS", "--context", "$CONTEXT",
        "--threads", "1", "--json",
    )
    val json = JSONObject(output)
    return Run(json.getString("text"), json.getJSONObject("stats").getDouble("decode_seconds"), 0)
}

private fun listener(model: ai.thimble.ffi.Model): Run {
    val ended = CompletableFuture<Reply>()
    var pieces = 0
    val deaf = object : Quiet() {
        override fun onPiece(text: String) {
            pieces++
        }

        override fun onEnd(reply: Reply) {
            ended.complete(reply)
        }
    }
    return model.complete(PROMPT, options, deaf).use { ended.get().let { Run(it.text, it.seconds, pieces) } }
}

private suspend fun flow(model: Model): Run = withContext(Dispatchers.Default) {
    var pieces = 0
    var end: Reply? = null
    model.complete(PROMPT, options).stream().collect { event ->
        when (event) {
            is Event.Piece -> pieces++
            is Event.End -> end = event.reply
            is Event.Reading, is Event.Reasoning, is Event.Call -> Unit
        }
    }
    checkNotNull(end).let { Run(it.text, it.seconds, pieces) }
}
