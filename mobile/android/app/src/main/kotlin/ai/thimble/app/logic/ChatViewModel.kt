package ai.thimble.app.logic

import ai.thimble.Chat
import ai.thimble.ChatOptions
import ai.thimble.Event
import ai.thimble.Finish
import ai.thimble.Model
import ai.thimble.ModelOptions
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import java.io.File

/** What the view model needs of the device. */
class Device(
    /** For models, chats and settings. */
    val files: File,
    /** For what may be deleted at any time. */
    val caches: File = files,
    /** The most bytes a model may take; `null` where nothing is known. */
    val budget: () -> Long? = { null },
    /** Bytes that the process has in memory now. */
    val memory: () -> Long = ::residentBytes,
    /** Opens a model; another one in tests. */
    val open: suspend (String, ModelOptions) -> Model = { path, options -> Model.open(path, options) },
)

/**
 * The app without its screens: one for the whole process, so that a turned screen finds it as it was. What a killed
 * process had is on disk.
 *
 * All calls return at once; call them on the thread of [scope].
 */
class ChatViewModel(private val device: Device, private val scope: CoroutineScope) {
    private val settingsFile = SettingsFile(File(device.files.made(), "settings.properties"))
    private val modelFolder = ModelFolder(File(device.files, "models"))
    private val chatFolder = ChatFolder(File(device.files, "chats"))

    /** Keys and values of the chat that was put away last: so the next start need not compute them. */
    private val keysAndValues = File(device.caches.made(), "open.kv")
    private val shown = MutableStateFlow(ChatState(settings = settingsFile.read()))

    private var model: Model? = null
    private var chat: Chat? = null

    /** A closed chat whose worker was not waited for. */
    private var leaving: Chat? = null

    /** What [model] and [chat] were opened with; `null` where they are not open. */
    private var modelSettings: Settings? = null
    private var chatSettings: Settings? = null
    private var answering: Job? = null
    private var importing: Job? = null

    /** Held while a model or chat is being opened or closed. */
    private val opening = Mutex()
    private var hinted = false
    private var paused = false

    /** Everything that the screens show. */
    val state: StateFlow<ChatState> = shown.asStateFlow()

    private val settings: Settings get() = shown.value.settings

    init {
        scope.launch { opening.withLock { catchUp() } }
    }

    /** Sends a message; whether it could be. */
    fun send(text: String): Boolean {
        val said = text.trim()
        if (said.isEmpty() || !shown.value.ready) return false
        val chat = chat ?: return false
        shown.update { it.copy(messages = it.messages + ShownMessage(true, said)) }
        answer(chat, chat.stream(said), said)
        return true
    }

    /** Makes the last answer again. */
    fun retry() {
        val chat = chat
        if (chat == null || !shown.value.canRetry) return
        shown.update { it.copy(messages = it.messages.dropLast(1)) }
        answer(chat, chat.retry(), null)
    }

    /** Stops the current answer; what was shown of it stays. */
    fun stop() {
        chat?.cancel()
    }

    /** The message that got no answer is in the field again. */
    fun takeUnsent() = shown.update { it.copy(unsent = null) }

    private fun answer(chat: Chat, events: Flow<Event>, message: String?) {
        shown.update { it.copy(answer = Answering(), problem = null) }
        answering = scope.launch {
            val text = StringBuilder()
            val before = said(chat)
            try {
                events.collect { event ->
                    when (event) {
                        // Also in the middle of an answer, when the context is full.
                        is Event.Reading ->
                            show(Answering(text.toString(), event.done * 100 / event.of.coerceAtLeast(1)))
                        // The app shows answers only, and has no tools.
                        is Event.Reasoning, is Event.Call -> Unit
                        is Event.Piece -> show(Answering(text.append(event.text).toString()))
                        is Event.End -> end(chat)
                    }
                }
            } catch (error: CancellationException) {
                throw error
            } catch (error: Throwable) {
                shown.update { it.copy(problem = problem(error)) }
            } finally {
                if (this@ChatViewModel.chat === chat) settle(chat, message, before)
            }
        }
    }

