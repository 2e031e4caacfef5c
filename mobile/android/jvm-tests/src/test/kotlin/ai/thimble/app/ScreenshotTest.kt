package ai.thimble.app

import ai.thimble.app.FakeLibrary.Companion.END
import ai.thimble.app.logic.ModelState
import ai.thimble.app.logic.Source
import org.junit.After
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** Pictures of all screens, to be looked at: light, dark, with a large font, turned. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = FakeApp::class, qualifiers = PHONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class ScreenshotTest {
    private val app get() = RuntimeEnvironment.getApplication() as FakeApp

    @After
    fun close() {
        app.viewModel.close()
        FakeApp.empty = false
    }

    @Test
    fun light() = all("light")

    @Test
    @Config(qualifiers = "+night")
    fun dark() = all("dark")

    @Test
    fun large() {
        RuntimeEnvironment.setFontScale(LARGE)
        all("large")
    }

    @Test
    @Config(qualifiers = "+land")
    fun turned() = all("turned")

    private fun all(name: String) {
        FakeApp.empty = true
        val none = Robolectric.buildActivity(ChatActivity::class.java).setup()
        app.until { it.model is ModelState.None }
        shoot(none.get(), "welcome-$name")
        app.viewModel.importModel(Source("SmolLM2-135M-Instruct.thimble", 7) { "a model".byteInputStream() })
        app.until { it.ready }
        shoot(none.get(), "empty-$name")
        none.send("Why is the sky blue?")
        app.library.answer(ANSWER, END)
        app.until { it.answer == null }
        none.send("And at sunset?")
        app.library.answer("At sunset the light has a longer way through the air, so most of the blue")
        app.until { it.answer != null && it.answer.text.isNotEmpty() }
        shoot(none.get(), "chat-$name")
        app.library.answer(" is scattered away before it reaches you. What is left is **red and orange**.", END)
        app.until { it.answer == null }
        none.type("Thank you! One more thing")
        shoot(none.get(), "answered-$name")
        val settings = Robolectric.buildActivity(SettingsActivity::class.java).setup()
        shoot(settings.get(), "settings-$name")
    }

    private companion object {
        const val LARGE = 1.8f
        const val ANSWER =
            "The sky is blue because of **Rayleigh scattering**:\n\n" +
                "1. Sunlight is made of all colours.\n" +
                "2. Air scatters blue light more than red, by the fourth power of its frequency.\n" +
                "3. So blue comes from everywhere, and the sun itself looks a little yellow.\n\n" +
                "In code: `scattering = 1 / wavelength^4`."
    }
}
