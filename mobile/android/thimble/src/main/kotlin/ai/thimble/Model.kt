package ai.thimble

import ai.thimble.ffi.ApiException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext

/**
 * A model in a file. Several chats may use it at once, from any thread.
 *
 * An interface, so that an app's own tests need no model.
 */
interface Model : AutoCloseable {
    /** Its properties. */
    val info: ModelInfo

    /**
     * Begins a chat, or continues the one in the journal of [options].
     *
     * @throws ApiException the file is no journal, is open in another chat, or cannot be written
     */
    suspend fun chat(options: ChatOptions = ChatOptions()): Chat

    /** Continues [prompt] as it is, without a chat template, once the text of the [Completion] is collected. */
    fun complete(prompt: String, options: CompletionOptions = CompletionOptions()): Completion

    /** The token ids of [text]. Text that looks like a special token is plain text. */
    suspend fun tokens(text: String): List<Int>

    /**
     * The text of [tokens], special tokens as they are spelled; U+FFFD for bytes that are no whole character.
     *
     * @throws ApiException an id is not in the vocabulary
     */
    suspend fun detokenize(tokens: List<Int>): String

    /**
     * A vector for each text, of length 1, so that the dot product of two is their cosine similarity. Waits for the
     * model, and takes as much memory as a chat until it returns.
     *
     * @throws ApiException.ContextFull a text is longer than the context
     */
    suspend fun embed(texts: List<String>, pooling: Pooling = Pooling.MEAN): List<FloatArray>

    /**
     * The log-probability of each token of [text] after [prompt], in nats, with the [alternatives] likeliest tokens in its
     * place, at most 20. Waits for the model, and takes as much memory as a chat until it returns.
     *
     * @throws ApiException.ContextFull both together are longer than the context
     */
    suspend fun logProbabilities(prompt: String, text: String, alternatives: Int = 0): List<TokenLogProbability>

    /**
     * Opens an adapter for chats with this model, by [ChatOptions.adapters].
     *
     * @throws ApiException the file is no adapter, or of another model
     */
    suspend fun openAdapter(path: String): Adapter

    /**
     * Checks every byte of the file against its checksums.
     *
     * @throws ApiException.Damaged
     */
    suspend fun verify()

    /** Releases the file once the chats that are open are closed, too. */
    override fun close()

    companion object {
        /**
         * Opens a `.thimble` file. Its memory is planned first: a model over the budget is refused, with the figures.
         *
         * @throws ApiException.NotFound
         * @throws ApiException.NotAModel
         * @throws ApiException.Damaged
         * @throws ApiException.TooLarge
         */
        suspend fun open(path: String, options: ModelOptions = ModelOptions()): Model =
            withContext(Dispatchers.IO) {
                val model = ai.thimble.ffi.Model.open(path, options)
                NativeModel(model, model.info())
            }
    }
}

private class NativeModel(
    private val model: ai.thimble.ffi.Model,
    override val info: ModelInfo,
) : Model {
    override suspend fun chat(options: ChatOptions): Chat =
        withContext(Dispatchers.IO) { NativeChat(ai.thimble.ffi.Chat(model, options)) }

    override fun complete(prompt: String, options: CompletionOptions): Completion =
        NativeCompletion { model.complete(prompt, options, it) }

    override suspend fun tokens(text: String): List<Int> =
        withContext(Dispatchers.Default) { model.tokens(text).map { it.toInt() } }

    override suspend fun detokenize(tokens: List<Int>): String =
        withContext(Dispatchers.Default) { model.detokenize(tokens.map { it.toUInt() }) }

    override suspend fun embed(texts: List<String>, pooling: Pooling): List<FloatArray> =
        withContext(Dispatchers.Default) { model.embed(texts, pooling).map { it.toFloatArray() } }

    override suspend fun logProbabilities(prompt: String, text: String, alternatives: Int): List<TokenLogProbability> =
        withContext(Dispatchers.Default) { model.logProbabilities(prompt, text, alternatives.toUInt()) }

    override suspend fun openAdapter(path: String): Adapter = withContext(Dispatchers.IO) { model.openAdapter(path) }

    override suspend fun verify() = withContext(Dispatchers.IO) { model.verify() }

    override fun close() = model.close()
}
