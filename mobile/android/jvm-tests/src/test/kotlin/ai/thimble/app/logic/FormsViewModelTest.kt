package ai.thimble.app.logic

import ai.thimble.ChatOptions
import ai.thimble.ModelOptions
import ai.thimble.app.FakeLibrary
import ai.thimble.app.FakeLibrary.Companion.END
import ai.thimble.ffi.AnswerFormat
import ai.thimble.soon
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.flow.first
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Forms that a scripted model fills in. */
class FormsViewModelTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val library = FakeLibrary()

    @Test
    fun `a form is filled in from a text, by its schema`() = run { forms ->
        forms.fill("   ")
        assertFalse("nothing to read", forms.state.value.working)
        forms.fill("Lunch with Ann on Friday")
        assertTrue(forms.state.value.working)
        library.answer("""{"title":"Lunch with Ann",""", """"date":"Friday","time":null,"place":null}""", END)
        val state = forms.state.first { !it.working }
        assertEquals(EventForm("Lunch with Ann", "Friday", null, null), state.form)
        val (text, options) = library.asked.single()
        assertTrue(text, "Lunch with Ann on Friday" in text)
        val schema = JSONObject((options.format as AnswerFormat.JsonSchema).schema)
        assertEquals(setOf("title", "date", "time", "place"), schema.getJSONObject("properties").keySet())
        assertTrue("its chat is closed", library.chats.single().closed)
        assertNull("nothing of it is kept", library.chats.single().options.journal)
    }

    @Test
    fun `another kind of form`() = run { forms ->
        forms.choose(FormKind.CONTACT)
        forms.fill("Ann Lee, 555-0100")
        library.answer("""{"name":"Ann Lee","phone":"555-0100","email":null,"company":null}""", END)
        assertEquals(ContactForm("Ann Lee", "555-0100", null, null), forms.state.first { !it.working }.form)
        forms.choose(FormKind.EVENT)
        assertEquals(FormsState(FormKind.EVENT), forms.state.value)
    }

    @Test
    fun `stopping, and a model that fails`() = run { forms ->
        forms.fill("Lunch")
        library.answer("""{"title":"Lu""")
        forms.stop()
        forms.state.first { !it.working }
        assertNull(forms.state.value.form)
        assertNull(forms.state.value.problem)
        library.script.tryReceive()
        forms.fill("Lunch")
        library.answer(FakeLibrary.FAIL)
        assertEquals(Problem.TooLong, forms.state.first { !it.working }.problem)
        forms.dismiss()
        assertNull(forms.state.value.problem)
    }

    @Test
    fun `an answer that is cut off, and no model`() = run { forms ->
        forms.fill("Lunch")
        library.chats.first().cancel()
        assertEquals(Problem.NotFilled, forms.state.first { !it.working }.problem)
        val none = FormsViewModel({ null }, this)
        none.fill("Lunch")
        assertEquals(Problem.NoModel, none.state.first { !it.working }.problem)
    }

    private fun run(test: suspend CoroutineScope.(FormsViewModel) -> Unit) = soon {
        val file = folder.newFile("small.thimble").apply { writeText("a model") }
        val model = library.open(file.path, ModelOptions())
        val begin: suspend (ChatOptions) -> ai.thimble.Chat? = { model.chat(it) }
        // As on the main thread: what is begun runs at once until it waits.
        val scope = CoroutineScope(coroutineContext + kotlinx.coroutines.Dispatchers.Unconfined)
        test(scope, FormsViewModel(begin, scope))
    }
}
