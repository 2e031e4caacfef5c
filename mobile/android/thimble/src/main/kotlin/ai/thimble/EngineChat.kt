package ai.thimble

import ai.thimble.ffi.Listener
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext

internal class EngineChat(private val chat: ai.thimble.ffi.Chat) : Chat {
    /** Held by the flow whose answer the engine makes, so that stopping that answer stops no other. */
    private val turn = Mutex()

    @Volatile
    override var reply: Reply? = null
        private set

    override fun stream(text: String): Flow<Event> = answer { chat.send(text, it) }

    override fun retry(): Flow<Event> = answer { chat.retry(it) }

    private fun answer(begin: (Listener) -> Unit): Flow<Event> = flow {
        turn.withLock {
            val speaker = Speaker()
            begin(speaker)
            speaker.passTo(this, ::stop)
        }
    }.onEach { if (it is Event.End) reply = it.reply }

    private fun stop() {
        try {
            chat.cancel()
        } catch (_: IllegalStateException) {
            // Closed meanwhile, which stops it too.
        }
    }

    override fun cancel() = chat.cancel()

    override val history: List<Message> get() = chat.history()

    override val unanswered: String? get() = chat.unanswered()

    override val stats: Stats get() = chat.stats()

    override suspend fun save(path: String) = withContext(Dispatchers.IO) { chat.save(path) }

    override suspend fun restore(path: String) = withContext(Dispatchers.IO) { chat.restore(path) }

    override fun clear() = chat.clear()

    override fun pause() = chat.pause()

    override fun resume() = chat.resume()

    override fun savePower(save: Boolean) = chat.savePower(save)

    override fun freeMemory() = chat.freeMemory()

    override fun close() = chat.close()
}
