package ai.thimble

import ai.thimble.ffi.ApiException
import kotlinx.coroutines.flow.Flow

/**
 * A conversation with a model, on a thread of its own: no call here waits for the model.
 *
 * Every member may be called from any thread, and [close] at any time, also while an answer is made. Afterwards [cancel],
 * [pause], [resume], [savePower] and [freeMemory] do nothing; everything else throws an [IllegalStateException].
 */
interface Chat : AutoCloseable {
    /**
     * The answer to [text], piece by piece.
     *
     * The flow is cold: collecting it sends the message. Cancelling the collection, or throwing out of it, stops the
     * answer and nothing else; what was made of it is remembered. Flows of one chat are answered one after the other,
     * in the order in which they are collected; one may be collected within another.
     *
     * @throws ApiException.ContextFull the message is longer than the context
     */
    fun send(text: String): Flow<String> = stream(text).pieces()

    /** As [send], with the progress of reading and the [Reply] at the end. */
    fun stream(text: String): Flow<Event>

    /**
     * Answers the last message once more; a cold flow as that of [stream]. The old answer stays until something of the
     * new one is there.
     */
    fun retry(): Flow<Event>

    /** Stops the answer at hand and those that wait; their flows complete, with [Finish.CANCELLED]. */
    fun cancel()

    /** The last answer that came to its end or was stopped by [cancel]. */
    val reply: Reply?

    /** What was said so far, oldest first; an answer that is being made is not in it yet. */
    val history: List<Message>

    /** A message in the journal to which nothing was answered before the app ended: a draft to send again. */
    val unanswered: String?

    /** Figures of the last answer. */
    val stats: Stats

    /** Writes the conversation to a file, whole or not at all. */
    suspend fun save(path: String)

    /** Goes on with the conversation of a file that [save] or `thimble chat` wrote. */
    suspend fun restore(path: String)

    /** Begins anew, with the same system prompt. */
    fun clear()

    /** Lets work wait, for an app that goes to the background. */
    fun pause()

    /** Ends a pause. */
    fun resume()

    /** Works with half the threads while the device is hot or its battery low. */
    fun savePower(save: Boolean)

    /** Gives the memory of the KV cache back; the next message computes it anew. */
    fun freeMemory()

    /** Stops what is being done and frees everything. The engine may still write the end of an answer. */
    override fun close()

    /** As [close], and returns once the engine has come to its end: another chat may open the journal. */
    suspend fun closeAndJoin()
}
