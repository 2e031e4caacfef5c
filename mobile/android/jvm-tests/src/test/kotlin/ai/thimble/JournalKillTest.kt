package ai.thimble

import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import java.net.URLDecoder
import java.net.URLEncoder
import kotlin.random.Random

/** A process that is killed at any moment loses nothing that it has shown. */
class JournalKillTest {
    @get:Rule
    val folder = TemporaryFolder()

    @Test
    fun `nothing that was shown is lost`() {
        val model = Given.model
        val seed = System.nanoTime()
        val random = Random(seed)
        var shown = 0
        repeat(JOURNALS) { number ->
            val journal = File(folder.root, "$number.chat")
            // Turns as they were on the screen: message to answer.
            val turns = mutableListOf<Pair<String, String>>()
            repeat(KILLS) { kill ->
                val before = turns.size
                turns += killed(model, journal, random)
                shown += turns.drop(before).sumOf { it.second.length }
                val history = soonHistory(model, journal)
                val where = "seed $seed, journal $number, kill $kill"
                assertEquals(where, turns.filter { it.second.isNotEmpty() }.size, history.size)
                turns.filter { it.second.isNotEmpty() }.zip(history).forEach { (expected, found) ->
                    assertEquals(where, expected.first, found.first)
                    // More may be on disk than was shown, never less.
                    assertTrue("$where: $found lost some of $expected", found.second.startsWith(expected.second))
                }
                // The next process shows what is on disk.
                turns.clear()
                turns += history
            }
        }
        assertTrue("something was shown", shown > 0)
    }

    /** What a process showed until it was killed. */
    private fun killed(model: String, journal: File, random: Random): List<Pair<String, String>> {
        val java = File(System.getProperty("java.home"), "bin/java").path
        val process = ProcessBuilder(
            java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"),
            "-D$OVERRIDE=${System.getProperty(OVERRIDE)}", "ai.thimble.JournalKillTestKt", model, journal.path,
        ).redirectError(ProcessBuilder.Redirect.INHERIT).start()
        val turns = mutableListOf<Pair<String, String>>()
        val lines = process.inputStream.bufferedReader()
        var left = random.nextInt(1, MOST_LINES)
        while (true) {
            val line = lines.readLine() ?: break
            val text = URLDecoder.decode(line.drop(1), Charsets.UTF_8)
            if (line[0] == 'U') turns += text to ""
            if (line[0] == 'P') turns += turns.removeLast().let { it.first to it.second + text }
            if (--left == 0) {
                Thread.sleep(random.nextLong(MOST_MILLIS))
                // SIGKILL, which no process can catch. The handle leaves the pipe open: what was shown is read to its end.
                process.toHandle().destroyForcibly()
            }
        }
        assertEquals("killed by signal 9", KILLED, process.waitFor())
        return turns
    }

    private fun soonHistory(model: String, journal: File): List<Pair<String, String>> = runBlocking {
        Model.open(model).use { opened ->
            opened.chat(Given.options(journal = journal)).use { chat ->
                chat.history.chunked(2) { (user, answer) -> user.text to answer.text }
            }
        }
    }

    private companion object {
        const val JOURNALS = 4
        const val KILLS = 5
        const val MOST_LINES = 40
        const val MOST_MILLIS = 100L
        const val KILLED = 128 + 9
        const val OVERRIDE = "uniffi.component.thimble_ffi.libraryOverride"
    }
}

/** The process that is killed: chats without an end, and shows everything on its standard output at once. */
fun main(arguments: Array<String>) = runBlocking {
    val (path, journal) = arguments

    fun show(kind: Char, text: String) {
        System.out.write("$kind${URLEncoder.encode(text, Charsets.UTF_8)}\n".toByteArray())
        System.out.flush()
    }
    Model.open(path, ModelOptions(threads = 1u)).use { model ->
        val options = ChatOptions(sampling = Given.greedy, maxTokens = 16u, journal = journal)
        model.chat(options).use { chat ->
            for (turn in chat.history.size..Int.MAX_VALUE) {
                val message = "Tell me about the number $turn."
                show('U', message)
                chat.send(message).collect { show('P', it) }
            }
        }
    }
}
