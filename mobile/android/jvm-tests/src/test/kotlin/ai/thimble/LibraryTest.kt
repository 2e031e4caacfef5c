package ai.thimble

import ai.thimble.ffi.ApiException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.collect
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.yield
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import java.io.IOException

/** The Kotlin layer on the real engine. */
class LibraryTest {
    @get:Rule
    val folder = TemporaryFolder()

    @Test
    fun `says what the command says`() = soon {
        Model.open(Given.model).use { model ->
            val expected = Given.thimble(
                "run", Given.model, "--chat", "--prompt", HELLO, "--temperature", "0", "--repetition-penalty", "1",
                "--max-tokens", "24", "--context", "${model.info.context}",
            )
            model.chat(Given.options()).use { chat ->
                assertEquals(expected.trim(), chat.send(HELLO).text().trim())
            }
        }
    }

    @Test
    fun `continues a text as the command does`() = soon {
        val expected = Given.thimble(
            "run", Given.model, "--prompt", "Once upon a time", "--temperature", "0", "--repetition-penalty", "1",
            "--max-tokens", "24",
        )
        Model.open(Given.model).use { model ->
            val options = CompletionOptions(maxTokens = 24u, sampling = Given.greedy)
            assertEquals(expected.trim(), model.complete("Once upon a time", options).text().text().trim())
        }
    }

    @Test
    fun `a continuation waits, works with half the threads, and is stopped`() = soon {
        Model.open(Given.model).use { model ->
            val options = CompletionOptions(maxTokens = 24u, sampling = Given.greedy)
            val expected = model.complete("Once upon a time", options).text().text()
            val completion = model.complete("Once upon a time", options)
            completion.savePower(true)
            val pieces = mutableListOf<String>()
            val gone = CompletableDeferred<Unit>()
            val work = launch {
                completion.text().collect {
                    pieces += it
                    if (pieces.size == 3) {
                        completion.pause()
                        gone.complete(Unit)
                    }
                }
            }
            gone.await()
            delay(100)
            val held = pieces.size
            delay(300)
            assertTrue("it goes on in a pause", work.isActive && pieces.size == held)
            completion.resume()
            work.join()
            assertEquals(expected, pieces.joinToString(""))

            // A pause from before it is collected; stopping ends it.
            completion.pause()
            val end = async { completion.stream().toList().last() }
            delay(100)
            assertTrue(end.isActive)
            completion.cancel()
            assertEquals(Finish.CANCELLED, (end.await() as Event.End).reply.finish)
        }
    }

    @Test
    fun `pieces come in order and end once`() = chat { chat ->
        val events = chat.stream(HELLO).toList()
        val reply = (events.last() as Event.End).reply
        assertEquals(1, events.count { it is Event.End })
        assertTrue(events.size > 5)
        assertEquals(reply.text, events.filterIsInstance<Event.Piece>().joinToString("") { it.text })
        assertEquals(reply, chat.reply)
        assertEquals(listOf(Message(true, HELLO), Message(false, reply.text)), chat.history)
        assertEquals(reply.tokens, chat.stats.tokens)
    }

    @Test
    fun `a flow is cold`() = chat { chat ->
        val flow = chat.send(HELLO)
        delay(50)
        assertEquals(emptyList<Message>(), chat.history)
        flow.collect()
        flow.collect()
        assertEquals(4, chat.history.size)
    }

    @Test
    fun `cancel stops before the next piece`() = soon {
        // On the engine's own thread, where no piece can be under way.
        val ended = CompletableDeferred<Reply>()
        var pieces = 0
        ai.thimble.ffi.Model.open(Given.model, ModelOptions()).use { model ->
            ai.thimble.ffi.Chat(model, Given.options(200)).use { chat ->
                chat.send(
                    LONG,
                    object : Quiet() {
                        override fun onPiece(text: String) {
                            if (++pieces == 3) chat.cancel()
                        }

                        override fun onEnd(reply: Reply) {
                            ended.complete(reply)
                        }
                    },
                )
                assertEquals(Finish.CANCELLED, ended.await().finish)
                assertEquals(3, pieces)
            }
        }
    }

    @Test
    fun `a cancelled collection stops the answer and nothing else`() = chat(200) { chat ->
        val some = chat.send(LONG).take(3).toList().joinToString("")
        // The next one is answered only after the engine has left this one.
        val next = chat.send(HELLO).text()
        assertTrue(next.isNotEmpty())
        val first = chat.history[1].text
        assertTrue("$first begins with $some", first.startsWith(some))
        assertTrue(first.length < some.length + 60)
    }

