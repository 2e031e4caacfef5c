package ai.thimble.download

import java.io.File
import java.io.IOException

/** Why a download ended early, by what an app would do. What has arrived is kept, except where it is wrong. */
sealed class DownloadException(message: String, cause: Throwable? = null) : IOException(message, cause) {
    /** No connection to the server. The system tries again when there is a network. */
    class Unreachable(url: String, cause: IOException) :
        DownloadException("the server of $url cannot be reached (${cause.message ?: cause})", cause)

    /** The connection broke repeatedly without bringing anything new. */
    class Interrupted(name: String, val kept: Long, reason: String) :
        DownloadException("the download of $name was interrupted ($reason); $kept bytes are kept and it can resume")

    /** The server answered with an error status of HTTP. */
    class Refused(url: String, val status: Int) :
        DownloadException("the server answered $status for $url: ${advice(status)}")

    /** The bytes have another SHA-256 than expected; they were deleted. */
    class Damaged(name: String, expected: String, found: String) :
        DownloadException("$name is damaged: its SHA-256 is $found, expected $expected; download it again")

    /** The file is no model that this version of the library can open; it was deleted. */
    class NotAModel(name: String, cause: Throwable) :
        DownloadException("$name is not a model that can be used: ${cause.message ?: cause}", cause)

    /** Fewer than [needed] more bytes are free on the device. */
    class NoSpace(val needed: Long, val free: Long) :
        DownloadException("$needed more bytes are needed, $free are free; delete something")

    /** The file cannot be written. */
    class Disk(file: File, cause: IOException) :
        DownloadException("cannot write $file: ${cause.message ?: cause}", cause)

    /** Whether the same download may succeed later without anybody's doing. */
    internal val transient: Boolean
        get() = this is Unreachable || this is Interrupted || this is Refused && isRetryable(status)

    private companion object {
        fun advice(status: Int): String =
            when (status) {
                401, 403 -> "it is private or asks for a licence to be accepted; set a token that may read it"
                404 -> "there is no such file; check the address"
                else -> "try again later"
            }
    }
}

/** Whether a server may answer soon after this status. */
internal fun isRetryable(status: Int): Boolean = status == 429 || status >= 500
