package ai.thimble

import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
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
        val context = runBlocking { Model.open(model).use { it.info.context } }
        assumeTrue("skipped: a context of $context tokens forgets turns", context >= ROOMY)
        val seed = System.nanoTime()
        // Side by side: most of the time is the start of a JVM.
        val shown = (0 until JOURNALS).toList().parallelStream().mapToInt { number ->
            shownBy(model, number, Random(seed + number), "seed $seed, journal $number")
        }.sum()
        assertTrue("something was shown", shown > 0)
    }

    /** Kills processes that write the same journal one after the other; how many characters they showed. */
    private fun shownBy(model: String, number: Int, random: Random, where: String): Int {
        val journal = File(folder.root, "$number.chat")
        var shown = 0
        // What is on the screen when a process begins: messages and answers.
        var turns = emptyList<Pair<String, String>>()
        repeat(KILLS) { kill ->
            val mine = killed(model, journal, random)
            shown += mine.sumOf { it.second.length }
            val found = history(model, journal)
            var next = 0
            for (turn in turns + mine) {
                val other = found.getOrNull(next)
                // More may be on disk than was shown, never less.
                val kept = other?.first == turn.first && other.second.startsWith(turn.second)
                // Only a message of whose answer nothing was shown may be none.
                assertTrue("$where, kill $kill: $turn is lost; there is $found", kept || turn.second.isEmpty())
                if (kept) next++
            }
            assertEquals("$where, kill $kill: $found was never said", found.size, next)
            turns = found
        }
        return shown
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

    private fun history(model: String, journal: File): List<Pair<String, String>> = runBlocking {
        Model.open(model).use { opened ->
            opened.chat(Given.options(journal = journal)).use { chat ->
                chat.history.chunked(2) { (user, answer) -> user.text to answer.text }
            }
        }
    }

    private companion object {
        const val JOURNALS = 10
        const val KILLS = 2
        const val ROOMY = 1024u
        const val MOST_LINES = 30
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
