package ai.thimble

import ai.thimble.ffi.Answer
import ai.thimble.ffi.Listener
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.withContext
import java.util.concurrent.ConcurrentHashMap

internal class EngineChat(private val chat: ai.thimble.ffi.Chat) : Chat {
    /** Those whose answers the engine still makes, or has yet to make. */
    private val speakers: MutableSet<Speaker> = ConcurrentHashMap.newKeySet()

    @Volatile
    override var reply: Reply? = null
        private set

    override fun stream(text: String): Flow<Event> = answer { chat.send(text, it) }

    override fun retry(): Flow<Event> = answer { chat.retry(it) }

    /** Nothing waits for an answer before it: the engine's queue has the order. */
    private fun answer(begin: (Listener) -> Answer): Flow<Event> = flow {
        val speaker = Speaker(speakers::remove)
        speakers += speaker
        val answer = try {
            begin(speaker)
        } catch (error: Throwable) {
            speaker.end()
            throw error
        }
        answer.use { speaker.passTo(this, answer::cancel) }
    }.onEach { if (it is Event.End) reply = it.reply }

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

    override suspend fun closeAndJoin() {
        close()
        speakers.forEach { it.join() }
    }
}