    /** What the chat remembers is the truth: it forgets a message that was not answered. */
    private fun settle(chat: Chat, message: String?, before: List<ShownMessage>) {
        val messages = said(chat)
        // As it was: the same message may have been answered once before.
        val lost = message?.takeIf { messages == before }
        shown.update { it.copy(answer = null, messages = messages, unsent = lost) }
    }

    private fun show(answer: Answering) = shown.update { it.copy(answer = answer) }

    private fun end(chat: Chat) {
        val reply = chat.reply ?: return
        val speed = if (reply.seconds > 0) reply.tokens.toInt() / reply.seconds else 0.0
        shown.update {
            it.copy(
                figures = Figures(speed, reply.tokens.toInt(), device.memory()),
                problem = if (reply.finish == Finish.CONTEXT) Problem.TooLong else it.problem,
            )
        }
    }

    private fun said(chat: Chat): List<ShownMessage> = chat.history.map { ShownMessage(it.fromUser, it.text) }

    /** Begins another chat; the current one is saved already. */
    fun newChat() {
        val now = shown.value
        if (now.chat != null && now.messages.isEmpty() && now.answer == null) return
        openChat(chatFolder.fresh())
    }

    /** Goes on with a saved chat. */
    fun openChat(name: String) {
        change { it.copy(chat = name) }
        scope.launch { opening.withLock { catchUp() } }
    }

    /** Deletes a saved chat; a new one takes its place where it was open. */
    fun deleteChat(name: String) {
        val open = shown.value.chat == name
        if (open) {
            leaveChat()
            change { it.copy(chat = "") }
        }
        chatFolder.delete(name)
        scope.launch {
            opening.withLock {
                if (open) closeChat()
                // It may be this chat's, and says as much.
                withContext(Dispatchers.IO) { keysAndValues.delete() }
                if (open) catchUp()
            }
        }
    }

    /** A chat beside the current one, without a journal, with the same model; `null` where there is none. */
    suspend fun begin(options: ChatOptions): Chat? =
        opening.withLock { model?.chat(options)?.apply { savePower(hinted || settings.saver) } }

    /** Chats that are not empty, the latest first. */
    suspend fun chats(): List<SavedChat> = withContext(Dispatchers.IO) { chatFolder.list() }

    /** Models that were imported. */
    fun models(): List<SavedModel> = modelFolder.list()

    /** Copies a model and opens it. One import at a time: another one is refused. */
    fun importModel(source: Source): Boolean {
        if (importing?.isActive == true) return false
        shown.update { it.copy(importing = Importing(source.name, 0, source.bytes), problem = null) }
        importing = scope.launch {
            try {
                val name = modelFolder.import(source, ::imported) { file ->
                    device.open(file.path, ModelOptions()).use { it.verify() }
                }
                chooseModel(name)
            } catch (error: CancellationException) {
                throw error
            } catch (error: Throwable) {
                shown.update { it.copy(problem = problem(error)) }
            } finally {
                shown.update { it.copy(importing = null) }
            }
        }
        return true
    }

    private fun imported(done: Long) = shown.update { it.copy(importing = it.importing?.copy(done = done)) }

    /** Ends an import; nothing is left of it. */
    fun cancelImport() {
        importing?.cancel()
    }

    /** Goes on with another model. */
    fun chooseModel(name: String) = changeSettings(settings.copy(model = name))

    /** Deletes a model; a chat with it ends. */
    fun deleteModel(name: String) {
        modelFolder.delete(name)
        if (settings.model == name) changeSettings(settings.copy(model = models().firstOrNull()?.name.orEmpty()))
    }

    /**
     * Applies settings; the current chat continues with them. They stop no answer: options for opening the
     * model apply once the current one is over.
     */
    fun changeSettings(next: Settings) {
        if (next == settings) return
        change { next }
        applyPower()
        scope.launch {
            do answering?.join() while (!opening.withLock { catchUpIfQuiet() })
        }
    }

    /** Whether it could; an answer may have begun while the lock was waited for. */
    private suspend fun catchUpIfQuiet(): Boolean {
        if (answering?.isActive == true) return false
        catchUp()
        return true
    }

