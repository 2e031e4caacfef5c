package ai.thimble.app

import ai.thimble.app.logic.Catalogue
import ai.thimble.app.logic.DownloadStatus
import ai.thimble.app.logic.ModelState
import ai.thimble.app.logic.Offer
import ai.thimble.download.AllowedNetwork
import ai.thimble.download.FileServer
import ai.thimble.download.ModelSource
import android.app.Activity
import android.app.AlertDialog
import android.content.Intent
import android.net.Uri
import android.view.View
import android.widget.EditText
import android.widget.Switch
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.launch
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
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
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit

/** Models are downloaded: the screen, from a server on this machine. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = FakeApp::class, qualifiers = PHONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class DownloadsScreenTest {
    private val app get() = RuntimeEnvironment.getApplication() as FakeApp
    private val server = FileServer("a model".repeat(SIZE / 7 + 1).toByteArray().copyOf(SIZE))

    @Before
    fun offer() {
        FakeApp.empty = true
        FakeApp.catalogue = Catalogue(
            listOf(
                Offer(ModelSource("smollm2-135m-instruct", "${server.address}/a.thimble"), "SmolLM2 135M", SIZE.toLong()),
                Offer(ModelSource("qwen3-0.6b", "${server.address}/b.thimble"), "Qwen3 0.6B", 640_000_000),
            ),
        )
    }

    @After
    fun close() {
        app.viewModel.close()
        server.close()
        FakeApp.empty = false
        FakeApp.catalogue = Catalogue(emptyList())
    }

    @Test
    fun `download, pause, continue, use, delete`() {
        val gate = holdHalf()
        val chat = Robolectric.buildActivity(ChatActivity::class.java).setup()
        app.until { it.model is ModelState.None }
        chat.find<View>(R.id.open_downloads).performClick()
        assertEquals(DownloadsActivity::class.java.name, shadowOf(chat.get()).nextStartedActivity.component?.className)
        val screen = Robolectric.buildActivity(DownloadsActivity::class.java).setup()
        settle()
        assertEquals(emptyList<String>(), unreachable(screen.root))
        screen.press("Download SmolLM2 135M")
        assertTrue(screen.sees("Waiting for the network"))
        assertEquals(AllowedNetwork.UNMETERED, app.modelDownloads.downloads.value.single().network)
        var work = run("smollm2-135m-instruct")
        screen.await("500 kB of 1.0 MB")
        assertEquals(emptyList<String>(), unreachable(screen.root))
        shoot(screen.get(), "download")
        screen.press("Pause SmolLM2 135M")
        screen.await("Paused")
        gate.countDown()
        finish(work)
        screen.press("Continue SmolLM2 135M")
        work = run("smollm2-135m-instruct")
        finish(work)
        screen.await("in use")
        app.until { it.ready }
        assertEquals("smollm2-135m-instruct.thimble", app.viewModel.state.value.settings.model)

        screen.press("Delete the model SmolLM2 135M")
        (ShadowDialog.getLatestDialog() as AlertDialog).getButton(AlertDialog.BUTTON_POSITIVE).performClick()
        app.until { it.model is ModelState.None }
        screen.awaitNot("in use")
        assertEquals(DownloadStatus.Offered, app.downloads.state.value.models.first().status)
    }

    @Test
    fun `an address, and one that is none`() {
        FakeApp.empty = false
        val screen = Robolectric.buildActivity(DownloadsActivity::class.java).setup()
        settle()
        screen.find<EditText>(R.id.address).setText("https://example.org/model.bin")
        screen.find<View>(R.id.download_address).performClick()
        settle()
        assertTrue(screen.sees("This is not the address"))
        screen.find<EditText>(R.id.address).setText("${server.address}/own--model.thimble?x=1")
        screen.find<View>(R.id.download_address).performClick()
        settle()
        assertFalse(screen.sees("This is not the address"))
        assertTrue(screen.sees("own/model"))
        finish(run("own/model"))
        screen.await("on this phone")
        app.until { it.ready }
        assertEquals("the other one stays", "SmolLM2-135M-Instruct.thimble", app.viewModel.state.value.settings.model)
        screen.touch("Use")
        app.until { it.settings.model == "own--model.thimble" && it.ready }
        assertTrue(screen.get().isFinishing)
    }

    @Test
    fun `a refusal is told, and any network can be allowed`() {
        server.instead = { exchange, _ -> with(FileServer) { exchange.status(404) } }
        val screen = Robolectric.buildActivity(DownloadsActivity::class.java).setup()
        settle()
        screen.press("Download Qwen3 0.6B")
        views(screen.root).filterIsInstance<Switch>().first().performClick()
        settle()
        assertFalse(app.viewModel.state.value.settings.wifiOnly)
        assertEquals(AllowedNetwork.ANY, app.modelDownloads.downloads.value.single().network)
        finish(run("qwen3-0.6b"))
        screen.await("There is no file at this address")
        shoot(screen.get(), "download-failed")
        assertTrue(views(screen.root).any { it.contentDescription == "Try Qwen3 0.6B again" })
        screen.press("Delete the model Qwen3 0.6B")
        (ShadowDialog.getLatestDialog() as AlertDialog).getButton(AlertDialog.BUTTON_POSITIVE).performClick()
        screen.awaitNot("There is no file")
    }

    @Test
    fun `a file of the phone, which the screen below shows`() {
        val screen = Robolectric.buildActivity(DownloadsActivity::class.java).setup()
        app.until { it.model is ModelState.None }
        screen.find<View>(R.id.import_model).performClick()
        val picker = shadowOf(screen.get()).nextStartedActivityForResult.intent
        val uri = Uri.parse("content://files/tiny.thimble")
        shadowOf(app.contentResolver).registerInputStream(uri, "a model".byteInputStream())
        shadowOf(screen.get()).receiveResult(picker, Activity.RESULT_OK, Intent().setData(uri))
        assertTrue(screen.get().isFinishing)
        app.until { it.ready }
        assertEquals("tiny.thimble", app.viewModel.state.value.settings.model)
    }

    /** As the system would. */
    private fun run(name: String): Job = CoroutineScope(Dispatchers.Default).launch { app.modelDownloads.run(name) }

    private fun finish(work: Job) {
        while (!work.isCompleted) {
            settle()
            Thread.sleep(5)
        }
        settle()
    }

    private fun ActivityController<*>.press(description: String) {
        views(root).first { it.contentDescription == description }.performClick()
        settle()
    }

    private fun ActivityController<*>.awaitNot(words: String) {
        repeat(400) {
            settle()
            if (!sees(words)) return
            Thread.sleep(5)
        }
        error("still there: $words in\n${tree(root)}")
    }

    /** The first answer stops in its middle. */
    private fun holdHalf(): CountDownLatch {
        val gate = CountDownLatch(1)
        server.instead = { exchange, number ->
            (number == 1).also {
                if (it) {
                    exchange.responseHeaders.add("ETag", "\"v1\"")
                    exchange.sendResponseHeaders(200, SIZE.toLong())
                    exchange.responseBody.write(server.content, 0, SIZE / 2)
                    exchange.responseBody.flush()
                    gate.await(5, TimeUnit.SECONDS)
                }
            }
        }
        return gate
    }

    private companion object {
        const val SIZE = 1_000_000
    }
}
