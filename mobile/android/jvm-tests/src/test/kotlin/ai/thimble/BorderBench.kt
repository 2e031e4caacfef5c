package ai.thimble

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import org.json.JSONObject
import java.util.concurrent.CompletableFuture
import kotlin.system.exitProcess

/*
 * Claim: handing a token across the border into Kotlin costs less than 5% of its time at 500 tokens a second, 100 us.
 *
 * The engine's own clock runs while a listener is called, because the next token waits for it. So the same greedy text
 * is made on one thread by `thimble run`, which hands it to nobody, and through the binding, in turns, and the
 * difference of the decoding times, divided by the pieces handed over, is what a piece costs. A tiny model makes it
 * visible. `listener` is a callback that does nothing, the border itself; `flow` is what an app collects.
 *
 *     mvn test-compile exec:java@border -Dmodel=tiny.thimble
 */

private const val PROMPT = "hello"
private const val TOKENS = 400
private const val CONTEXT = 512
private const val ROUNDS = 15
private const val WARM_UP = 3
private const val MICROS = 1e6
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
                    val ways = mapOf("command" to command(path), "listener" to listener(bare), "flow" to flow(model))
                    check(ways.values.map { it.text }.toSet().size == 1) { "the texts differ" }
                    if (round >= WARM_UP) ways.forEach { (name, run) -> runs.getOrPut(name, ::mutableListOf) += run }
                }
            }
        }
    }
    val base = runs.getValue("command").map { it.seconds }.median()
    println("$TOKENS tokens at most, $ROUNDS rounds, medians")
    println("command   decoding ${"%.2f".format(base * 1e3)} ms")
    var fine = true
    for (name in listOf("listener", "flow")) {
        val own = runs.getValue(name)
        val micros = (own.map { it.seconds }.median() - base) / own.first().pieces * MICROS
        println("$name  decoding ${"%.2f".format(own.map { it.seconds }.median() * 1e3)} ms, ${own.first().pieces} pieces, ${"%.1f".format(micros)} us a piece")
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
    model.complete(PROMPT, options).collect { event ->
        when (event) {
            is Event.Piece -> pieces++
            is Event.End -> end = event.reply
            is Event.Reading -> Unit
        }
    }
    checkNotNull(end).let { Run(it.text, it.seconds, pieces) }
}

private fun List<Double>.median(): Double = sorted()[size / 2]
