package ai.thimble.download

import java.io.IOException
import java.net.HttpURLConnection
import java.net.URI
import java.net.URL

/** An open response, with what the servers on the way to it said of the file. */
internal class Response(
    val connection: HttpURLConnection,
    val status: Int,
    /** Tells versions of the file apart: its ETag without quotes, or else the time of its last change. */
    val version: String?,
    /** A validator that `If-Range` takes at the server that sends the bytes. */
    val validator: String?,
    /** The SHA-256 that a hub announces. */
    val sha256: String?,
    /** Bytes of the whole file. */
    val size: Long?,
    /** First byte of the file in this answer. */
    val first: Long?,
)

/** How long requests wait, in milliseconds. */
class Timeouts(val connect: Int = 15_000, val read: Int = 60_000)

/** Sends requests, follows redirects, and gives the token to the first server alone. */
internal class Requests(private val timeouts: Timeouts, private val token: String?) {
    /**
     * Asks for the bytes of [url] from [from] on: of the whole file again where [validator] is no longer true.
     *
     * @param began is given each connection before anything is sent, so that it can be disconnected
     */
    fun get(
        url: String,
        from: Long,
        validator: String?,
        open: (URL) -> HttpURLConnection,
        began: (HttpURLConnection) -> Unit,
    ): Response {
        val origin = URI(url)
        var next = origin
        var version: String? = null
        var sha256: String? = null
        var size: Long? = null
        repeat(MOST_REDIRECTS + 1) {
            val ours = sameOrigin(origin, next)
            val connection = open(next.toURL())
            began(connection)
            prepare(connection, if (ours) token else null)
            if (from > 0) {
                connection.setRequestProperty("Range", "bytes=$from-")
                validator?.let { connection.setRequestProperty("If-Range", it) }
            }
            val status = connection.responseCode
            // -1 where what comes is not HTTP.
            if (status < 0) throw IOException("the answer is not HTTP")
            val etag = connection.getHeaderField("ETag")
            val linked = connection.getHeaderField("X-Linked-ETag")
            // The hub's ETag counts: the storage behind it has another one.
            val named = plain(linked ?: etag)
            version = if (ours) named ?: version else version ?: named
            val isHub = linked != null || connection.getHeaderField("X-Repo-Commit") != null
            if (ours && isHub) sha256 = named?.takeIf(ModelSource.SHA256::matches) ?: sha256
            size = size ?: connection.getHeaderField("X-Linked-Size")?.toLongOrNull()
            val location = connection.getHeaderField("Location")
            if (status !in REDIRECTS || location == null) {
                val changed = connection.getHeaderField("Last-Modified")
                val range = contentRange(connection)
                val whole = connection.getHeaderField("Content-Length")?.toLongOrNull().takeIf { status == OK }
                return Response(
                    connection, status, version ?: changed, etag?.takeUnless { it.startsWith("W/") } ?: changed,
                    sha256, size ?: range?.second ?: whole, range?.first,
                )
            }
            connection.disconnect()
            next = target(next, location)
        }
        throw IOException("more than $MOST_REDIRECTS redirects")
    }

    private fun prepare(connection: HttpURLConnection, token: String?) {
        connection.connectTimeout = timeouts.connect
        connection.readTimeout = timeouts.read
        // Followed here, to keep the token from other servers.
        connection.instanceFollowRedirects = false
        connection.useCaches = false
        connection.setRequestProperty("User-Agent", "thimble")
        // A compressed answer could not be resumed.
        connection.setRequestProperty("Accept-Encoding", "identity")
        token?.let { connection.setRequestProperty("Authorization", "Bearer $it") }
    }

    companion object {
        const val OK = 200
        const val PARTIAL = 206
        const val UNSATISFIABLE = 416
        private const val MOST_REDIRECTS = 10
        private val REDIRECTS = setOf(301, 302, 303, 307, 308)

        private fun plain(etag: String?): String? =
            etag?.removePrefix("W/")?.replace("\"", "")?.trim()?.takeIf { it.isNotEmpty() }

        /** First byte and total of `bytes FIRST-LAST/TOTAL`, or no first byte where the range is a star (RFC 9110, 14.4). */
        private fun contentRange(connection: HttpURLConnection): Pair<Long?, Long?>? {
            val text = connection.getHeaderField("Content-Range")?.trim() ?: return null
            val (range, total) = text.removePrefix("bytes").trim().split('/').takeIf { it.size == 2 } ?: return null
            return range.substringBefore('-').trim().toLongOrNull() to total.trim().toLongOrNull()
        }

        private fun target(base: URI, location: String): URI {
            val to = try {
                base.resolve(location.substringBefore('#'))
            } catch (error: IllegalArgumentException) {
                throw IOException("the server redirects to \"$location\", which is no address", error)
            }
            if (to.scheme?.lowercase() !in setOf("http", "https") || to.host == null) {
                throw IOException("the server redirects to \"$location\", expected an address with http or https")
            }
            return to
        }

        /** Scheme, host and port are the same, or only http became https. */
        internal fun sameOrigin(first: URI, other: URI): Boolean {
            fun port(uri: URI) = if (uri.port >= 0) uri.port else if (uri.scheme.equals("https", true)) 443 else 80
            val upgraded = first.scheme.equals("http", true) && other.scheme.equals("https", true) &&
                port(first) == 80 && port(other) == 443
            val same = first.scheme.equals(other.scheme, true) && port(first) == port(other)
            return first.host.equals(other.host, true) && (same || upgraded)
        }
    }
}
