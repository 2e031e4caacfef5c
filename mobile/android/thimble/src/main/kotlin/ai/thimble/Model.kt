package ai.thimble

import ai.thimble.ffi.ApiException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext

/**
 * A model in a file. Several chats may use it at once, from any thread.
 *
 * An interface, so that an app's own tests can do without a model.
 */
interface Model : AutoCloseable {
    /** What there is to know about it. */
    val info: ModelInfo

    /**
     * Begins a chat, or goes on with the one in the journal of [options].
     *
     * @throws ApiException the journal belongs to another chat, is none, or cannot be written
     */
    suspend fun chat(options: ChatOptions = ChatOptions()): Chat

    /** Continues [prompt] as it is, without a chat template, once the text of the [Completion] is collected. */
    fun complete(prompt: String, options: CompletionOptions = CompletionOptions()): Completion

    /** The token ids of [text]; what looks like a special token is plain text. */
    suspend fun tokens(text: String): List<Int>

    /**
     * Compares every byte of the file with its checksums; reads all of it.
     *
     * @throws ApiException.Damaged
     */
    suspend fun verify()

    /** Lets go of the file; chats that are open keep it until they are closed. */
    override fun close()

    companion object {
        /**
         * Opens a `.thimble` file. Its memory is planned first: what does not fit the budget is refused with the figures.
         *
         * @throws ApiException.NotFound
         * @throws ApiException.NotAModel
         * @throws ApiException.Damaged
         * @throws ApiException.TooLarge
         */
        suspend fun open(path: String, options: ModelOptions = ModelOptions()): Model =
            withContext(Dispatchers.IO) {
                val model = ai.thimble.ffi.Model.open(path, options)
                EngineModel(model, model.info())
            }
    }
}

private class EngineModel(
    private val model: ai.thimble.ffi.Model,
    override val info: ModelInfo,
) : Model {
    override suspend fun chat(options: ChatOptions): Chat =
        withContext(Dispatchers.IO) { EngineChat(ai.thimble.ffi.Chat(model, options)) }

    override fun complete(prompt: String, options: CompletionOptions): Completion =
        EngineCompletion { model.complete(prompt, options, it) }

    override suspend fun tokens(text: String): List<Int> =
        withContext(Dispatchers.Default) { model.tokens(text).map { it.toInt() } }

    override suspend fun verify() = withContext(Dispatchers.IO) { model.verify() }

    override fun close() = model.close()
}
