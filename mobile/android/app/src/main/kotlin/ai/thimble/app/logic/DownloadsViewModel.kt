package ai.thimble.app.logic

import ai.thimble.download.AllowedNetwork
import ai.thimble.download.Download
import ai.thimble.download.DownloadState
import ai.thimble.download.ModelDownloads
import ai.thimble.download.ModelSource
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.SharingStarted
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.combine
import kotlinx.coroutines.flow.distinctUntilChanged
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.flow.stateIn
import kotlinx.coroutines.launch
import java.io.File

/** Everything that the screen of downloads shows. */
data class DownloadsState(
    val models: List<DownloadRow> = emptyList(),
    /** Downloads wait for a network that costs nothing by the byte. */
    val wifiOnly: Boolean = true,
    /** The address that was written is none. */
    val badAddress: Boolean = false,
)

/** A model that is offered, on its way, or here. */
data class DownloadRow(val source: ModelSource, val title: String, val bytes: Long?, val status: DownloadStatus)

/** Whether a model is here. */
sealed interface DownloadStatus {
    /** It can be downloaded. */
    data object Offered : DownloadStatus

    /** It is on its way. */
    data class Coming(val state: DownloadState) : DownloadStatus

    /** It is here, and [used] for chats. */
    data class Here(val used: Boolean) : DownloadStatus
}

/** Models to download: those of the catalogue, and others by their address. Call it on the thread of [scope]. */
class DownloadsViewModel(
    private val downloads: ModelDownloads,
    private val catalogue: Catalogue,
    private val chats: ChatViewModel,
    private val scope: CoroutineScope,
) {
    private val badAddress = MutableStateFlow(false)

    /** What the screen shows. */
    val state: StateFlow<DownloadsState> =
        combine(downloads.downloads, chats.state.map { it.settings }.distinctUntilChanged(), badAddress) { all, settings, bad ->
            DownloadsState(rows(all, settings.model), settings.wifiOnly, bad)
        }.stateIn(scope, SharingStarted.Eagerly, DownloadsState())

    init {
        scope.launch {
            var before = emptySet<String>()
            downloads.downloads.collect { all ->
                val finished = all.filter { it.state is DownloadState.Finished }.map { it.source.fileName }.toSet()
                (finished - before).lastOrNull()?.let(::arrived)
                before = finished
            }
        }
    }

    private fun rows(all: List<Download>, used: String): List<DownloadRow> {
        val offered = catalogue.offers.map { it.source.name }.toSet()
        val others = all.filter { it.source.name !in offered }.map { row(it.source, it.source.name, null, it, used) }
        return catalogue.offers.map { offer ->
            val download = all.firstOrNull { it.source.name == offer.source.name }
            row(offer.source, offer.title, offer.bytes, download, used)
        } + others
    }

    private fun row(source: ModelSource, title: String, bytes: Long?, download: Download?, used: String): DownloadRow {
        val file = File(downloads.folder, source.fileName)
        val state = download?.state
        val status = when {
            file.isFile -> DownloadStatus.Here(used == source.fileName)
            state == null || state is DownloadState.Finished -> DownloadStatus.Offered
            else -> DownloadStatus.Coming(state)
        }
        return DownloadRow(source, title, if (file.isFile) file.length() else bytes, status)
    }

    /** The first model is used at once; another one waits to be chosen. */
    private fun arrived(fileName: String) {
        if (chats.state.value.model !is ModelState.Ready) use(fileName)
    }

    private fun use(fileName: String) = chats.chooseModel(fileName)

    /** Begins a download, or continues it. */
    fun download(source: ModelSource) = downloads.start(source, network())

    /** Begins a download of the file at an address; whether it is one. Its last part is the model's name. */
    fun download(address: String): Boolean {
        val url = address.trim()
        val file = url.substringBefore('?').substringBefore('#').substringAfterLast('/')
        val source = try {
            require(file.endsWith(ModelSource.SUFFIX))
            ModelSource(file.removeSuffix(ModelSource.SUFFIX).replace("--", "/"), url)
        } catch (_: IllegalArgumentException) {
            null
        }
        badAddress.value = source == null
        source?.let(::download)
        return source != null
    }

    /** Lets a download wait. */
    fun pause(row: DownloadRow) = downloads.pause(row.source.name)

    /** Deletes what has arrived, or the model. */
    fun delete(row: DownloadRow) {
        scope.launch {
            downloads.delete(row.source.name)
            if (chats.state.value.settings.model == row.source.fileName) chats.deleteModel(row.source.fileName)
        }
    }

    /** Goes on with this model. */
    fun use(row: DownloadRow) = use(row.source.fileName)

    /** Also downloads that wait now follow it. */
    fun setWifiOnly(on: Boolean) {
        chats.changeSettings(chats.state.value.settings.copy(wifiOnly = on))
        downloads.downloads.value.filter { it.state is DownloadState.Waiting || it.state is DownloadState.Running }
            .forEach { downloads.resume(it.source.name, network()) }
    }

    private fun network(): AllowedNetwork =
        if (chats.state.value.settings.wifiOnly) AllowedNetwork.UNMETERED else AllowedNetwork.ANY
}
