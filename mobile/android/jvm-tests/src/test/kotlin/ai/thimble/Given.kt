package ai.thimble

import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.Assume.assumeTrue
import java.io.File
import java.util.concurrent.TimeUnit
import kotlin.time.Duration.Companion.minutes

/** What tests get from outside: a model that answers messages, and the command `thimble`. */
object Given {
    /** The model's file; tests that need it are skipped without. */
    val model: String
        get() {
            val path = System.getenv("THIMBLE_MODEL").orEmpty()
            assumeTrue("THIMBLE_MODEL names no file: skipped", File(path).isFile)
            return path
        }

    /** The same, likeliest tokens each time. */
    val greedy = Sampling(temperature = 0f, topP = null, repetitionPenalty = 1f)

    /** Options for short greedy answers. */
    fun options(tokens: Int = 24, journal: File? = null, system: String? = null) =
        ChatOptions(system = system, sampling = greedy, maxTokens = tokens.toUInt(), journal = journal?.path)

    /** The output of `thimble` with these arguments; skips the test where the command is not there. */
    fun thimble(vararg arguments: String): String {
        val command = System.getenv("THIMBLE").orEmpty()
        assumeTrue("THIMBLE names no file: skipped", File(command).canExecute())
        val process = ProcessBuilder(command, *arguments).redirectError(ProcessBuilder.Redirect.DISCARD).start()
        val output = process.inputStream.bufferedReader().readText()
        check(process.waitFor(1, TimeUnit.MINUTES) && process.exitValue() == 0) { "$command failed" }
        return output
    }
}

/** Runs a test that may wait, but not for ever. */
fun soon(test: suspend kotlinx.coroutines.CoroutineScope.() -> Unit) = runBlocking { withTimeout(2.minutes) { test() } }
