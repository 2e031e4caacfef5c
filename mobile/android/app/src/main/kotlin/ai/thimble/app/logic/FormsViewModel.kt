package ai.thimble.app.logic

import ai.thimble.Chat
import ai.thimble.ChatOptions
import ai.thimble.IncompleteAnswerException
import ai.thimble.Sampling
import ai.thimble.serialization.ask
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch

/** Everything that the screen of forms shows. */
data class FormsState(
    val kind: FormKind = FormKind.EVENT,
    /** The model reads the text. */
    val working: Boolean = false,
    val form: Form? = null,
    val problem: Problem? = null,
)

/**
 * Fills in forms from texts: a schema keeps the model to the form's fields. [begin] begins a chat, or returns `null`
 * where there is no model. Call it on the thread of [scope].
 */
class FormsViewModel(private val begin: suspend (ChatOptions) -> Chat?, private val scope: CoroutineScope) {
    private val shown = MutableStateFlow(FormsState())
    private var work: Job? = null

    /** What the screen shows. */
    val state: StateFlow<FormsState> = shown.asStateFlow()

    /** Another form; what was filled in is gone. */
    fun choose(kind: FormKind) {
        if (kind == shown.value.kind) return
        stop()
        shown.value = FormsState(kind)
    }

    /** Fills in the form from [text]; does nothing without one, or while it does. */
    fun fill(text: String) {
        if (text.isBlank() || work?.isActive == true) return
        val kind = shown.value.kind
        shown.value = FormsState(kind, working = true)
        work = scope.launch {
            try {
                val form = read(kind, text.trim())
                shown.update { it.copy(form = form, problem = if (form == null) Problem.NoModel else null) }
            } catch (error: CancellationException) {
                throw error
            } catch (_: IncompleteAnswerException) {
                shown.update { it.copy(problem = Problem.NotFilled) }
            } catch (error: Exception) {
                shown.update { it.copy(problem = problem(error)) }
            } finally {
                shown.update { it.copy(working = false) }
            }
        }
    }

    private suspend fun read(kind: FormKind, text: String): Form? {
        val options = ChatOptions(
            system = INSTRUCTIONS,
            sampling = Sampling(temperature = 0f, repetitionPenalty = 1f),
            thinking = false,
            maxTokens = LONGEST,
        )
        return begin(options)?.use { chat ->
            when (kind) {
                FormKind.EVENT -> chat.ask<EventForm>("$EVENT\n\n$text")
                FormKind.CONTACT -> chat.ask<ContactForm>("$CONTACT\n\n$text")
            }
        }
    }

    /** Stops reading. */
    fun stop() {
        work?.cancel()
    }

    /** The message of [FormsState.problem] was read. */
    fun dismiss() = shown.update { it.copy(problem = null) }

    private companion object {
        const val LONGEST = 256u
        const val INSTRUCTIONS = "You take facts from a text, in the words of the text. What it does not say is null."
        const val EVENT = "Give the title, date, time and place of the event in this text as JSON."
        const val CONTACT = "Give the name, phone, email and company of the person in this text as JSON."
    }
}
