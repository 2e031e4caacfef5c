package ai.thimble.download

import ai.thimble.download.FileServer.Companion.status
import ai.thimble.soon
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.launch
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import java.io.IOException
import java.security.MessageDigest
import kotlin.random.Random

/** One file over connections that break, from servers that err. */
class DownloaderTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val server = FileServer(Random(1).nextBytes(SIZE))
    private val folder: File get() = File(temporary.root, "models")
    private val source get() = ModelSource("own/model", "${server.address}/a/model.thimble", sha256(server.content))

    @After
    fun close() = server.close()

    @Test
    fun `a file arrives whole, under the name that pull gives it`() = soon {
        val progress = mutableListOf<Progress>()
        val file = downloader().download(source, folder) { progress += it }
        assertEquals("own--model.thimble", file.name)
        assertArrayEquals(server.content, file.readBytes())
        assertEquals(Progress.Receiving(0, SIZE.toLong()), progress.first())
        assertTrue(Progress.Receiving(SIZE.toLong(), SIZE.toLong()) in progress)
        assertEquals(Progress.Checking, progress.last())
        assertEquals(listOf("own--model.thimble", "own--model.thimble.lock"), names())
        // It is there: nobody is asked.
        assertEquals(file, downloader().download(source, folder))
        assertEquals(1, server.asked.size)
    }

    @Test
    fun `a broken connection resumes where it broke`() = soon {
        server.breaksAfter = { if (it <= 3) 100_000 else null }
        assertArrayEquals(server.content, downloader().download(source, folder).readBytes())
        val ranges = server.asked.map { it.range?.removePrefix("bytes=")?.removeSuffix("-")?.toInt() ?: 0 }
        assertEquals(4, ranges.size)
        assertEquals(ranges.sorted().distinct(), ranges)
        assertEquals(setOf(null, "\"v1\""), server.asked.map { it.validator }.toSet())
    }

    @Test
    fun `another process resumes what this one left`() = soon {
        server.breaksAfter = { if (it == 1) 300_000 else 0 }
        val error = failure<DownloadException.Interrupted> { downloader().download(source, folder) }
        assertTrue("$error", error.kept in 1..300_000 && "${error.kept} bytes are kept" in error.message!!)
        assertEquals("five tries without anything new", 5, server.asked.drop(1).size)
        server.breaksAfter = { null }
        val first = mutableListOf<Progress>()
        assertArrayEquals(server.content, downloader().download(source, folder) { first += it }.readBytes())
        assertEquals(Progress.Receiving(error.kept, SIZE.toLong()), first.first())
        assertEquals("bytes=${error.kept}-", server.asked.last().range)
    }

    @Test
    fun `a server without ranges sends it again`() = soon {
        server.ranges = false
        server.breaksAfter = { if (it == 1) 300_000 else null }
        assertArrayEquals(server.content, downloader().download(source, folder).readBytes())
        assertEquals(2, server.asked.size)
    }

    @Test
    fun `a file of unknown length, with and without a break`() = soon {
        server.lengths = false
        server.breaksAfter = { if (it == 1) 300_000 else null }
        val file = downloader().download(source, folder)
        assertArrayEquals(server.content, file.readBytes())
        assertEquals("the end shows only in one piece", listOf(null, null), server.asked.map { it.range })
    }

    @Test
    fun `a server that gives the file no version starts over`() = soon {
        server.etag = null
        server.breaksAfter = { if (it == 1) 300_000 else null }
        assertArrayEquals(server.content, downloader().download(source, folder).readBytes())
    }

    @Test
    fun `a file that changed meanwhile is fetched from its start`() = soon {
        server.breaksAfter = { if (it == 1) 300_000 else 0 }
        val any = source.copy(sha256 = null)
        failure<DownloadException.Interrupted> { downloader().download(any, folder) }
        server.content = Random(2).nextBytes(SIZE / 2)
        for (etag in listOf("\"v2\"", "W/\"v3\"")) {
            server.etag = etag
            server.breaksAfter = { null }
            assertArrayEquals(etag, server.content, downloader().download(any, folder).readBytes())
            File(folder, any.fileName).delete()
        }
    }

    @Test
    fun `a server that ignores If-Range cannot mix two versions`() = soon {
        server.breaksAfter = { if (it == 1) 300_000 else 0 }
        val any = source.copy(sha256 = null)
        failure<DownloadException.Interrupted> { downloader().download(any, folder) }
        server.breaksAfter = { null }
        server.content = Random(3).nextBytes(SIZE)
        server.etag = "\"v2\""
        val before = server.asked.size
        server.instead = { exchange, number ->
            (number == before + 1).also {
                if (it) {
                    val from = exchange.requestHeaders.getFirst("Range").filter(Char::isDigit).toInt()
                    exchange.responseHeaders.add("ETag", "\"v2\"")
                    exchange.responseHeaders.add("Content-Range", "bytes $from-${SIZE - 1}/$SIZE")
                    exchange.sendResponseHeaders(206, (SIZE - from).toLong())
                    exchange.responseBody.write(server.content, from, SIZE - from)
                }
            }
        }
        assertArrayEquals(server.content, downloader().download(any, folder).readBytes())
        assertEquals(before + 2, server.asked.size)
    }

    @Test
    fun `416, and parts of the file that were not asked for`() = soon {
        for (answer in listOf(416, 206)) {
            server.breaksAfter = { if (it == server.asked.size && server.asked.last().range == null) 300_000 else 0 }
            failure<DownloadException.Interrupted> { downloader().download(source, folder) }
            server.breaksAfter = { null }
            val before = server.asked.size
            server.instead = { exchange, number ->
                number == before + 1 && exchange.status(answer, "ETag" to "\"v1\"", "Content-Range" to "bytes 5-9/10")
            }
            assertArrayEquals(server.content, downloader().download(source, folder).readBytes())
            assertEquals("$answer: once more, from the start", null, server.asked.last().range)
            File(folder, source.fileName).delete()
            server.instead = { _, _ -> false }
        }
    }

    @Test
    fun `a wrong checksum deletes what has arrived`() = soon {
        val wrong = source.copy(sha256 = "0".repeat(64))
        val error = failure<DownloadException.Damaged> { downloader().download(wrong, folder) }
        assertTrue("$error", sha256(server.content) in error.message!! && wrong.sha256!! in error.message!!)
        assertEquals(listOf("own--model.thimble.lock"), names())
    }

    @Test
    fun `the checksum that a hub announces counts, and is compared before anything comes`() = soon {
        val announced = "1".repeat(64)
        server.instead = { exchange, _ ->
            exchange.requestURI.path == "/own/model/resolve/main/model.thimble" && exchange.status(
                302, "Location" to "/storage?signed=1", "X-Linked-ETag" to "\"$announced\"",
                "X-Linked-Size" to "$SIZE", "X-Repo-Commit" to "abc",
            )
        }
        val hub = ModelSource.hub("own/model", "model.thimble", endpoint = server.address)
        val error = failure<DownloadException.Damaged> { downloader().download(hub, folder) }
        assertTrue("$error", announced in error.message!!)
        val early = hub.copy(sha256 = sha256(server.content))
        var received = 0L
        failure<DownloadException.Damaged> {
            downloader().download(early, folder) { if (it is Progress.Receiving) received = it.done }
        }
        assertEquals(0L, received)
    }

    @Test
    fun `redirects are followed, and the token stays at home`() = soon {
        FileServer(server.content).use { storage ->
            server.instead = { exchange, _ -> exchange.status(307, "Location" to "${storage.address}/blob#part") }
            storage.breaksAfter = { if (it == 1) 300_000 else null }
            assertArrayEquals(server.content, downloader().download(source, folder, token = "secret").readBytes())
            assertEquals(listOf("Bearer secret", "Bearer secret"), server.asked.map { it.token })
            assertEquals(listOf(null, null), storage.asked.map { it.token })
            assertEquals("bytes=", storage.asked.last().range?.take(6))
            File(folder, source.fileName).delete()

            server.instead = { exchange, _ -> exchange.status(302, "Location" to "/again") }
            val endless = failure<DownloadException.Unreachable> { downloader().download(source, folder) }
            assertTrue("$endless", "redirects" in endless.message!!)
            server.instead = { exchange, _ -> exchange.status(302, "Location" to "ftp://a/b") }
            val foreign = failure<DownloadException.Unreachable> { downloader().download(source, folder) }
            assertTrue("$foreign", "ftp://a/b" in foreign.message!!)
        }
    }

    @Test
    fun `refusals say what to do, and only some are tried again`() = soon {
        for ((status, word, requests) in listOf(
            Triple(404, "check the address", 1), Triple(401, "token", 1), Triple(403, "licence", 1),
            Triple(503, "later", 6), Triple(429, "later", 6),
        )) {
            val before = server.asked.size
            server.instead = { exchange, _ -> exchange.status(status) }
            val error = failure<DownloadException.Refused> { downloader().download(source, folder) }
            assertEquals(status, error.status)
            assertTrue("$error", word in error.message!!)
            assertEquals("$status", requests, server.asked.size - before)
        }
    }

    @Test
    fun `no server`() = soon {
        server.close()
        val error = failure<DownloadException.Unreachable> { downloader().download(source, folder) }
        assertTrue("$error", source.url in error.message!!)
    }

    @Test
    fun `a device without room is told before anything is written`() = soon {
        val full = Downloader(free = { 1_000 }, verify = {}, pause = 1)
        val error = failure<DownloadException.NoSpace> { full.download(source, folder) }
        assertEquals(SIZE.toLong() to 1_000L, error.needed to error.free)
        assertEquals(0L, File(folder, "own--model.thimble.download").length())
    }

    @Test
    fun `a disk that refuses to write is not the server's fault`() = soon {
        // A device that is always full; the length of the file on it stays 0.
        folder.mkdirs()
        val part = File(folder, "own--model.thimble.download")
        val linked = runCatching {
            java.nio.file.Files.createSymbolicLink(part.toPath(), File("/dev/full").toPath())
        }
        org.junit.Assume.assumeTrue("no /dev/full", linked.isSuccess && File("/dev/full").exists())
        File(folder, "own--model.thimble.download.properties").writeText(
            "url=${source.url}\nversion=v1\nvalidator=\"v1\"\nsize=$SIZE\n".replace(":", "\\:"),
        )
        server.instead = { exchange, _ ->
            exchange.responseHeaders.add("ETag", "\"v1\"")
            exchange.responseHeaders.add("Content-Range", "bytes 0-${SIZE - 1}/$SIZE")
            exchange.sendResponseHeaders(206, SIZE.toLong())
            exchange.responseBody.write(server.content)
            true
        }
        val error = failure<DownloadException.Disk> { downloader().download(source, folder) }
        assertTrue("$error", "own--model.thimble.download" in error.message!!)
        assertEquals(1, server.asked.size)
    }

    @Test
    fun `what is no model is deleted`() = soon {
        val picky = Downloader(verify = { throw IOException("not a .thimble file") }, pause = 1)
        val error = failure<DownloadException.NotAModel> { picky.download(source, folder) }
        assertTrue("$error", "not a .thimble file" in error.message!!)
        assertEquals(listOf("own--model.thimble.lock"), names())
    }

    @Test
    fun `cancelling keeps what has arrived`() = soon {
        val arrived = CompletableDeferred<Unit>()
        server.instead = { exchange, number ->
            (number == 1).also {
                if (it) {
                    exchange.responseHeaders.add("ETag", "\"v1\"")
                    exchange.sendResponseHeaders(200, SIZE.toLong())
                    exchange.responseBody.write(server.content, 0, SIZE / 2)
                    exchange.responseBody.flush()
                    Thread.sleep(2_000)
                }
            }
        }
        val work = launch {
            downloader().download(source, folder) {
                if (it is Progress.Receiving && it.done >= SIZE / 2) arrived.complete(Unit)
            }
        }
        arrived.await()
        work.cancelAndJoin()
        assertEquals(SIZE / 2L, File(folder, "own--model.thimble.download").length())
        assertArrayEquals(server.content, downloader().download(source, folder).readBytes())
        assertEquals("bytes=${SIZE / 2}-", server.asked.last().range)
    }

    @Test
    fun `two downloads of one file are one`() = soon {
        server.breaksAfter = { if (it == 1) 300_000 else null }
        var waited = false
        val files = List(2) {
            async { downloader().download(source, folder) { if (it is Progress.Waiting) waited = true } }
        }.awaitAll()
        assertEquals(files[0], files[1])
        assertArrayEquals(server.content, files[0].readBytes())
        assertTrue(waited)
        assertEquals("one of them asked", 2, server.asked.size)
    }

    @Test
    fun `sources that are none`() {
        val address = "https://example.org/m.thimble"
        for (name in listOf("", "../x", "a/../b", "a/b/c", ".hidden", "a b", "a/", "/a", "x".repeat(200))) {
            assertTrue(name, runCatching { ModelSource(name, address) }.exceptionOrNull() is IllegalArgumentException)
        }
        for (url in listOf("", "example.org/m", "ftp://example.org/m", "https://", "not an address")) {
            assertTrue(url, runCatching { ModelSource("m", url) }.exceptionOrNull() is IllegalArgumentException)
        }
        assertTrue(runCatching { ModelSource("m", address, "12") }.exceptionOrNull() is IllegalArgumentException)
        val hub = ModelSource.hub("a/b", "x y.thimble", revision = "refs/pr/1")
        assertEquals("https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/x%20y.thimble", hub.url)
        assertEquals("a--b.thimble", hub.fileName)
    }

    @Test
    fun `the token is for one origin`() {
        fun same(first: String, other: String) = Requests.sameOrigin(java.net.URI(first), java.net.URI(other))
        assertTrue(same("https://a.b/x", "https://A.b:443/y"))
        assertTrue(same("http://mirror/x", "https://mirror/y"))
        for (other in listOf("http://a.b/x", "https://a.b:444/x", "https://cdn.a.b/x", "https://a.b.example.org/x")) {
            assertFalse(other, same("https://a.b/x", other))
        }
    }

    private fun downloader() = Downloader(Timeouts(2_000, 2_000), verify = {}, pause = 1)

    private fun names(): List<String> = folder.list().orEmpty().sorted()

    private suspend inline fun <reified E : DownloadException> failure(work: suspend () -> Unit): E =
        try {
            work()
            throw AssertionError("expected ${E::class.java.simpleName}")
        } catch (error: CancellationException) {
            throw error
        } catch (error: DownloadException) {
            assertTrue("$error", error is E)
            error as E
        }

    private companion object {
        const val SIZE = 1_000_000

        fun sha256(bytes: ByteArray): String =
            MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }
    }
}
