package ai.thimble.app.logic

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.OutputStream

/** How a file is named until it is whole. */
internal const val PART = ".part"

/** Writes a file so that it is there whole or as it was: beside it, to disk, then in its place. */
internal inline fun File.writeWhole(write: (OutputStream) -> Unit) {
    val part = File(path + PART)
    try {
        FileOutputStream(part).use { stream ->
            write(stream)
            stream.flush()
            stream.fd.sync()
        }
        if (!part.renameTo(this)) throw IOException("cannot rename $part to $this")
    } finally {
        part.delete()
    }
}

/** The folder, made where it is missing. */
internal fun File.made(): File = apply { mkdirs() }
