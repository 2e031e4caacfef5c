package ai.thimble.app

import ai.thimble.app.FakeLibrary.Companion.END
import ai.thimble.app.logic.ModelState
import ai.thimble.app.logic.Problem
import android.app.Activity
import android.app.AlertDialog
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.view.accessibility.AccessibilityNodeInfo
import android.widget.EditText
import android.widget.ProgressBar
import android.widget.TextView
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
import org.robolectric.shadows.ShadowDialog
import java.io.InputStream

/** The screens, on the framework of Android 15. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = FakeApp::class, qualifiers = PHONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class ScreenTest {
    private val app get() = RuntimeEnvironment.getApplication() as FakeApp
    private val state get() = app.viewModel.state.value

    @After
    fun close() {
        app.viewModel.close()
        FakeApp.empty = false
    }

    @Test
    fun `type, send, see the answer stream, stop`() {
        val screen = open()
        val send = screen.find<View>(R.id.send)
        assertFalse("nothing to send", send.isEnabled)
        screen.type("What is a thimble?")
        assertTrue(send.isEnabled)
        send.performClick()
        settle()
        assertEquals("", screen.draft.text.toString())
        assertEquals("Stop the answer", send.contentDescription)
        assertTrue(screen.sees("What is a thimble?"))
        app.library.answer("A small ")
        app.until { it.answer?.text == "A small " }
        assertTrue(screen.sees("A small"))
        app.library.answer("cap of **metal**")
        app.until { it.answer?.text?.endsWith("metal**") == true }
        assertTrue(screen.sees("A small cap of metal"))
        send.performClick()
        app.until { it.answer == null }
        assertEquals("Send", send.contentDescription)
        assertTrue(screen.sees("A small cap of metal"))
        assertTrue(screen.find<TextView>(R.id.figures).text.contains("tokens/s"))
        assertTrue("can be made again", screen.find<View>(R.id.retry).isShown)
        assertEquals(emptyList<String>(), unreachable(screen.root))
    }

    @Test
    fun `the screen turns and nothing is lost`() {
        val screen = open()
        screen.send("Hi")
        app.library.answer("Hello ")
        app.until { it.answer != null && it.answer.text.isNotEmpty() }
        screen.type("my next mess")
        RuntimeEnvironment.setQualifiers("+land")
        screen.configurationChange(app.resources.configuration)
        settle()
        assertEquals("my next mess", screen.draft.text.toString())
        assertTrue(screen.sees("Hi"))
        assertTrue(screen.sees("Hello"))
        assertFalse("turning is no pause", app.library.chats.last().paused)
        app.library.answer("there", END)
        app.until { it.answer == null }
        assertTrue(screen.sees("Hello there"))
        assertEquals(1, app.library.chats.size)
    }

    @Test
    fun `a screen that is made anew finds draft and chat`() {
        val screen = open()
        screen.answered("Hi", "Hello")
        screen.type("a draft")
        val kept = Bundle()
        screen.saveInstanceState(kept).pause().stop().destroy()
        assertTrue("answers wait in the background", app.library.chats.last().paused)
        val again = Robolectric.buildActivity(ChatActivity::class.java).setup(kept)
        settle()
        assertEquals("a draft", again.draft.text.toString())
        assertTrue(again.sees("Hello"))
        assertFalse(app.library.chats.last().paused)
    }

    @Test
    fun `imports a model from the file picker`() {
        FakeApp.empty = true
        val screen = Robolectric.buildActivity(ChatActivity::class.java).setup()
        app.until { it.model is ModelState.None }
        assertFalse("no chat without a model", screen.draft.isShown)
        screen.find<View>(R.id.import_model).performClick()
        val picker = shadowOf(screen.get()).nextStartedActivityForResult
        assertEquals(Intent.ACTION_OPEN_DOCUMENT, picker.intent.action)
        val slow = Slow("m".repeat(3_000_000).byteInputStream())
        val uri = Uri.parse("content://files/tiny.thimble")
        shadowOf(app.contentResolver).registerInputStream(uri, slow)
        shadowOf(screen.get()).receiveResult(picker.intent, Activity.RESULT_OK, Intent().setData(uri))
        app.until { (it.importing?.done ?: 0) > 0 }
        assertTrue(screen.sees("Copying tiny.thimble"))
        assertTrue(screen.find<ProgressBar>(R.id.import_progress).isShown)
        shoot(screen.get(), "import")
        slow.open()
        app.until { it.ready }
        assertEquals("tiny.thimble", state.settings.model)
        assertTrue(screen.draft.isShown)
    }

    @Test
    fun `an import is cancelled, another is no model`() {
        val screen = open()
        val uri = Uri.parse("content://files/some.bin")
        shadowOf(app.contentResolver).registerInputStream(uri, Slow("m".repeat(3_000_000).byteInputStream()))
        screen.get().pickModel()
        val picker = shadowOf(screen.get()).nextStartedActivityForResult.intent
        shadowOf(screen.get()).receiveResult(picker, Activity.RESULT_OK, Intent().setData(uri))
        app.until { (it.importing?.done ?: 0) > 0 }
        screen.find<View>(R.id.import_cancel).performClick()
        app.until { it.importing == null }
        shadowOf(app.contentResolver).registerInputStream(uri, "broken".byteInputStream())
        screen.get().pickModel()
        shadowOf(screen.get()).receiveResult(picker, Activity.RESULT_OK, Intent().setData(uri))
        app.until { it.problem == Problem.NotAModel }
        assertTrue(screen.sees("This is not a .thimble file."))
        assertEquals(1, app.viewModel.models().size)
    }

    @Test
    fun `opens an old chat and deletes one`() {
        val screen = open()
        screen.answered("The first question", "The first answer")
        screen.find<View>(R.id.new_chat).performClick()
        app.until { it.messages.isEmpty() && it.ready }
        screen.answered("Another question", "Another answer")
        screen.find<View>(R.id.open_chats).performClick()
        assertEquals(ChatsActivity::class.java.name, shadowOf(screen.get()).nextStartedActivity.component?.className)
        val list = Robolectric.buildActivity(ChatsActivity::class.java).setup()
        list.await("The first question")
        shoot(list.get(), "chats-light")
        assertEquals(emptyList<String>(), unreachable(list.root))
        list.touch("The first question")
        assertTrue(list.get().isFinishing)
        app.until { it.messages.lastOrNull()?.text == "The first answer" }
        assertTrue(screen.sees("The first answer"))

        val again = Robolectric.buildActivity(ChatsActivity::class.java).setup()
        again.await("Another question")
        views(again.root).first { it.contentDescription == "Delete the chat “Another question”" }.performClick()
        (ShadowDialog.getLatestDialog() as AlertDialog).getButton(AlertDialog.BUTTON_POSITIVE).performClick()
        repeat(100) {
            settle()
            Thread.sleep(5)
        }
        assertFalse(again.sees("Another question"))
        assertTrue(again.sees("The first question"))
    }

    @Test
    fun `settings are taken over`() {
        open()
        val settings = Robolectric.buildActivity(SettingsActivity::class.java).setup()
        settle()
        settings.find<EditText>(R.id.system_prompt).setText("Answer in rhymes.")
        views(settings.root).filterIsInstance<android.widget.Switch>().first().performClick()
        settle()
        assertTrue(state.settings.saver)
        assertTrue(app.library.chats.last().saving)
        // As the screen reader moves a slider.
        val moved = Bundle().apply { putFloat(AccessibilityNodeInfo.ACTION_ARGUMENT_PROGRESS_VALUE, 7f) }
        settings.find<View>(R.id.temperature)
            .performAccessibilityAction(android.R.id.accessibilityActionSetProgress, moved)
        settle()
        assertEquals(0.7f, state.settings.temperature)
        assertEquals(emptyList<String>(), unreachable(settings.root))
        settings.pause().stop()
        app.until { it.ready && it.settings.system == "Answer in rhymes." }
        assertEquals("Answer in rhymes.", app.library.chats.last().options.system)
    }

    @Test
    fun `the system is short of memory`() {
        open()
        app.onTrimMemory(android.content.ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN)
        assertEquals(0, app.library.chats.last().freed)
        app.onTrimMemory(android.content.ComponentCallbacks2.TRIM_MEMORY_COMPLETE)
        assertEquals(1, app.library.chats.last().freed)
    }

    private fun open(): ActivityController<ChatActivity> {
        val screen = Robolectric.buildActivity(ChatActivity::class.java).setup()
        app.until { it.ready }
        return screen
    }

    private fun ActivityController<ChatActivity>.answered(question: String, answer: String) {
        send(question)
        app.library.answer(answer, END)
        app.until { it.answer == null && it.messages.lastOrNull()?.text == answer }
    }
}

internal const val PHONE = "w393dp-h852dp-port-notnight-xxhdpi"

internal val ActivityController<*>.root: View get() = get().window.decorView

internal val ActivityController<*>.draft: EditText get() = find(R.id.draft)

internal fun <T : View> ActivityController<*>.find(id: Int): T = checkNotNull(get().findViewById<T>(id))

internal fun ActivityController<*>.type(words: String) {
    draft.setText(words)
    settle()
}

internal fun ActivityController<*>.send(words: String) {
    type(words)
    find<View>(R.id.send).performClick()
    settle()
}

/** Whether these words are on the screen. */
internal fun ActivityController<*>.sees(words: String): Boolean =
    views(root).filterIsInstance<TextView>().any { it.text.toString().contains(words) }

internal fun ActivityController<*>.await(words: String) {
    repeat(400) {
        settle()
        if (sees(words)) return
        Thread.sleep(5)
    }
    error("never seen: $words in\n${tree(root)}")
}

/** Touches the words, or what they stand on. */
internal fun ActivityController<*>.touch(words: String) {
    var view: View = views(root).filterIsInstance<TextView>().first { it.text.toString().contains(words) }
    while (!view.isClickable) view = view.parent as View
    view.performClick()
    settle()
}

/** A stream that stops after its first megabytes until it is opened. */
private class Slow(private val inner: InputStream) : InputStream() {
    private val gate = java.util.concurrent.CountDownLatch(1)
    private var passed = 0

    fun open() = gate.countDown()

    override fun read(): Int = inner.read()

    override fun read(buffer: ByteArray, from: Int, length: Int): Int {
        if (passed++ == 2) gate.await(2, java.util.concurrent.TimeUnit.SECONDS)
        return inner.read(buffer, from, length)
    }
}
