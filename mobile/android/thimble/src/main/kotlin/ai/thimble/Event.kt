package ai.thimble

import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.map

/** What happens while an answer is made. */
sealed interface Event {
    /** More of the answer. Whole characters. */
    data class Piece(val text: String) : Event

    /** More of the model's reasoning, which comes before the answer. Whole characters. */
    data class Reasoning(val text: String) : Event

    /**
     * A long prompt is being read: [done] of [of] tokens. Before the first piece, and between pieces where the context
     * is full or its memory was given back in a pause.
     */
    data class Reading(val done: Int, val of: Int) : Event

    /** The model calls a tool, which runs next; only from [streamWithTools]. */
    data class Call(val call: ToolCall) : Event

    /** The answer ends; nothing follows. */
    data class End(val reply: Reply) : Event
}

/** Only the text, piece by piece. */
fun Flow<Event>.pieces(): Flow<String> = filterIsInstance<Event.Piece>().map { it.text }
