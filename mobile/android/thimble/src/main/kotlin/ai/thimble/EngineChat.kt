package ai.thimble

import ai.thimble.ffi.Listener
import ai.thimble.ffi.ListenerException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
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
            try {
                for (event in speaker.events) {
                    if (event is Event.End) reply = event.reply
                    emit(event)
                }
            } finally {
                if (speaker.hushed()) stop()
            }
        }
    }

    private fun stop() {
        try {
            chat.cancel()
        } catch (_: IllegalStateException) {
            // Closed meanwhile, which stops it too.
        }
    }

    override fun cancel() = chat.cancel()

    override val history: List<Message> get() = chat.history()

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

/** Carries one answer from the engine's thread to the coroutine that collects it. The engine never waits for that. */
private class Speaker : Listener {
    /** No longer than the answer, which [ChatOptions.maxTokens] bounds. */
    val events = Channel<Event>(Channel.UNLIMITED)

    @Volatile
    private var over = false

    override fun onPiece(text: String) = tell(Event.Piece(text))

    override fun onProgress(done: UInt, of: UInt) = tell(Event.Reading(done.toInt(), of.toInt()))

    override fun onEnd(reply: Reply) {
        over = true
        events.trySend(Event.End(reply))
        events.close()
    }

    override fun onError(error: ThimbleException) {
        over = true
        events.close(error)
    }

    /** Ends listening; whether the engine is still answering. */
    fun hushed(): Boolean {
        events.cancel()
        return !over
    }

    private fun tell(event: Event) {
        if (events.trySend(event).isFailure) throw ListenerException.Failed("nobody collects the answer any more")
    }
}
