package ai.thimble.app.logic

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.withContext
import java.io.File
import java.io.IOException
import java.io.InputStream

/** A model file that can be opened. */
data class SavedModel(val name: String, val bytes: Long)

/** A file somewhere else that may be a model. */
class Source(
    /** How it is named there. */
    val name: String,
    /** Its length, where that is known. */
    val bytes: Long?,
    /** Opens it. */
    val open: () -> InputStream,
)

/** The device has not enough room. */
class NoSpaceException(val needed: Long, val free: Long) : IOException("$needed bytes are needed, $free are free")

/** The models that were imported. */
class ModelFolder(private val folder: File) {
    init {
        // What an import left when the app was killed.
        folder.made().listFiles { file -> file.name.endsWith(PART) }?.forEach { it.delete() }
    }

    /** All models by name. */
    fun list(): List<SavedModel> =
        folder.listFiles { file -> file.isFile && file.name.endsWith(SUFFIX) }.orEmpty()
            .map { SavedModel(it.name, it.length()) }.sortedBy { it.name.lowercase() }

    /** Where the model of this name is. */
    fun file(name: String): File = File(folder, name)

    /** Deletes a model, if it exists. */
    fun delete(name: String) {
        file(name).delete()
    }

    /**
     * Copies a model here, atomically, and returns its name; a model of the same name is kept beside it.
     *
     * [progress] hears how many bytes there are, [check] looks at the copy and throws where it is no model. A cancelled
     * coroutine leaves nothing behind.
     */
    suspend fun import(source: Source, progress: (Long) -> Unit, check: suspend (File) -> Unit): String =
        withContext(Dispatchers.IO) {
            source.bytes?.let(::makeSure)
            val target = unused(source.name)
            val part = File(target.path + PART)
            try {
                part.outputStream().use { out ->
                    source.open().use { input ->
                        val buffer = ByteArray(BUFFER)
                        var done = 0L
                        while (true) {
                            coroutineContext.ensureActive()
                            val read = input.read(buffer)
                            if (read < 0) break
                            out.write(buffer, 0, read)
                            done += read
                            progress(done)
                        }
                    }
                    out.fd.sync()
                }
                check(part)
                coroutineContext.ensureActive()
                if (!part.renameTo(target)) throw IOException("cannot rename $part to $target")
            } finally {
                part.delete()
            }
            target.name
        }

    private fun makeSure(needed: Long) {
        val free = folder.usableSpace
        if (needed > free) throw NoSpaceException(needed, free)
    }

    /** A name that no file here has, of characters that every file system takes. */
    private fun unused(name: String): File {
        val clean = name.removeSuffix(SUFFIX).replace(Regex("[^\\p{L}\\p{N}._ -]"), "_").trim('.', ' ')
        val stem = clean.take(LONGEST_NAME).ifEmpty { "model" }
        return generateSequence(1) { it + 1 }
            .map { if (it == 1) stem else "$stem ($it)" }
            .map { file(it + SUFFIX) }
            .first { !it.exists() }
    }

    private companion object {
        const val SUFFIX = ".thimble"
        const val BUFFER = 1 shl 20
        const val LONGEST_NAME = 80
    }
}
