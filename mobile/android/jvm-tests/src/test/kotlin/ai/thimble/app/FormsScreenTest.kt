package ai.thimble.app

import ai.thimble.app.FakeLibrary.Companion.END
import ai.thimble.app.logic.ModelState
import android.content.Intent
import android.provider.CalendarContract
import android.provider.ContactsContract
import android.view.View
import android.widget.EditText
import android.widget.RadioButton
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** A form is filled in from a text, corrected, and handed to another app. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = FakeApp::class, qualifiers = PHONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class FormsScreenTest {
    private val app get() = RuntimeEnvironment.getApplication() as FakeApp

    @After
    fun close() {
        app.viewModel.close()
        FakeApp.empty = false
    }

    @Test
    fun `an event goes to the calendar as it was corrected`() {
        val chat = Robolectric.buildActivity(ChatActivity::class.java).setup()
        app.until { it.ready }
        chat.find<View>(R.id.open_forms).performClick()
        assertEquals(FormsActivity::class.java.name, shadowOf(chat.get()).nextStartedActivity.component?.className)
        val screen = Robolectric.buildActivity(FormsActivity::class.java).setup()
        settle()
        screen.find<EditText>(R.id.form_text).setText(EVENT_TEXT)
        screen.find<View>(R.id.form_fill).performClick()
        settle()
        assertFalse("one at a time", screen.find<View>(R.id.form_fill).isEnabled)
        app.library.answer(EVENT_FORM, END)
        screen.await("Add to calendar")
        assertEquals(emptyList<String>(), unreachable(screen.root))
        screen.field("Lunch with Ann").setText("Lunch with Ann Lee")
        screen.find<View>(R.id.form_save).performClick()
        val intent = shadowOf(screen.get()).nextStartedActivity
        assertEquals(Intent.ACTION_INSERT, intent.action)
        assertEquals("Lunch with Ann Lee", intent.getStringExtra(CalendarContract.Events.TITLE))
        assertEquals("Café Nord", intent.getStringExtra(CalendarContract.Events.EVENT_LOCATION))
        assertEquals("Friday half past twelve", intent.getStringExtra(CalendarContract.Events.DESCRIPTION))
        assertTrue("the conversation is as it was", app.viewModel.state.value.messages.isEmpty())
    }

    @Test
    fun `a shared text, a contact, what the text does not say`() {
        Robolectric.buildActivity(ChatActivity::class.java).setup()
        app.until { it.ready }
        val shared = Intent(Intent.ACTION_SEND).putExtra(Intent.EXTRA_TEXT, "Ann Lee, 555-0100")
        val screen = Robolectric.buildActivity(FormsActivity::class.java, shared).setup()
        settle()
        assertEquals("Ann Lee, 555-0100", screen.find<EditText>(R.id.form_text).text.toString())
        screen.find<RadioButton>(R.id.form_contact).performClick()
        screen.find<View>(R.id.form_fill).performClick()
        settle()
        app.library.answer("""{"name":"Ann Lee","phone":"555-0100","email":null,"company":null}""", END)
        screen.await("Add to contacts")
        screen.find<View>(R.id.form_save).performClick()
        val intent = shadowOf(screen.get()).nextStartedActivity
        assertEquals("555-0100", intent.getStringExtra(ContactsContract.Intents.Insert.PHONE))
        assertEquals("", intent.getStringExtra(ContactsContract.Intents.Insert.EMAIL))
        // Another form begins empty.
        screen.find<RadioButton>(R.id.form_event).performClick()
        settle()
        assertFalse(screen.sees("Ann Lee\n") || screen.find<View>(R.id.form_save).isShown)
    }

    @Test
    fun `without a model it says so`() {
        FakeApp.empty = true
        val screen = Robolectric.buildActivity(FormsActivity::class.java).setup()
        app.until { it.model is ModelState.None }
        screen.find<EditText>(R.id.form_text).setText("Lunch")
        screen.find<View>(R.id.form_fill).performClick()
        screen.await("Choose a model first.")
    }

    private fun ActivityController<*>.field(text: String): EditText =
        views(root).filterIsInstance<EditText>().first { it.text.toString() == text }
}

internal const val EVENT_TEXT = "Hi! Lunch on Friday at half past twelve, at Café Nord? Ann"
internal const val EVENT_FORM =
    """{"title":"Lunch with Ann","date":"Friday","time":"half past twelve","place":"Café Nord"}"""
