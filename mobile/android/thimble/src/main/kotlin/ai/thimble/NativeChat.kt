package ai.thimble

import ai.thimble.ffi.Answer
import ai.thimble.ffi.Listener
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.withContext
import java.util.concurrent.ConcurrentHashMap

internal class NativeChat(private val chat: ai.thimble.ffi.Chat) : Chat {
    /** Listeners of answers that the worker has not finished. */
    private val listeners: MutableSet<EventListener> = ConcurrentHashMap.newKeySet()

    @Volatile
    override var reply: Reply? = null
        private set

    override fun stream(text: String, options: AnswerOptions): Flow<Event> = answer { chat.send(text, it, options) }

    override fun retry(options: AnswerOptions): Flow<Event> = answer { chat.retry(it, options) }

    override fun sendToolResults(results: List<ToolResult>, options: AnswerOptions): Flow<Event> =
        answer { chat.sendToolResults(results, it, options) }

    /** No answer waits here for an earlier one: the worker's queue keeps the order. */
    private fun answer(begin: (Listener) -> Answer): Flow<Event> = flow {
        val listener = EventListener(listeners::remove)
        listeners += listener
        val answer = try {
            begin(listener)
        } catch (error: Throwable) {
            listener.end()
            throw error
        }
        answer.use { listener.passTo(this, answer::cancel) }
    }.onEach { if (it is Event.End) reply = it.reply }

    @Volatile
    private var closed = false

    /** The platform's requests may come late: a closed chat ignores them. */
    private inline fun unlessClosed(work: () -> Unit) {
        try {
            if (!closed) work()
        } catch (error: IllegalStateException) {
            if (!closed) throw error
        }
    }

    override fun cancel() = unlessClosed { chat.cancel() }

    override val history: List<Message> get() = chat.history()

    override val unanswered: String? get() = chat.unanswered()

    override val stats: Stats get() = chat.stats()

    override suspend fun save(path: String) = withContext(Dispatchers.IO) { chat.save(path) }

    override suspend fun restore(path: String) = withContext(Dispatchers.IO) { chat.restore(path) }

    override fun clear() = chat.clear()

    override fun pause() = unlessClosed { chat.pause() }

    override fun resume() = unlessClosed { chat.resume() }

    override fun savePower(save: Boolean) = unlessClosed { chat.savePower(save) }

    override fun freeMemory() = unlessClosed { chat.freeMemory() }

    override fun close() {
        closed = true
        chat.close()
    }

    override suspend fun closeAndJoin() {
        close()
        listeners.forEach { it.join() }
    }
}
