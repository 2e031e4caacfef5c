package ai.thimble

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.Assume.assumeTrue
import java.io.File
import java.util.concurrent.TimeUnit
import kotlin.time.Duration.Companion.minutes

/** What tests get from outside: a model that answers messages, and the command `thimble`. */
object Given {
    /** Skips the test where something is missing, or fails it where THIMBLE_REQUIRE has `model` among its names. */
    private fun needs(present: Boolean, missing: String) {
        val required = System.getenv("THIMBLE_REQUIRE").orEmpty().split(',').any { it == "model" || it == "all" }
        check(present || !required) { "THIMBLE_REQUIRE names model, but $missing" }
        val counted = System.getenv("THIMBLE_SKIPPED")
        if (!present && counted != null) {
            val test = Throwable().stackTrace.firstOrNull { it.className.endsWith("Test") }
            File(counted).appendText("model: ${test ?: "a JVM test"} ($missing)\n")
        }
        assumeTrue("$missing: skipped", present)
    }

    /** The model's file; see [needs]. */
    val model: String
        get() {
            val path = System.getenv("THIMBLE_MODEL").orEmpty()
            needs(File(path).isFile, "THIMBLE_MODEL names no file")
            return path
        }

    /** The same, likeliest tokens each time. */
    val greedy = Sampling(temperature = 0f, topP = null, repetitionPenalty = 1f)

    /** Options for short greedy answers. */
    fun options(tokens: Int = 24, journal: File? = null, system: String? = null) =
        ChatOptions(system = system, sampling = greedy, maxTokens = tokens.toUInt(), journal = journal?.path)

    /** The output of `thimble` with these arguments; see [needs]. */
    fun thimble(vararg arguments: String): String {
        val command = System.getenv("THIMBLE").orEmpty()
        needs(File(command).canExecute(), "THIMBLE names no file")
        val process = ProcessBuilder(command, *arguments).redirectError(ProcessBuilder.Redirect.DISCARD).start()
        val output = process.inputStream.bufferedReader().readText()
        check(process.waitFor(1, TimeUnit.MINUTES) && process.exitValue() == 0) { "$command failed" }
        return output
    }
}

/** Runs a test that may wait, but not for ever. */
fun soon(test: suspend CoroutineScope.() -> Unit) = runBlocking { withTimeout(2.minutes) { test() } }

/** Runs a test with a chat. */
fun chat(tokens: Int = 24, test: suspend CoroutineScope.(Chat) -> Unit) = soon {
    Model.open(Given.model).use { model -> model.chat(Given.options(tokens)).use { test(it) } }
}

suspend fun Flow<String>.text(): String = toList().joinToString("")

const val HELLO = "What is the capital of France?"
const val LONG = "Tell me a long story about a lighthouse."