    /** Opens again what was opened with other settings than the current ones. */
    private suspend fun catchUp() {
        val (model, chat) = modelSettings to chatSettings
        when {
            model == null || !settings.sameModel(model) -> openModel()
            chat == null || !settings.sameChat(chat) -> reopenChat()
        }
    }

    private fun change(next: (Settings) -> Settings) {
        shown.update { it.copy(settings = next(it.settings)) }
        runCatching { settingsFile.write(settings) }.onFailure { error ->
            shown.update { it.copy(problem = problem(error)) }
        }
    }

    /** The message of [ChatState.problem] was read. */
    fun dismiss() = shown.update { it.copy(problem = null) }

    /** The app went to the background: answers wait. */
    fun pause() {
        paused = true
        chat?.pause()
    }

    /** The app is back. */
    fun resume() {
        paused = false
        chat?.resume()
    }

    /** The device is hot or its battery low. */
    fun savePower(save: Boolean) {
        hinted = save
        applyPower()
    }

    private fun applyPower() {
        chat?.savePower(hinted || settings.saver)
    }

    /** The system is short of memory. */
    fun freeMemory() {
        chat?.freeMemory()
    }

    private suspend fun openModel() {
        closeChat()
        closeModel()
        val name = settings.model.ifEmpty { modelFolder.list().firstOrNull()?.name.orEmpty() }
        if (name.isEmpty()) return shown.update { it.copy(model = ModelState.None, messages = emptyList()) }
        shown.update { it.copy(model = ModelState.Opening(name)) }
        val wanted = settings.copy(model = name)
        try {
            val opened = device.open(modelFolder.file(name).path, wanted.modelOptions(device.budget()))
            model = opened
            modelSettings = wanted
            if (settings.model != name) change { it.copy(model = name) }
            shown.update { it.copy(model = ModelState.Ready(opened.info)) }
            reopenChat()
        } catch (error: CancellationException) {
            throw error
        } catch (error: Throwable) {
            shown.update { it.copy(model = ModelState.Failed(name, problem(error))) }
        }
    }

    /** Opens the chat of the settings, or a new one if that cannot be read, with the current model. */
    private suspend fun reopenChat() {
        closeChat()
        val model = model ?: return
        // An empty chat has the instructions of the time when it was begun.
        val last = settings.chat.takeUnless { withContext(Dispatchers.IO) { chatFolder.isEmpty(it) } }.orEmpty()
        withContext(Dispatchers.IO) { chatFolder.tidy(last) }
        if (last.isNotEmpty() && tryChat(model, last)) return
        tryChat(model, chatFolder.fresh())
    }

    private suspend fun tryChat(model: Model, name: String): Boolean {
        val wanted = settings.copy(chat = name)
        return try {
            val opened = model.chat(wanted.chatOptions(chatFolder.file(name), keysAndValues))
            chat = opened
            chatSettings = wanted
            if (settings.chat != name) change { it.copy(chat = name) }
            applyPower()
            if (paused) opened.pause()
            val messages = said(opened)
            shown.update {
                it.copy(chat = name, messages = messages, answer = null, figures = null, unsent = opened.unanswered)
            }
            true
        } catch (error: CancellationException) {
            throw error
        } catch (error: Throwable) {
            shown.update { it.copy(chat = null, messages = emptyList(), problem = chatProblem(error)) }
            false
        }
    }

    /** Returns once the worker has released the chat's memory and its journal, which the next chat may open. */
    private suspend fun closeChat() {
        leaveChat()
        leaving?.closeAndJoin()
        leaving = null
    }

    /** Closes the current chat, whose worker may still be finishing. */
    private fun leaveChat() {
        leaving = chat ?: leaving
        // First, so that the answer that ends here does not count for the next chat.
        chat = null
        chatSettings = null
        answering?.cancel()
        leaving?.close()
        shown.update { it.copy(chat = null, answer = null) }
    }

    private fun closeModel() {
        model?.close()
        model = null
        modelSettings = null
    }

    /** Frees everything; for tests. */
    fun close() {
        importing?.cancel()
        leaveChat()
        closeModel()
    }
}
