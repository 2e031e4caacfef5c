package ai.thimble.download

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.util.Properties

/** A download that was asked for. */
internal data class DownloadRequest(val source: ModelSource, val network: AllowedNetwork, val paused: Boolean)

/** The requests of a folder, a file for each beside what has arrived. */
internal class DownloadRequests(private val folder: File) {
    /** All requests, the oldest first. What cannot be understood is left out. */
    fun all(): List<DownloadRequest> =
        folder.listFiles { file -> file.name.endsWith(ENDING) }.orEmpty()
            .sortedWith(compareBy({ it.lastModified() }, { it.name })).mapNotNull(::read)

    fun read(name: String): DownloadRequest? = read(file(name))

    private fun read(file: File): DownloadRequest? {
        val text = Properties()
        return try {
            file.reader().use(text::load)
            val source = ModelSource(
                checkNotNull(text.getProperty("name")),
                checkNotNull(text.getProperty("url")),
                text.getProperty("sha256"),
            )
            val network = AllowedNetwork.valueOf(checkNotNull(text.getProperty("network")))
            DownloadRequest(source, network, text.getProperty("paused").toBoolean())
        } catch (_: IOException) {
            null
        } catch (_: RuntimeException) {
            // Properties, ModelSource and valueOf refuse what this class did not write.
            null
        }
    }

    /** Keeps a request, atomically. */
    fun write(request: DownloadRequest) {
        val text = Properties()
        text["name"] = request.source.name
        text["url"] = request.source.url
        request.source.sha256?.let { text["sha256"] = it }
        text["network"] = request.network.name
        text["paused"] = "${request.paused}"
        folder.mkdirs()
        val file = file(request.source.name)
        val written = File(file.path + ".new")
        try {
            FileOutputStream(written).use {
                text.store(it, null)
                it.fd.sync()
            }
            if (!written.renameTo(file)) throw IOException("cannot rename $written to $file")
        } catch (error: IOException) {
            throw DownloadException.Disk(file, error)
        }
    }

    /** Forgets a request, and deletes what has arrived. */
    fun delete(name: String) {
        file(name).delete()
        part(name, PartialFile.BYTES).delete()
        part(name, PartialFile.NOTES).delete()
    }

    /** Bytes that have arrived. */
    fun done(name: String): Long = part(name, PartialFile.BYTES).length()

    private fun file(name: String) = part(name, ENDING)

    private fun part(name: String, ending: String) = File(folder, ModelSource.fileName(name) + ending)

    private companion object {
        const val ENDING = ".request"
    }
}
