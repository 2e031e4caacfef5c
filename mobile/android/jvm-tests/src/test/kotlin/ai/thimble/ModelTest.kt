package ai.thimble

import ai.thimble.ffi.ApiException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.async
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.collect
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File

/** Models, and texts that they continue. */
class ModelTest {
    @get:Rule
    val folder = TemporaryFolder()

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
}
