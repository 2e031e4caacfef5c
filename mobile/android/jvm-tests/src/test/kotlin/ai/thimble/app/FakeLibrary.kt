package ai.thimble.app

import ai.thimble.Adapter
import ai.thimble.AnswerOptions
import ai.thimble.Chat
import ai.thimble.ChatOptions
import ai.thimble.Completion
import ai.thimble.CompletionOptions
import ai.thimble.Event
import ai.thimble.Finish
import ai.thimble.Message
import ai.thimble.Model
import ai.thimble.ModelInfo
import ai.thimble.ModelOptions
import ai.thimble.Pooling
import ai.thimble.Reply
import ai.thimble.Stats
import ai.thimble.TokenLogProbability
import ai.thimble.ToolResult
import ai.thimble.ffi.ApiException
import kotlinx.coroutines.Job
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import org.json.JSONException
import org.json.JSONObject
import java.io.File

/** Models whose answers are what a test puts into [script]; their journals are like the real ones. */
class FakeLibrary {
    /** Pieces of answers; [END] ends one, [FAIL] breaks it, [READ] has the conversation read again. */
    val script = Channel<String>(Channel.UNLIMITED)

    /** What was opened, oldest first. */
    val opened = mutableListOf<Pair<String, ModelOptions>>()
    val chats = mutableListOf<FakeChat>()

    /** Messages and what was asked of their answers, oldest first. */
    val asked = mutableListOf<Pair<String, AnswerOptions>>()

    /** Thrown by the next models to be opened. */
    var failure: Throwable? = null

    /** If set, the workers of closed chats write their journals until it completes. */
    var leaving: Job? = null

    fun answer(vararg pieces: String) = pieces.forEach { script.trySend(it) }

    suspend fun open(path: String, options: ModelOptions): Model {
        opened += File(path).name to options
        failure?.let { throw it }
        val bytes = File(path).length().toULong()
        if (!File(path).exists()) throw ApiException.NotFound(path)
        if (File(path).readText().startsWith("broken")) throw ApiException.NotAModel(path)
        val name = File(path).nameWithoutExtension
        val info = ModelInfo(name, 135_000_000uL, bytes, 90_000_000uL, 2048u, 2048u, true, "fake", 2u)
        return FakeModel(info, File(path), this)
    }

    companion object {
        const val END = "\u0000end"
        const val FAIL = "\u0000fail"
        const val READ = "\u0000read"
    }
}

class FakeModel(override val info: ModelInfo, private val file: File, private val library: FakeLibrary) : Model {
    override suspend fun chat(options: ChatOptions): Chat {
        val open = library.chats.filterNot { it.gone }.mapNotNull { it.options.journal }
        check(options.journal !in open) { "two chats on one journal" }
        return FakeChat(options, library).also { library.chats += it }
    }

    override fun complete(prompt: String, options: CompletionOptions): Completion = error("the app continues no texts")

    override suspend fun tokens(text: String): List<Int> = emptyList()

    override suspend fun detokenize(tokens: List<Int>): String = error("the app has no tokens")

    override suspend fun embed(texts: List<String>, pooling: Pooling): List<FloatArray> = error("the app embeds nothing")

    override suspend fun logProbabilities(prompt: String, text: String, alternatives: Int): List<TokenLogProbability> =
        error("the app asks for no probabilities")

    override suspend fun openAdapter(path: String): Adapter = error("the app has no adapters")

    override suspend fun verify() {
        if (file.readText().startsWith("flipped")) throw ApiException.Damaged(file.path, "a checksum")
    }

    override fun close() = Unit
}

class FakeChat(val options: ChatOptions, private val library: FakeLibrary) : Chat {
    private val journal = options.journal?.let(::File)
    private val said = mutableListOf<Message>()
    private var cancelled = false

    /** Its instructions. */
    var system: String? = null
        private set
    private var seconds = 0.0
    var paused = false
    var saving = false
    var freed = 0
    var closed = false

    /** Whether its worker has left the journal. */
    var gone = false

    init {
        if (journal?.exists() == false) note("begin", JSONObject().put("system", options.system ?: JSONObject.NULL))
        for (line in journal?.readLines().orEmpty()) {
            val json = try {
                JSONObject(line)
            } catch (error: JSONException) {
                throw ApiException.Damaged("$journal", "$error")
            }
            // Like the real ones: an existing journal has its own instructions.
            json.optJSONObject("begin")?.let { begin ->
                system = begin.optString("system").takeUnless { begin.isNull("system") }
            }
            if (json.has("user")) said += Message(true, json.getString("user"))
            if (json.has("piece")) {
                if (said.last().fromUser) said += Message(false, "")
                said += Message(false, said.removeAt(said.lastIndex).text + json.getString("piece"))
            }
        }
    }

    override var reply: Reply? = null
    override val history: List<Message> get() = said.toList()
    override val unanswered: String? = null
    override val stats: Stats get() = Stats(0u, 0.0, 0u, 0.0)

    override fun stream(text: String, options: AnswerOptions): Flow<Event> = flow {
        check(!closed)
        library.asked += text to options
        cancelled = false
        note("user", text)
        var answer = ""
        emit(Event.Reading(1, 2))
        while (!cancelled) {
            val piece = library.script.receive()
            if (piece == FakeLibrary.FAIL) throw ApiException.ContextFull("too long")
            if (piece == FakeLibrary.END || cancelled) break
            if (piece == FakeLibrary.READ) {
                emit(Event.Reading(1, 4))
                continue
            }
            note("piece", piece)
            answer += piece
            seconds += 0.05
            emit(Event.Piece(piece))
        }
        if (answer.isNotEmpty()) {
            said += Message(true, text)
            said += Message(false, answer)
        }
        val finish = if (cancelled) Finish.CANCELLED else Finish.STOP
        val tokens = (seconds / 0.05).toUInt()
        reply = Reply(answer, finish, 0u, 0u, 2u, 0.1, tokens, seconds, complete = finish == Finish.STOP)
        emit(Event.End(reply!!))
    }

    override fun retry(options: AnswerOptions): Flow<Event> = flow {
        said.removeAt(said.lastIndex)
        stream(said.removeAt(said.lastIndex).text, options).collect { emit(it) }
    }

    override fun sendToolResults(results: List<ToolResult>, options: AnswerOptions): Flow<Event> =
        stream(results.joinToString { it.content }, options)

    override fun cancel() {
        cancelled = true
        // Whoever waits for the next piece looks up.
        library.script.trySend("")
    }

    private fun note(key: String, value: Any) {
        journal?.appendText("${JSONObject(mapOf(key to value))}\n")
    }

    override suspend fun save(path: String) = Unit

    override suspend fun restore(path: String) = Unit

    override fun clear() = said.clear()

    override fun pause() {
        paused = true
    }

    override fun resume() {
        paused = false
    }

    override fun savePower(save: Boolean) {
        saving = save
    }

    override fun freeMemory() {
        freed++
    }

    override fun close() {
        closed = true
        gone = library.leaving == null
    }

    override suspend fun closeAndJoin() {
        close()
        library.leaving?.join()
        gone = true
    }
}
