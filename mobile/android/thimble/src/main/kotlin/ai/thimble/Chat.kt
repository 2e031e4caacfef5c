package ai.thimble

import ai.thimble.ffi.ApiException
import kotlinx.coroutines.flow.Flow

/**
 * A conversation with a model, on a thread of its own: no call here waits for the model.
 *
 * Every member may be called from any thread, and [close] at any time, even during an answer. After that [cancel],
 * [pause], [resume], [savePower] and [freeMemory] do nothing; everything else throws an [IllegalStateException].
 */
interface Chat : AutoCloseable {
    /**
     * The answer to [text], piece by piece.
     *
     * The flow is cold: collecting it sends the message. Cancelling the collection, or throwing out of it, stops the
     * answer and nothing else; the chat remembers what was made of it. Flows of one chat are answered in the order in
     * which they are collected; one may be collected within another.
     *
     * @throws ApiException.ContextFull the message is longer than the context
     */
    fun send(text: String, options: AnswerOptions = AnswerOptions()): Flow<String> = stream(text, options).pieces()

    /** Like [send], with the progress of reading and the [Reply] at the end. */
    fun stream(text: String, options: AnswerOptions = AnswerOptions()): Flow<Event>

    /**
     * Answers the last message again; a cold flow like that of [stream]. The old answer stays until part of the new one
     * is shown.
     */
    fun retry(options: AnswerOptions = AnswerOptions()): Flow<Event>

    /**
     * Goes on after an answer whose [Reply.toolCalls] the app has run: a cold flow like that of [stream]. There is a result for
     * each call. [streamWithTools] does so by itself.
     */
    fun sendToolResults(results: List<ToolResult>, options: AnswerOptions = AnswerOptions()): Flow<Event>

    /** Stops the current answer and those that wait; their flows complete with [Finish.CANCELLED]. */
    fun cancel()

    /** The last answer that ended, by itself or by [cancel]. */
    val reply: Reply?

    /** The messages so far, oldest first, without an unfinished answer. */
    val history: List<Message>

    /** The last message in the journal, if the app ended before any of its answer was shown: a draft to send again. */
    val unanswered: String?

    /** Figures of the last answer. */
    val stats: Stats

    /** Writes the conversation to a file, atomically. */
    suspend fun save(path: String)

    /** Continues the conversation in a file that [save] or `thimble chat` wrote. */
    suspend fun restore(path: String)

    /** Stops all answers and begins a new conversation with the same system prompt. */
    fun clear()

    /** Pauses, for an app that goes to the background. */
    fun pause()

    /** Ends a pause. */
    fun resume()

    /** Works with half the threads while the device is hot or its battery low. */
    fun savePower(save: Boolean)

    /** Gives the memory of the KV cache back; the next message recomputes it. */
    fun freeMemory()

    /** Stops all work and frees everything. The worker may still write the end of an answer. */
    override fun close()

    /** Like [close], but returns once the worker has finished: another chat may then open the journal. */
    suspend fun closeAndJoin()
}