    @Test
    fun `an answer is collected within another`() = chat(40) { chat ->
        var inner = ""
        var pieces = 0
        val outer = StringBuilder()
        chat.send(LONG).collect {
            outer.append(it)
            if (++pieces == 3) inner = chat.send(HELLO).text()
        }
        assertTrue(inner.isNotEmpty())
        assertEquals(listOf(LONG, outer.toString(), HELLO, inner), chat.history.map { it.text })
    }

    @Test
    fun `leaving an answer that waits stops no other`() = chat(40) { chat ->
        val began = CompletableDeferred<Unit>()
        val first = async { chat.stream(LONG).onEach { began.complete(Unit) }.toList().last() as Event.End }
        began.await()
        val second = launch { chat.send(HELLO).collect() }
        yield()
        second.cancelAndJoin()
        assertEquals(Finish.LENGTH, first.await().reply.finish)
    }

    @Test
    fun `leaving a paused answer ends it, and no other`() = chat(40) { chat ->
        val began = CompletableDeferred<Unit>()
        val left = launch { chat.send(LONG).collect { began.complete(Unit) } }
        began.await()
        chat.pause()
        val next = async { chat.stream(HELLO).toList().last() as Event.End }
        left.cancelAndJoin()
        // In the pause still.
        while (chat.history.isEmpty()) delay(1)
        assertTrue(next.isActive)
        chat.resume()
        assertTrue(next.await().reply.finish != Finish.CANCELLED)
        assertEquals(listOf(LONG, HELLO), chat.history.filter { it.fromUser }.map { it.text })
    }

    @Test
    fun `cancel stops answers that wait, too`() = chat(400) { chat ->
        val began = CompletableDeferred<Unit>()
        val first = async { chat.stream(LONG).onEach { began.complete(Unit) }.toList().last() as Event.End }
        began.await()
        val second = async { chat.stream(HELLO).toList().last() as Event.End }
        yield()
        chat.cancel()
        assertEquals(List(2) { Finish.CANCELLED }, listOf(first, second).map { it.await().reply.finish })
    }

    @Test
    fun `stop ends the flow`() = chat(400) { chat ->
        var pieces = 0
        chat.send(LONG).collect { if (++pieces == 3) chat.cancel() }
        assertEquals(Finish.CANCELLED, chat.reply?.finish)
        assertEquals(chat.reply?.text, chat.history.last().text)
    }

    @Test
    fun `a collector that throws stops the answer and nothing else`() = chat(200) { chat ->
        val thrown = runCatching { chat.send(LONG).collect { throw IOException("mine") } }.exceptionOrNull()
        assertEquals("mine", thrown?.message)
        assertTrue(chat.send(HELLO).text().isNotEmpty())
        assertEquals(4, chat.history.size)
    }

    @Test
    fun `a listener that throws stops the answer and nothing else`() = soon {
        ai.thimble.ffi.Model.open(Given.model, ModelOptions()).use { model ->
            ai.thimble.ffi.Chat(model, Given.options(200)).use { chat ->
                for (message in listOf(LONG, HELLO)) {
                    val ended = CompletableDeferred<Reply>()
                    var pieces = 0
                    chat.send(
                        message,
                        object : Quiet() {
                            override fun onPiece(text: String) {
                                if (++pieces == 2) error("not today")
                            }

                            override fun onEnd(reply: Reply) {
                                ended.complete(reply)
                                error("nor then")
                            }
                        },
                    )
                    assertEquals(Finish.CANCELLED, ended.await().finish)
                    assertEquals(2, pieces)
                }
            }
        }
    }

    @Test
    fun `two chats at once say what one says alone`() = soon {
        Model.open(Given.model).use { model ->
            val alone = model.chat(Given.options()).use { it.send(HELLO).text() }
            val both = List(2) {
                async(Dispatchers.Default) { model.chat(Given.options()).use { it.send(HELLO).text() } }
            }
            assertEquals(listOf(alone, alone), both.awaitAll())
        }
    }

    @Test
    fun `a chat may be closed while it answers`() = soon {
        Model.open(Given.model).use { model ->
            repeat(5) { round ->
                val chat = model.chat(Given.options(200))
                val began = CompletableDeferred<Unit>()
                val answer = launch(Dispatchers.Default) {
                    // The first round may close it before it is asked.
                    runCatching { chat.send(LONG).collect { began.complete(Unit) } }
                        .onFailure { assertTrue("$it", round == 0 && it is IllegalStateException) }
                }
                if (round > 0) began.await()
                chat.close()
                answer.join()
                answer.cancel()
            }
        }
    }

