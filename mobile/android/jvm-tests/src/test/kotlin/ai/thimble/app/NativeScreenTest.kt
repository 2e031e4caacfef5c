package ai.thimble.app

import ai.thimble.Given
import ai.thimble.app.logic.Source
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.File

/** The whole app with the real native library and model: import, a message, the answer, another process. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = ThimbleApp::class, qualifiers = PHONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class NativeScreenTest {
    @Test
    fun `a message is answered and kept`() {
        val app = RuntimeEnvironment.getApplication() as ThimbleApp
        val model = File(Given.model)
        val screen = Robolectric.buildActivity(ChatActivity::class.java).setup()
        app.viewModel.importModel(Source(model.name, model.length(), model::inputStream))
        app.until { it.ready }
        app.viewModel.changeSettings(app.viewModel.state.value.settings.copy(temperature = 0f, maxTokens = 24))
        app.until { it.ready }
        screen.send("What is the capital of France?")
        val state = app.until { it.answer == null && it.messages.size == 2 }
        assertTrue(state.figures!!.tokensPerSecond > 0)
        assertTrue(screen.sees("tokens/s"))
        shoot(screen.get(), "native")
        val journal = File(app.filesDir, "thimble/chats/${state.chat}").readLines()
        assertEquals("user message, pieces, end", 1, journal.count { it.startsWith("{\"user\"") })
        assertTrue(journal.count { it.startsWith("{\"piece\"") } > 3)
        app.viewModel.close()
    }
}
