package ai.thimble.app.logic

import ai.thimble.KvCache
import ai.thimble.ffi.ApiException
import ai.thimble.app.FakeLibrary
import ai.thimble.app.FakeLibrary.Companion.END
import ai.thimble.app.FakeLibrary.Companion.FAIL
import ai.thimble.soon
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.delay
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.ByteArrayInputStream
import java.io.File
import java.io.InputStream

/** The app without its screens. */
class ChatViewModelTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val library = FakeLibrary()
    private val files: File get() = folder.root
    private val models: File get() = File(files, "models")

    @Before
    fun aModel() {
        models.mkdirs()
        File(models, "small.thimble").writeText("a model")
    }

    @Test
    fun `opens the model that is there and a new chat`() = run { app ->
        assertEquals("small", (app.state.value.model as ModelState.Ready).info.name)
        assertEquals("small.thimble", app.state.value.settings.model)
        assertEquals(emptyList<ShownMessage>(), app.state.value.messages)
    }

    @Test
    fun `an answer appears piece by piece`() = run { app ->
        assertFalse(app.send("   "))
        assertTrue(app.send("  Hi  "))
        assertFalse("one at a time", app.send("again"))
        assertEquals(listOf(ShownMessage(true, "Hi")), app.state.value.messages)
        assertEquals(50, app.until { it.answer?.reading != null }.answer?.reading)
        library.answer("Hel")
        assertEquals("Hel", app.until { it.answer?.text?.isNotEmpty() == true }.answer?.text)
        library.answer("lo", END)
        val state = app.until { it.answer == null }
        assertEquals(listOf(ShownMessage(true, "Hi"), ShownMessage(false, "Hello")), state.messages)
        assertEquals(2, state.figures?.tokens)
        assertEquals(20.0, state.figures!!.tokensPerSecond, 0.01)
        assertEquals(77L, state.figures.memoryBytes)
    }

    @Test
    fun `an answer stays while the conversation is read again`() = run { app ->
        app.send("Hi")
        library.answer("Hel", FakeLibrary.READ)
        val answer = app.until { it.answer?.reading == 25 }.answer
        assertEquals("Hel", answer?.text)
        library.answer("lo", END)
        assertEquals("Hello", app.until { it.answer == null }.messages.last().text)
    }

    @Test
    fun `instructions count until something was said`() = run { app ->
        app.changeSettings(app.state.value.settings.copy(system = "Answer in rhymes."))
        app.until { it.ready && library.chats.last().system == "Answer in rhymes." }
        app.say("Hi", "Hello")
        app.changeSettings(app.state.value.settings.copy(system = "Be brief."))
        app.until { it.ready && library.chats.last().options.system == "Be brief." }
        assertEquals("Answer in rhymes.", library.chats.last().system)
        assertEquals(2, app.state.value.messages.size)
    }

    @Test
    fun `stopping keeps what there is`() = run { app ->
        app.send("Hi")
        library.answer("Hel")
        app.until { it.answer?.text == "Hel" }
        app.stop()
        val state = app.until { it.answer == null }
        assertEquals("Hel", state.messages.last().text)
        assertTrue(state.canRetry)
        app.retry()
        assertEquals(1, app.state.value.messages.size)
        library.answer("Good day", END)
        assertEquals("Good day", app.until { it.answer == null }.messages.last().text)
    }

    @Test
    fun `a message that got no answer is a draft again`() = run { app ->
        app.send("much too long")
        library.answer(FAIL)
        val state = app.until { it.answer == null }
        assertEquals(Problem.TooLong, state.problem)
        assertEquals("much too long", state.unsent)
        assertEquals(emptyList<ShownMessage>(), state.messages)
        app.takeUnsent()
        app.dismiss()
        assertNull(app.state.value.problem)
    }

    @Test
    fun `chats are kept, opened again and deleted`() {
        var name = ""
        run { app ->
            app.say("First\nquestion", "First answer")
            name = app.state.value.chat!!
            app.newChat()
            app.until { it.chat != name && it.chat != null }
            app.newChat()
            app.say("Second", "Second answer")
            assertEquals(setOf("First\nquestion", "Second"), app.chats().map { it.title }.toSet())
            app.openChat(name)
            app.until { it.chat == name && it.messages.size == 2 }
        }
        // Another process finds the chat that was open.
        run { app ->
            assertEquals(name, app.state.value.chat)
            assertEquals("First answer", app.state.value.messages.last().text)
            app.deleteChat(name)
            app.until { it.chat != name && it.ready }
            assertEquals(listOf("Second"), app.chats().map { it.title })
            assertFalse(File(files, "chats/$name").exists())
        }
    }

    @Test
    fun `a chat that is left while it answers keeps what was shown`() = run { app ->
        app.send("Hi")
        library.answer("Hel")
        val name = app.until { it.answer?.text == "Hel" }.chat!!
        app.newChat()
        assertNull(app.until { it.chat != null && it.chat != name && it.ready }.unsent)
        app.openChat(name)
        assertEquals("Hel", app.until { it.chat == name }.messages.last().text)
    }

    @Test
    fun `a journal is opened only when the worker has left it`() = run { app ->
        app.send("Hi")
        library.answer("Hel")
        val name = app.until { it.answer?.text == "Hel" }.chat!!
        val leaving = Job().also { library.leaving = it }
        app.newChat()
        app.until { it.chat == null }
        app.openChat(name)
        delay(50)
        assertEquals(1, library.chats.size)
        assertFalse(app.state.value.ready)
        leaving.complete()
        assertEquals("Hel", app.until { it.chat == name && it.ready }.messages.last().text)
        // So does one that is deleted, whose memory the next one may need.
        library.leaving = Job()
        app.deleteChat(name)
        delay(50)
        assertFalse(app.state.value.ready)
        library.leaving?.also { library.leaving = null }?.cancel()
        assertTrue(app.until { it.ready }.messages.isEmpty())
        assertFalse(File(files, "chats/$name").exists())
    }

    @Test
    fun `a damaged journal is not called a damaged model`() = run { app ->
        val journal = File(files, "chats/1.chat").apply { writeText("{\"user\":\"Hi\"}\nnoise\n") }
        app.openChat("1.chat")
        val state = app.until { it.problem != null && it.ready }
        assertEquals(Problem.DamagedChat, state.problem)
        assertTrue("another chat takes its place", state.chat != "1.chat" && state.messages.isEmpty())
        assertEquals("{\"user\":\"Hi\"}\nnoise\n", journal.readText())
    }

    @Test
    fun `imports a model with progress`() = run { app ->
        val bytes = ByteArray(3_000_000) { 'm'.code.toByte() }
        assertTrue(app.importModel(Source("new/one.thimble", bytes.size.toLong()) { ByteArrayInputStream(bytes) }))
        val seen = app.until { it.importing == null || it.importing.done > 0 }
        assertTrue(seen.importing == null || seen.importing.percent!! > 0)
        val state = app.until { (it.model as? ModelState.Ready)?.info?.name == "new_one" && it.ready }
        assertNull(state.importing)
        assertEquals("new_one.thimble", state.settings.model)
        assertTrue(bytes.contentEquals(File(models, "new_one.thimble").readBytes()))
        assertEquals(listOf("new_one.thimble", "small.thimble"), app.models().map { it.name })
        app.deleteModel("new_one.thimble")
        app.until { (it.model as? ModelState.Ready)?.info?.name == "small" && it.ready }
    }

    @Test
    fun `a cancelled or broken import leaves nothing`() = run { app ->
        val endless = object : InputStream() {
            override fun read() = 1

            override fun read(buffer: ByteArray) = buffer.size.also { Thread.sleep(1) }

            override fun read(buffer: ByteArray, from: Int, length: Int) = length.also { Thread.sleep(1) }
        }
        app.importModel(Source("big.thimble", null) { endless })
        app.until { (it.importing?.done ?: 0) > 0 }
        assertFalse("one at a time", app.importModel(Source("x", 1) { endless }))
        app.cancelImport()
        assertNull(app.until { it.importing == null }.problem)
        assertEquals(listOf("small.thimble"), models.list()!!.toList())

        app.importModel(Source("bad.thimble", 6) { "broken".byteInputStream() })
        assertEquals(Problem.NotAModel, app.until { it.importing == null }.problem)
        app.importModel(Source("flipped.thimble", 7) { "flipped".byteInputStream() })
        assertEquals(Problem.Damaged, app.until { it.importing == null && it.problem != null }.problem)
        app.importModel(Source("huge.thimble", Long.MAX_VALUE) { endless })
        assertTrue(app.until { it.importing == null && it.problem != null }.problem is Problem.NoSpace)
        assertEquals(listOf("small.thimble"), models.list()!!.toList())
        assertTrue("the old model still answers", app.state.value.ready)
    }

    @Test
    fun `settings reach the library and the disk`() {
        run { app ->
            app.say("Hi", "Hello")
            val set = app.state.value.settings.copy(temperature = 1.2f, maxTokens = 64, system = " Be brief. ")
            app.changeSettings(set)
            app.until { it.ready && library.chats.last().options.maxTokens == 64u }
            assertEquals(1.2f, library.chats.last().options.sampling?.temperature)
            assertEquals("Be brief.", library.chats.last().options.system)
            assertEquals("the chat goes on", 2, app.state.value.messages.size)
            assertEquals(1, library.opened.size)
            app.changeSettings(set.copy(threads = 1, smallCache = true))
            app.until { library.opened.size == 2 && it.ready }
            assertEquals(1u, library.opened.last().second.threads)
            assertEquals(KvCache.Q8, library.opened.last().second.kvCache)
            assertEquals(1_000uL, library.opened.last().second.budgetBytes)
            app.changeSettings(app.state.value.settings.copy(saver = true))
            assertTrue(library.chats.last().saving)
        }
        run { app ->
            val kept = app.state.value.settings
            val expected = listOf(1.2f, 64, " Be brief. ", 1, true, true)
            val found = kept.run { listOf(temperature, maxTokens, system, threads, saver, smallCache) }
            assertEquals(expected, found)
            assertTrue(library.chats.last().saving)
        }
    }

    @Test
    fun `settings that change while it answers wait for the answer`() = run { app ->
        app.send("Hi")
        library.answer("Hel")
        app.until { it.answer?.text == "Hel" }
        app.changeSettings(app.state.value.settings.copy(temperature = 1.2f, saver = true))
        app.changeSettings(app.state.value.settings.copy(threads = 1))
        delay(50)
        assertEquals("Hel", app.state.value.answer?.text)
        assertEquals(listOf(1, 1), listOf(library.opened.size, library.chats.size))
        assertTrue("half the threads need no other chat", library.chats.last().saving)
        library.answer("lo", END)
        val state = app.until { library.opened.size == 2 && it.ready }
        assertEquals(listOf("Hi", "Hello"), state.messages.map { it.text })
        assertEquals(1u, library.opened.last().second.threads)
        library.chats.last().run { assertEquals(listOf(1.2f, true), listOf(options.sampling?.temperature, saving)) }
        assertEquals("opened once for both", 2, library.chats.size)
    }

    @Test
    fun `the next chat has settings that wait for an answer`() = run { app ->
        app.send("Hi")
        library.answer("Hel")
        val name = app.until { it.answer?.text == "Hel" }.chat!!
        app.changeSettings(app.state.value.settings.copy(maxTokens = 64))
        app.newChat()
        app.until { it.chat != name && it.ready }
        delay(50)
        assertEquals(listOf<UInt?>(512u, 64u), library.chats.map { it.options.maxTokens })
    }

    @Test
    fun `hints of the device reach the chat, and the next one`() = run { app ->
        app.savePower(true)
        app.pause()
        app.freeMemory()
        library.chats.last().run { assertEquals(listOf(true, true, 1), listOf(saving, paused, freed)) }
        app.openChat("1.chat")
        app.until { it.chat == "1.chat" }
        library.chats.last().run { assertEquals(listOf(true, true), listOf(saving, paused)) }
        app.resume()
        app.savePower(false)
        library.chats.last().run { assertEquals(listOf(false, false), listOf(saving, paused)) }
    }

    @Test
    fun `says what is wrong with a model`() {
        library.failure = ApiException.TooLarge(2_000u, 1_000u)
        run(ready = false) { app ->
            val state = app.until { it.model is ModelState.Failed }
            assertEquals(ModelState.Failed("small.thimble", Problem.TooLarge(2_000, 1_000)), state.model)
            assertFalse(state.ready)
        }
    }

    @Test
    fun `damaged settings and half a model are as none`() {
        File(files, "settings.properties").writeText("temperature=warm\nmaxTokens=-3\nthreads=\\u00zz")
        File(models, "half.thimble.part").writeText("ha")
        run { app ->
            assertEquals(Settings(model = "small.thimble", chat = app.state.value.chat!!), app.state.value.settings)
            assertFalse(File(models, "half.thimble.part").exists())
        }
    }

    private suspend fun ChatViewModel.say(question: String, answer: String) {
        assertTrue(send(question))
        library.answer(answer, END)
        until { it.answer == null && it.messages.lastOrNull()?.text == answer }
    }

    /** Looks again and again: a state that comes back to what it was is no new state to a collector. */
    private suspend fun ChatViewModel.until(condition: (ChatState) -> Boolean): ChatState {
        while (!condition(state.value)) delay(1)
        return state.value
    }

    private fun run(ready: Boolean = true, test: suspend (ChatViewModel) -> Unit) = soon {
        val job = Job(coroutineContext[Job])
        val device = Device(files, budget = { 1_000 }, memory = { 77 }, open = library::open)
        val app = ChatViewModel(device, CoroutineScope(coroutineContext + job))
        if (ready) app.until { it.ready }
        test(app)
        app.close()
        job.cancel()
    }
}
