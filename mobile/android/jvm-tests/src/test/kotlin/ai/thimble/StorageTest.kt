package ai.thimble

import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.collect
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File

/** What outlives a chat: saved conversations, journals, keys and values. */
class StorageTest {
    @get:Rule
    val folder = TemporaryFolder()

    @Test
    fun `a saved chat goes on where it was`() = soon {
        val file = File(folder.root, "chat.json")
        Model.open(Given.model).use { model ->
            val (history, next) = model.chat(Given.options(system = "Be brief.")).use { chat ->
                chat.send(HELLO).collect()
                chat.save(file.path)
                chat.history to chat.send("And then?").text()
            }
            model.chat(Given.options()).use { chat ->
                chat.restore(file.path)
                assertEquals(history, chat.history)
                assertEquals(next, chat.send("And then?").text())
                chat.clear()
                assertEquals(emptyList<Message>(), chat.history)
            }
        }
    }

    @Test
    fun `a journal goes on where it was`() = soon {
        val journal = File(folder.root, "journal.chat")
        Model.open(Given.model).use { model ->
            val first = model.chat(Given.options(journal = journal)).use { it.send(HELLO).text() }
            model.chat(Given.options(journal = journal)).use { chat ->
                assertEquals(listOf(Message(true, HELLO), Message(false, first)), chat.history)
                assertNull(chat.unanswered)
                val again = chat.retry().pieces().text()
                assertEquals(first, again)
                assertEquals(2, chat.history.size)
            }
        }
    }

    @Test
    fun `keys and values go on in another chat`() = soon {
        val (journal, kept) = listOf("journal.chat", "open.kv").map { File(folder.root, it) }
        val options = Given.options(60, journal).copy(kvFile = kept.path)
        Model.open(Given.model).use { model ->
            model.chat(options).use { chat ->
                chat.send(LONG).collect()
                chat.pause()
                while (!kept.exists()) delay(5)
                chat.closeAndJoin()
            }
            model.chat(options).use { chat ->
                val end = chat.stream(HELLO).toList().last() as Event.End
                assertTrue("${end.reply}", end.reply.reusedTokens >= 64u)
            }
        }
    }

    @Test
    fun `the journal is whole once the worker was waited for`() = soon {
        val journal = File(folder.root, "journal.chat")
        Model.open(Given.model).use { model ->
            repeat(3) { round ->
                val chat = model.chat(Given.options(200, journal))
                val shown = StringBuilder()
                val began = CompletableDeferred<Unit>()
                val answer = launch(Dispatchers.Default) {
                    chat.send(LONG).collect {
                        shown.append(it)
                        began.complete(Unit)
                    }
                }
                began.await()
                chat.closeAndJoin()
                val bytes = journal.readBytes()
                answer.join()
                val last = bytes.decodeToString().lines().last { it.isNotEmpty() }
                assertTrue("round $round: $last", last.startsWith("{\"end\""))
                model.chat(Given.options(200, journal)).use { next ->
                    assertEquals(2 * (round + 1), next.history.size)
                    assertTrue(next.history.last().text.startsWith(shown))
                }
                assertTrue("round $round: written afterwards", bytes.contentEquals(journal.readBytes()))
            }
        }
    }
}
