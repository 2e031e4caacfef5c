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
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.IOException

/** Answers of the Kotlin library with the real native library. */
class LibraryTest {
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
        // On the worker's own thread, where no piece can be in flight.
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
        // The next one is answered only after the worker has left this one.
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
}

/** Ignores everything. */
abstract class Quiet : ai.thimble.ffi.Listener {
    override fun onPiece(text: String) = Unit

    override fun onReasoning(text: String) = Unit

    override fun onProgress(done: UInt, of: UInt) = Unit

    override fun onEnd(reply: Reply) = Unit

    override fun onError(error: ApiException) = Unit
}