    @Test
    fun `a model may be closed before its chats`() = soon {
        val model = Model.open(Given.model)
        val chat = model.chat(Given.options())
        model.close()
        assertTrue(chat.send(HELLO).text().isNotEmpty())
        chat.close()
        val closed = runCatching { chat.send(HELLO).collect() }.exceptionOrNull()
        assertTrue("$closed", closed is IllegalStateException)
    }

    @Test
    fun `what does not fit the budget is refused with the figures`() = soon {
        val refused = runCatching { Model.open(Given.model, ModelOptions(budgetBytes = 1_000u)) }.exceptionOrNull()
        val error = refused as ApiException.TooLarge
        assertEquals(1_000uL, error.budget)
        assertTrue(error.needed >= File(Given.model).length().toULong())
        Model.open(Given.model, ModelOptions(budgetBytes = error.needed)).close()
    }

    @Test
    fun `files that are no models`() = soon {
        assertThrows(ApiException.NotFound::class.java) { open(File(folder.root, "none.thimble")) }
        val text = folder.newFile().apply { writeText("This is not a model. ".repeat(100)) }
        assertThrows(ApiException.NotAModel::class.java) { open(text) }
        val bytes = File(Given.model).readBytes()
        val cut = folder.newFile().apply { writeBytes(bytes.copyOf(bytes.size / 2)) }
        assertThrows(ApiException.Damaged::class.java) { open(cut) }
        bytes[bytes.size - 1000] = (bytes[bytes.size - 1000] + 1).toByte()
        val flipped = folder.newFile().apply { writeBytes(bytes) }
        Model.open(flipped.path).use { model ->
            val damage = runCatching { model.verify() }.exceptionOrNull()
            assertTrue("$damage", damage is ApiException.Damaged)
        }
    }

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
    fun `the journal is whole when the engine was waited for`() = soon {
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

    @Test
    fun `pause, thrift and freed memory change no answer`() = chat { chat ->
        val expected = chat.send(HELLO).text()
        chat.clear()
        chat.savePower(true)
        chat.freeMemory()
        chat.pause()
        val answer = async { chat.send(HELLO).text() }
        delay(100)
        assertTrue(answer.isActive)
        chat.resume()
        assertEquals(expected, answer.await())
    }

    @Test
    fun `memory freed in a pause changes no answer`() = chat(40) { chat ->
        val expected = chat.send(LONG).text()
        chat.clear()
        val began = CompletableDeferred<Unit>()
        val answer = async { chat.send(LONG).onEach { began.complete(Unit) }.text() }
        began.await()
        chat.pause()
        chat.freeMemory()
        delay(100)
        assertTrue(answer.isActive)
        chat.resume()
        assertEquals(expected, answer.await())
    }

    @Test
    fun `a message longer than the context`() = soon {
        Model.open(Given.model, ModelOptions(context = 128u)).use { model ->
            model.chat(Given.options()).use { chat ->
                val error = runCatching { chat.send("word ".repeat(1000)).collect() }.exceptionOrNull()
                assertTrue("$error", error is ApiException.ContextFull)
                assertEquals(emptyList<Message>(), chat.history)
                assertTrue(chat.send(HELLO).text().isNotEmpty())
            }
        }
    }

    @Test
    fun `tells about the model and its tokens`() = soon {
        Model.open(Given.model, ModelOptions(threads = 1u, context = 256u)).use { model ->
            assertEquals(File(Given.model).length().toULong(), model.info.fileBytes)
            assertEquals(256u, model.info.context)
            assertEquals(1u, model.info.threads)
            assertTrue(model.info.answersMessages)
            assertTrue(model.tokens("Hello there").size in 1..11)
        }
    }

    private fun open(file: File) = soon { Model.open(file.path).close() }

    private fun chat(tokens: Int = 24, test: suspend kotlinx.coroutines.CoroutineScope.(Chat) -> Unit) = soon {
        Model.open(Given.model).use { model -> model.chat(Given.options(tokens)).use { test(it) } }
    }

    private companion object {
        const val HELLO = "What is the capital of France?"
        const val LONG = "Tell me a long story about a lighthouse."
    }
}

private suspend fun kotlinx.coroutines.flow.Flow<String>.text(): String = toList().joinToString("")

/** Hears everything and does nothing. */
abstract class Quiet : ai.thimble.ffi.Listener {
    override fun onPiece(text: String) = Unit

    override fun onProgress(done: UInt, of: UInt) = Unit

    override fun onEnd(reply: Reply) = Unit

    override fun onError(error: ApiException) = Unit
}
