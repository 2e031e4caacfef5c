package ai.thimble.download

import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import java.net.InetSocketAddress
import java.util.concurrent.CopyOnWriteArrayList
import java.util.concurrent.Executors

/** A web server with one file, on this machine; each answer can be spoilt. */
class FileServer(@Volatile var content: ByteArray) : AutoCloseable {
    /** What was asked: path, range, validator and token. */
    data class Asked(val path: String, val range: String?, val validator: String?, val token: String?)

    val asked = CopyOnWriteArrayList<Asked>()

    /** Answers in place of the file, if it returns true; the second argument counts requests from 1. */
    @Volatile
    var instead: (HttpExchange, Int) -> Boolean = { _, _ -> false }

    @Volatile
    var etag: String? = "\"v1\""

    /** Whether it knows ranges. */
    @Volatile
    var ranges = true

    /** Bytes after which the answer to a request breaks, by its number. */
    @Volatile
    var breaksAfter: (Int) -> Int? = { null }

    /** Whether answers say how long they are. */
    @Volatile
    var lengths = true

    private val threads = Executors.newCachedThreadPool()
    private val server = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0).apply {
        executor = threads
        createContext("/") { exchange ->
            try {
                answer(exchange)
                exchange.close()
            } catch (_: java.io.IOException) {
                // The client has left.
                exchange.close()
            }
        }
        start()
    }

    val address = "http://127.0.0.1:${server.address.port}"

    private fun answer(exchange: HttpExchange) {
        val headers = exchange.requestHeaders
        val range = headers.getFirst("Range")
        val validator = headers.getFirst("If-Range")
        synchronized(asked) {
            asked += Asked(exchange.requestURI.toString(), range, validator, headers.getFirst("Authorization"))
        }
        val number = asked.size
        if (instead(exchange, number)) return
        etag?.let { exchange.responseHeaders.add("ETag", it) }
        val from = range?.takeIf { ranges && (validator == null || validator == etag) }
            ?.removePrefix("bytes=")?.removeSuffix("-")?.toInt() ?: 0
        if (from > 0 && from >= content.size) {
            exchange.responseHeaders.add("Content-Range", "bytes */${content.size}")
            return exchange.sendResponseHeaders(416, -1)
        }
        if (from > 0) {
            exchange.responseHeaders.add("Content-Range", "bytes $from-${content.size - 1}/${content.size}")
        }
        exchange.sendResponseHeaders(if (from > 0) 206 else 200, if (lengths) (content.size - from).toLong() else 0)
        val most = breaksAfter(number) ?: Int.MAX_VALUE
        exchange.responseBody.write(content, from, minOf(content.size - from, most))
        exchange.responseBody.flush()
        // The server cuts the connection of a handler that throws, where it would end the answer of one that returns.
        check(most >= content.size - from) { "broken by the test" }
        exchange.responseBody.close()
    }

    override fun close() {
        server.stop(0)
        threads.shutdownNow()
    }

    companion object {
        /** Answers with this status and these headers, and nothing else. */
        fun HttpExchange.status(status: Int, vararg headers: Pair<String, String>): Boolean {
            headers.forEach { (name, value) -> responseHeaders.add(name, value) }
            sendResponseHeaders(status, -1)
            return true
        }
    }
}
