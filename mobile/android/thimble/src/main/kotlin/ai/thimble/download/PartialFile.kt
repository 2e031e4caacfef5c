package ai.thimble.download

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.RandomAccessFile
import java.security.MessageDigest
import java.util.Properties

/** What has arrived of a file, and of which version of it; survives the process. */
internal class PartialFile(private val target: File) {
    private val bytes = File(target.path + BYTES)
    private val notes = File(target.path + NOTES)

    /** The version of the file that the bytes belong to; `null` where it is unknown, and they cannot be continued. */
    var version: String? = null
        private set
    var validator: String? = null
        private set
    var sha256: String? = null
        private set

    /** Bytes of the whole file. */
    var size: Long? = null
        private set

    /** Bytes that are here. */
    val length: Long get() = bytes.length()

    val isWhole: Boolean get() = size == length && bytes.isFile

    /** Takes up what an earlier attempt from the same [url] left, or begins. */
    fun begin(url: String) {
        val text = Properties()
        runCatching { notes.reader().use(text::load) }
        version = text.getProperty("version")
        validator = text.getProperty("validator")
        sha256 = text.getProperty("sha256")
        size = text.getProperty("size")?.toLongOrNull()
        val usable = text.getProperty("url") == url && version != null && size != null
        if (!usable || length > checkNotNull(size)) discard()
    }

    /** Empties it for another version of the file. */
    fun restart(url: String, response: Response) = disk {
        discard()
        version = response.version
        validator = response.validator
        sha256 = response.sha256
        size = response.size
        target.absoluteFile.parentFile?.mkdirs()
        val text = Properties()
        text["url"] = url
        version?.let { text["version"] = it }
        validator?.let { text["validator"] = it }
        sha256?.let { text["sha256"] = it }
        size?.let { text["size"] = "$it" }
        notes.writer().use { text.store(it, null) }
        FileOutputStream(bytes).close()
    }

    fun append(): RandomAccessFile = disk { RandomAccessFile(bytes, "rw").apply { seek(length()) } }

    /** The SHA-256 of what is here, in hexadecimal; [piece] is called between pieces. */
    fun digest(piece: () -> Unit): String {
        val digest = MessageDigest.getInstance("SHA-256")
        disk { bytes.inputStream() }.use { input ->
            val buffer = ByteArray(DIGEST_BUFFER)
            while (true) {
                piece()
                val read = disk { input.read(buffer) }
                if (read < 0) break
                digest.update(buffer, 0, read)
            }
        }
        return digest.digest().joinToString("") { "%02x".format(it) }
    }

    /** The bytes, to be looked at before [finish]. */
    val file: File get() = bytes

    /** Puts the file in its place, where it appears whole. */
    fun finish() = disk {
        RandomAccessFile(bytes, "rw").use { it.fd.sync() }
        if (!bytes.renameTo(target)) throw IOException("cannot rename $bytes to $target")
        notes.delete()
    }

    /** Deletes what is here. */
    fun discard() {
        bytes.delete()
        notes.delete()
        version = null
        validator = null
        sha256 = null
        size = null
    }

    /** Runs [work], whose errors are the disk's. */
    inline fun <T> disk(work: () -> T): T =
        try {
            work()
        } catch (error: IOException) {
            throw DownloadException.Disk(bytes, error)
        }

    companion object {
        const val BYTES = ".download"
        const val NOTES = ".download.properties"
        private const val DIGEST_BUFFER = 1 shl 18
    }
}
