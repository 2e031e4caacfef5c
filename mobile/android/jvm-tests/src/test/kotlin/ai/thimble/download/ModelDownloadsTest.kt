package ai.thimble.download

import ai.thimble.download.FileServer.Companion.status
import ai.thimble.soon
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.launch
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import kotlin.random.Random

/** Downloads that are begun, paused, resumed and deleted, also by another process. */
class ModelDownloadsTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val server = FileServer(Random(1).nextBytes(SIZE))
    private val folder: File get() = temporary.root
    private val scheduler = Remembered()
    private val source get() = ModelSource("small", "${server.address}/small.thimble")

    @After
    fun close() = server.close()

    @Test
    fun `a download runs when the scheduler says so`() = soon {
        val downloads = downloads()
        downloads.start(source)
        assertEquals(listOf("small"), scheduler.waiting)
        assertEquals(DownloadState.Waiting(0), downloads.state())
        assertFalse(downloads.run("small"))
        val file = File(folder, "small.thimble")
        assertEquals(DownloadState.Finished(file), downloads.state())
        assertEquals(listOf(DownloadedModel("small", file, SIZE.toLong())), downloads.models())
        assertEquals(listOf("small.thimble", "small.thimble.lock"), folder.list()!!.sorted())
        // Again: it is there.
        downloads.start(source)
        assertEquals(DownloadState.Finished(file), downloads.state())
        assertEquals(1, server.asked.size)
    }

    @Test
    fun `progress is shown while it runs`() = soon {
        server.holdsAt(SIZE / 2)
        val downloads = downloads()
        downloads.start(source, AllowedNetwork.ANY)
        val work = launch { downloads.run("small") }
        val half = DownloadState.Running(SIZE / 2L, SIZE.toLong())
        downloads.downloads.first { it.single().state == half }
        assertFalse("one run at a time", downloads.run("small"))
        downloads.pause("small")
        work.join()
        assertEquals(DownloadState.Paused(SIZE / 2L), downloads.state())
        assertEquals(emptyList<String>(), scheduler.waiting)
        assertFalse("paused", downloads.run("small"))
        assertEquals(1, server.asked.size)

        downloads.resume("small")
        assertEquals(AllowedNetwork.ANY, downloads.downloads.value.single().network)
        downloads.run("small")
        assertTrue("${downloads.state()}", downloads.state() is DownloadState.Finished)
        assertEquals("bytes=${SIZE / 2}-", server.asked.last().range)
    }

    @Test
    fun `another process goes on`() = soon {
        server.holdsAt(SIZE / 2)
        val before = downloads()
        before.start(source)
        before.start(ModelSource("other/one", "${server.address}/other.thimble"))
        before.pause("other/one")
        val process = CoroutineScope(Dispatchers.Default)
        val work = process.launch { before.run("small") }
        before.downloads.first { (it.first().state as? DownloadState.Running)?.done == SIZE / 2L }
        // As the system stops a job; a process that is killed has written the same.
        work.cancelAndJoin()
        scheduler.waiting.clear()

        val after = downloads()
        assertEquals(listOf("small"), scheduler.waiting)
        assertEquals(
            mapOf("small" to DownloadState.Waiting(SIZE / 2L), "other/one" to DownloadState.Paused(0)),
            after.downloads.value.associate { it.source.name to it.state },
        )
        after.run("small")
        assertEquals(1, after.models().size)
        assertEquals("bytes=${SIZE / 2}-", server.asked.last().range)
    }

    @Test
    fun `what may pass is tried again, what will not waits for the person`() = soon {
        val downloads = downloads()
        downloads.start(source)
        server.instead = { exchange, _ -> exchange.status(503) }
        assertTrue(downloads.run("small"))
        assertEquals(DownloadState.Waiting(0), downloads.state())
        server.instead = { exchange, _ -> exchange.status(404) }
        assertFalse(downloads.run("small"))
        val failed = downloads.state() as DownloadState.Failed
        assertEquals(404, (failed.error as DownloadException.Refused).status)
        assertEquals("a new process", DownloadState.Paused(0), downloads().state())
        server.instead = { _, _ -> false }
        downloads.resume("small")
        assertFalse(downloads.run("small"))
        assertTrue("${downloads.state()}", downloads.state() is DownloadState.Finished)
    }

    @Test
    fun `deleting leaves nothing, also in the middle`() = soon {
        server.holdsAt(SIZE / 2)
        val downloads = downloads()
        downloads.start(source)
        val work = launch { downloads.run("small") }
        downloads.downloads.first { (it.single().state as? DownloadState.Running)?.done == SIZE / 2L }
        downloads.delete("small")
        work.join()
        assertEquals(emptyList<Download>(), downloads.downloads.value)
        assertEquals(listOf("small.thimble.lock"), folder.list()!!.sorted())
        assertFalse("nothing is left to run", downloads.run("small"))

        downloads.start(source)
        downloads.run("small")
        assertEquals(1, downloads.models().size)
        downloads.delete("small")
        assertEquals(emptyList<DownloadedModel>(), downloads.models())
    }

    @Test
    fun `the token is not on disk`() = soon {
        val downloads = downloads()
        downloads.token = "secret"
        server.breaksAfter = { if (it == 1) 10 else 0 }
        downloads.start(source)
        downloads.run("small")
        assertEquals("Bearer secret", server.asked.first().token)
        assertTrue(folder.listFiles()!!.none { "secret" in it.readBytes().decodeToString() })
    }

    @Test
    fun `files that are no requests are left alone`() {
        File(folder, "a.thimble.request").writeText("name=../../x\nurl=https\\://example.org\nnetwork=ANY\n")
        File(folder, "b.thimble.request").writeText("\\u12")
        File(folder, "c.thimble.request").mkdirs()
        assertEquals(emptyList<Download>(), downloads().downloads.value)
    }

    private fun downloads() =
        ModelDownloads(folder, scheduler, Downloader(Timeouts(2_000, 2_000), verify = {}, pause = 1))

    private fun ModelDownloads.state(): DownloadState = downloads.value.single().state

    /** The first answer stops at a byte for a while, without a break. */
    private fun FileServer.holdsAt(byte: Int) {
        instead = { exchange, number ->
            (number == 1).also {
                if (it) {
                    exchange.responseHeaders.add("ETag", "\"v1\"")
                    exchange.sendResponseHeaders(200, SIZE.toLong())
                    exchange.responseBody.write(content, 0, byte)
                    exchange.responseBody.flush()
                    Thread.sleep(2_000)
                }
            }
        }
    }

    private class Remembered : DownloadScheduler {
        val waiting = mutableListOf<String>()

        override fun schedule(download: Download) {
            if (download.source.name !in waiting) waiting += download.source.name
        }

        override fun cancel(name: String) {
            waiting -= name
        }
    }

    private companion object {
        const val SIZE = 1_000_000
    }
}
