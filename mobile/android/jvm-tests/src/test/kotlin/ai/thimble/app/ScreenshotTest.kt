package ai.thimble.app

import ai.thimble.app.FakeLibrary.Companion.END
import ai.thimble.app.logic.Catalogue
import ai.thimble.app.logic.ModelState
import ai.thimble.app.logic.Offer
import ai.thimble.app.logic.Source
import ai.thimble.download.DownloadState
import ai.thimble.download.FileServer
import ai.thimble.download.ModelSource
import android.view.View
import android.widget.EditText
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
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
        FakeApp.catalogue = Catalogue(emptyList())
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
        forms(name)
        downloads(name)
    }

    private fun forms(name: String) {
        val screen = Robolectric.buildActivity(FormsActivity::class.java).setup()
        screen.find<EditText>(R.id.form_text).setText(EVENT_TEXT)
        screen.find<View>(R.id.form_fill).performClick()
        app.library.answer(EVENT_FORM, END)
        screen.await("Add to calendar")
        shoot(screen.get(), "forms-$name")
    }

    /** One model is here, one is on its way, one is paused, one failed, one is offered. */
    private fun downloads(name: String) {
        FileServer(ByteArray(0)).use { server ->
            server.instead = { exchange, _ ->
                if ("lost" in exchange.requestURI.path) {
                    exchange.sendResponseHeaders(404, -1)
                } else {
                    exchange.responseHeaders.add("ETag", "\"v1\"")
                    exchange.sendResponseHeaders(200, 1_000_000)
                    exchange.responseBody.write(ByteArray(400_000))
                    exchange.responseBody.flush()
                    Thread.sleep(3_000)
                }
                true
            }
            fun offer(name: String, title: String) =
                Offer(ModelSource(name, "${server.address}/$name.thimble"), title, 1_000_000)
            FakeApp.catalogue = Catalogue(
                listOf(
                    offer("SmolLM2-135M-Instruct", "SmolLM2 135M"),
                    offer("smollm2-360m-instruct", "SmolLM2 360M"),
                    offer("qwen2.5-0.5b-instruct", "Qwen2.5 0.5B"),
                    offer("lost", "Qwen3 0.6B"),
                    offer("llama-3.2-1b-instruct", "Llama 3.2 1B"),
                ),
            )
            val screen = Robolectric.buildActivity(DownloadsActivity::class.java).setup()
            val scope = CoroutineScope(Dispatchers.Default)
            for (row in app.downloads.state.value.models.subList(1, 4)) {
                app.downloads.download(row.source)
                scope.launch { app.modelDownloads.run(row.source.name) }
                while (!arrived(row.source)) {
                    settle()
                    Thread.sleep(5)
                }
                if (row.title == "Qwen2.5 0.5B") app.downloads.pause(row)
            }
            shoot(screen.get(), "downloads-$name")
            scope.cancel()
        }
    }

    /** Whether all has come that comes. */
    private fun arrived(source: ModelSource): Boolean =
        when (val state = app.modelDownloads.downloads.value.first { it.source == source }.state) {
            is DownloadState.Running -> state.done == 400_000L
            else -> state is DownloadState.Failed
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
