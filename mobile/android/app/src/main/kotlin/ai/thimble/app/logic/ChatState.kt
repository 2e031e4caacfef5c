package ai.thimble.app.logic

import ai.thimble.ModelInfo

/** Everything that the screens show. */
data class ChatState(
    val model: ModelState = ModelState.None,
    val importing: Importing? = null,
    /** Name of the chat's journal. */
    val chat: String? = null,
    val messages: List<ShownMessage> = emptyList(),
    /** The answer that is being made. */
    val answer: Answering? = null,
    val figures: Figures? = null,
    /** A message without an answer, to be edited and sent again. */
    val unsent: String? = null,
    /** What went wrong last, until it is dismissed. */
    val problem: Problem? = null,
    val settings: Settings = Settings(),
) {
    /** Whether a message can be sent now. */
    val ready: Boolean get() = model is ModelState.Ready && chat != null && answer == null

    /** Whether the last answer can be made again. */
    val canRetry: Boolean get() = ready && messages.lastOrNull()?.fromUser == false
}

/** A message on the screen. */
data class ShownMessage(val fromUser: Boolean, val text: String)

/** The model and whether it can be used. */
sealed interface ModelState {
    /** None was chosen. */
    data object None : ModelState

    /** It is being opened. */
    data class Opening(val name: String) : ModelState

    /** It answers. */
    data class Ready(val info: ModelInfo) : ModelState

    /** It cannot be used. */
    data class Failed(val name: String, val problem: Problem) : ModelState
}

/** A model that is being copied; [of] bytes where that is known. */
data class Importing(val name: String, val done: Long, val of: Long?) {
    /** From 0 to 100. */
    val percent: Int? get() = of?.takeIf { it > 0 }?.let { (done * 100 / it).toInt().coerceIn(0, 100) }
}

/** An answer that is being made. */
data class Answering(
    /** As far as it is. */
    val text: String = "",
    /** How much of the prompt was read, in percent, while it is. */
    val reading: Int? = null,
)

/** For the line of figures. */
data class Figures(val tokensPerSecond: Double, val tokens: Int, val memoryBytes: Long)

/** What can go wrong, as far as a person would do something different. */
sealed interface Problem {
    data object NotFound : Problem

    data object NotAModel : Problem

    data object Damaged : Problem

    data object DamagedChat : Problem

    data class TooLarge(val needed: Long, val budget: Long) : Problem

    data class NoSpace(val needed: Long, val free: Long) : Problem

    data object TooLong : Problem

    data object NoModel : Problem

    data object NotFilled : Problem

    data object Offline : Problem

    data class Refused(val status: Int) : Problem

    data class Other(val message: String) : Problem
}
