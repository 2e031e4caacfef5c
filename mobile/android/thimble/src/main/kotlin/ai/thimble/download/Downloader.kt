package ai.thimble.download

import ai.thimble.Model
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.net.HttpURLConnection
import java.net.URL
import java.nio.channels.FileLock
import java.nio.channels.OverlappingFileLockException
import java.util.concurrent.atomic.AtomicReference
import kotlin.coroutines.coroutineContext

/** How far a download is. */
sealed interface Progress {
    /** Another download of the same file is waited for. */
    data object Waiting : Progress

    /** [done] bytes are here, of [of] where that is known. */
    data class Receiving(val done: Long, val of: Long?) : Progress

    /** All bytes are here and are checked. */
    data object Checking : Progress
}

/** Downloads a model into a folder by the rules of `thimble pull`: resumed where it can be, checked, whole or not there. */
class Downloader(
    private val timeouts: Timeouts = Timeouts(),
    /** Bytes that may be written beside a file. */
    private val free: (File) -> Long = File::getUsableSpace,
    /** Throws if a file is no model. */
    private val verify: suspend (File) -> Unit = { file -> Model.open(file.path).use { it.verify() } },
    /** The pause before the first retry, in milliseconds; it doubles with each one. */
    private val pause: Long = 200,
) {
    /**
     * The model's file in [folder], downloaded if it is not there. Continues what an earlier call left; cancelling
     * keeps what has arrived. Of two calls for one file the second waits and finds it.
     *
     * @param token is sent to the server of [source] and to no other
     * @param open opens a connection, such as on a network that the system chose
     * @throws DownloadException
     */
    suspend fun download(
        source: ModelSource,
        folder: File,
        token: String? = null,
        open: (URL) -> HttpURLConnection = { it.openConnection() as HttpURLConnection },
        progress: (Progress) -> Unit = {},
    ): File = withContext(Dispatchers.IO) {
        val target = File(folder, source.fileName)
        if (target.isFile) return@withContext target
        folder.mkdirs()
        locked(File(target.path + LOCK), progress) {
            if (!target.isFile) Attempt(source, target, Requests(timeouts, token), open, progress).complete()
            target
        }
    }

    /** Runs [work] while no other thread or process does for the same file. */
    private suspend fun <T> locked(file: File, progress: (Progress) -> Unit, work: suspend () -> T): T {
        val channel = try {
            RandomAccessFile(file, "rw")
        } catch (error: IOException) {
            throw DownloadException.Disk(file, error)
        }
        return channel.use {
            var lock = tryLock(it)
            if (lock == null) progress(Progress.Waiting)
            while (lock == null) {
                delay(LOCK_POLL)
                lock = tryLock(it)
            }
            lock.use { work() }
        }
    }

    private fun tryLock(file: RandomAccessFile): FileLock? =
        try {
            file.channel.tryLock()
        } catch (_: OverlappingFileLockException) {
            // Another thread of this process has it.
            null
        }

    /** One call's work on one file. */
    private inner class Attempt(
        private val source: ModelSource,
        target: File,
        private val requests: Requests,
        private val open: (URL) -> HttpURLConnection,
        private val progress: (Progress) -> Unit,
    ) {
        private val part = PartialFile(target)

        suspend fun complete() {
            part.begin(source.url)
            receiveAll()
            progress(Progress.Checking)
            val context = coroutineContext
            val expected = (source.sha256 ?: part.sha256)?.lowercase()
            if (expected != null) {
                val found = part.digest { context.ensureActive() }
                if (found != expected) {
                    part.discard()
                    throw DownloadException.Damaged(source.name, expected, found)
                }
            }
            try {
                verify(part.file)
            } catch (error: CancellationException) {
                throw error
            } catch (error: Exception) {
                part.discard()
                throw DownloadException.NotAModel(source.name, error)
            }
            context.ensureActive()
            part.finish()
        }

        /** Connects until all bytes are here. */
        private suspend fun receiveAll() {
            var retries = 0
            var most = 0L
            while (!part.isWhole) {
                val error = try {
                    val unknown = connected()
                    if (unknown || part.isWhole) return
                    DownloadException.Interrupted(source.name, part.length, "the answer was too short")
                } catch (error: DownloadException) {
                    if (!error.transient) throw error
                    error
                }
                if (part.length > most) {
                    retries = 0
                    most = part.length
                }
                // A network that is not there does not come back within a second.
                if (error is DownloadException.Unreachable || retries == MOST_RETRIES) throw error
                delay(pause shl retries++)
            }
        }

        /** Receives what one connection brings; whether it ended a file of unknown length. */
        private suspend fun connected(): Boolean = coroutineScope {
            val connection = AtomicReference<HttpURLConnection>()
            // A read waits in the system, where only the end of its connection wakes it.
            val watch = launch {
                try {
                    awaitCancellation()
                } finally {
                    connection.get()?.disconnect()
                }
            }
            try {
                receive(connection::set)
            } catch (error: IOException) {
                ensureActive()
                throw error
            } finally {
                watch.cancel()
            }
        }

        private suspend fun receive(began: (HttpURLConnection) -> Unit): Boolean {
            // The end of a file of unknown length shows only in one piece.
            val from = if (part.size != null) part.length else 0
            val response = try {
                requests.get(source.url, from, part.validator.takeIf { from > 0 }, open, began)
            } catch (error: IOException) {
                throw DownloadException.Unreachable(source.url, error)
            }
            coroutineContext.ensureActive()
            val same = part.version != null && response.version == part.version
            when (response.status) {
                Requests.OK -> restart(response)
                Requests.PARTIAL ->
                    if (!same || response.first != from) again("another part of the file came than was asked for")
                Requests.UNSATISFIABLE -> again("the file has fewer bytes than have arrived")
                else -> throw DownloadException.Refused(source.url, response.status)
            }
            return append(response)
        }

        /** Drops what is here and has the next connection bring the file from its start. */
        private fun again(reason: String): Nothing {
            part.discard()
            throw DownloadException.Interrupted(source.name, 0, reason)
        }

        private fun restart(response: Response) {
            val announced = response.sha256?.lowercase()
            val expected = source.sha256?.lowercase()
            if (expected != null && announced != null && announced != expected) {
                part.discard()
                throw DownloadException.Damaged(source.name, expected, announced)
            }
            part.restart(source.url, response)
        }

        private suspend fun append(response: Response): Boolean {
            val context = coroutineContext
            var done = part.length
            val size = part.size
            size?.let { makeRoom(it - done) }
            progress(Progress.Receiving(done, size))
            val input = broken { response.connection.inputStream }
            part.append().use { file ->
                val buffer = ByteArray(BUFFER)
                while (true) {
                    context.ensureActive()
                    val read = broken { input.read(buffer) }
                    if (read < 0) break
                    done += read
                    if (size != null && done > size) again("more bytes came than the file has")
                    part.disk { file.write(buffer, 0, read) }
                    progress(Progress.Receiving(done, size))
                }
            }
            input.close()
            return size == null
        }

        private fun makeRoom(needed: Long) {
            val free = free(part.file.absoluteFile.parentFile ?: part.file)
            if (needed > free) throw DownloadException.NoSpace(needed, free)
        }

        /** Runs [work], whose errors are the connection's. */
        private inline fun <T> broken(work: () -> T): T =
            try {
                work()
            } catch (error: IOException) {
                throw DownloadException.Interrupted(source.name, part.length, error.message ?: "$error")
            }
    }

    internal companion object {
        const val LOCK = ".lock"
        private const val LOCK_POLL = 200L
        private const val MOST_RETRIES = 5
        private const val BUFFER = 128 shl 10
    }
}
