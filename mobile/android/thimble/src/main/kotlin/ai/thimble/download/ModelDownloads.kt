package ai.thimble.download

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.job
import kotlinx.coroutines.withContext
import java.io.File
import java.net.HttpURLConnection
import java.net.URL

/** A model that is whole and checked. */
data class DownloadedModel(val name: String, val file: File, val bytes: Long)

/** A download and how far it is. */
data class Download(val source: ModelSource, val network: AllowedNetwork, val state: DownloadState)

/** Which network a download may use. */
enum class AllowedNetwork {
    /** One that costs nothing by the byte, which is most Wi-Fi. */
    UNMETERED,

    /** Any, also the phone's plan. */
    ANY,
}

/** What a download does. */
sealed interface DownloadState {
    /** It begins once the system has a network for it. [done] bytes are here. */
    data class Waiting(val done: Long) : DownloadState

    /** [done] bytes are here, of [of] where that is known. */
    data class Running(val done: Long, val of: Long?) : DownloadState

    /** All bytes are here and are checked. */
    data object Checking : DownloadState

    /** It waits for [ModelDownloads.resume]. */
    data class Paused(val done: Long) : DownloadState

    /** It failed and waits for [ModelDownloads.resume]. */
    data class Failed(val error: DownloadException) : DownloadState

    /** The model is there. */
    data class Finished(val file: File) : DownloadState
}

/** Runs downloads when there is a network: Android's JobScheduler, see `ai.thimble.android`. */
interface DownloadScheduler {
    /** Calls [ModelDownloads.run] with the name soon, also from another process; does nothing where it is waiting. */
    fun schedule(download: Download)

    /** Undoes [schedule]. */
    fun cancel(name: String)
}

/**
 * The models of a folder and the downloads that bring more. What was asked for is on disk, and outlives the process.
 *
 * Every member may be called from any thread. Members that return nothing access the disk for moments.
 */
class ModelDownloads(
    /** Where the models' files are, and parts of files. */
    val folder: File,
    private val scheduler: DownloadScheduler,
    private val downloader: Downloader = Downloader(),
) {
    /** Of those that were asked for; their lock is this object's. */
    private val requests = DownloadRequests(folder)
    private val running = mutableMapOf<String, Job>()
    private val shown = MutableStateFlow(requests.all().map { Download(it.source, it.network, it.state()) })

    /** Downloads that are not finished, and those that finished since this object was made; in the order of [start]. */
    val downloads: StateFlow<List<Download>> = shown.asStateFlow()

    /** A token for private files, sent to the server of each source alone. Not written to disk. */
    @Volatile
    var token: String? = null

    init {
        // A system that was started anew has forgotten them.
        shown.value.filter { it.state is DownloadState.Waiting }.forEach(scheduler::schedule)
    }

    /** Models that are whole, by name. */
    fun models(): List<DownloadedModel> =
        folder.listFiles { file -> file.isFile && file.name.endsWith(ModelSource.SUFFIX) }.orEmpty()
            .map { DownloadedModel(it.name.removeSuffix(ModelSource.SUFFIX).replace("--", "/"), it, it.length()) }
            .sortedBy { it.name.lowercase() }

    /**
     * Begins a download, or another try of one; from another address it starts over. A model that is there stays.
     *
     * @throws DownloadException.Disk
     */
    @Synchronized
    fun start(source: ModelSource, network: AllowedNetwork = AllowedNetwork.UNMETERED) {
        val file = File(folder, source.fileName)
        if (file.isFile) return show(Download(source, network, DownloadState.Finished(file)))
        val request = DownloadRequest(source, network, paused = false)
        stop(source.name)
        requests.write(request)
        val download = Download(source, network, request.state())
        show(download)
        scheduler.schedule(download)
    }

    /** Lets a download wait; what has arrived is kept. */
    @Synchronized
    fun pause(name: String) {
        val request = requests.read(name) ?: return
        stop(name)
        val paused = request.copy(paused = true)
        requests.write(paused)
        show(Download(request.source, request.network, paused.state()))
    }

    /** Continues a download that was paused or failed, on the same networks unless others are given. */
    @Synchronized
    fun resume(name: String, network: AllowedNetwork? = null) {
        val request = requests.read(name) ?: return
        start(request.source, network ?: request.network)
    }

    /** Deletes a model, and a download with all that has arrived of it, once its last connection has ended. */
    suspend fun delete(name: String) {
        val stopped = synchronized(this) { stop(name) }
        stopped?.join()
        withContext(Dispatchers.IO) { forget(name) }
    }

    @Synchronized
    private fun forget(name: String) {
        requests.delete(name)
        File(folder, ModelSource.fileName(name)).delete()
        shown.value = shown.value.filter { it.source.name != name }
    }

    private fun stop(name: String): Job? {
        scheduler.cancel(name)
        return running.remove(name)?.apply { cancel() }
    }

    /**
     * Works on a download until it ends. For the scheduler, and for an app that downloads while a screen is open.
     *
     * @return whether it should run again later: the network or the server is gone for now
     */
    suspend fun run(
        name: String,
        open: (URL) -> HttpURLConnection = { it.openConnection() as HttpURLConnection },
    ): Boolean = coroutineScope {
        val job = coroutineContext.job
        val request = synchronized(this@ModelDownloads) {
            requests.read(name)?.takeUnless { it.paused || name in running }?.also { running[name] = job }
        }
        if (request == null) return@coroutineScope false
        fun tell(state: DownloadState) = synchronized(this@ModelDownloads) {
            // One that was stopped says nothing more.
            if (running[name] === job) show(Download(request.source, request.network, state))
        }
        try {
            val file = downloader.download(request.source, folder, token, open) { tell(it.state(request)) }
            ensureActive()
            synchronized(this@ModelDownloads) {
                if (running[name] === job) requests.delete(name)
                tell(DownloadState.Finished(file))
            }
            false
        } catch (error: CancellationException) {
            tell(request.state())
            throw error
        } catch (error: DownloadException) {
            synchronized(this@ModelDownloads) {
                if (running[name] !== job) return@coroutineScope false
                // So that it does not fail again with the next start; on a full disk it may.
                if (!error.transient) runCatching { requests.write(request.copy(paused = true)) }
                tell(if (error.transient) request.state() else DownloadState.Failed(error))
            }
            error.transient
        } finally {
            synchronized(this@ModelDownloads) { running.remove(name, job) }
        }
    }

    private fun Progress.state(request: DownloadRequest): DownloadState =
        when (this) {
            Progress.Waiting -> request.state()
            is Progress.Receiving -> DownloadState.Running(done, of)
            Progress.Checking -> DownloadState.Checking
        }

    private fun DownloadRequest.state(): DownloadState {
        val done = requests.done(source.name)
        return if (paused) DownloadState.Paused(done) else DownloadState.Waiting(done)
    }

    @Synchronized
    private fun show(download: Download) {
        val name = download.source.name
        val all = shown.value
        val known = all.any { it.source.name == name }
        shown.value = if (known) all.map { if (it.source.name == name) download else it } else all + download
    }
}
