package ai.thimble

/** How to open a model: memory budget in bytes, context in tokens, threads, encoding of the KV cache. */
typealias ModelOptions = ai.thimble.ffi.ModelOptions

/** What there is to know about a model and how it will run. */
typealias ModelInfo = ai.thimble.ffi.ModelInfo

/** How keys and values are kept. */
typealias KvCache = ai.thimble.ffi.KvCache

/** How to begin a chat: system prompt, sampling, longest answer in tokens, journal. */
typealias ChatOptions = ai.thimble.ffi.ChatOptions

/** How tokens are chosen. */
typealias Sampling = ai.thimble.ffi.Sampling

/** A message of a conversation. */
typealias Message = ai.thimble.ffi.Message

/** A whole answer with its figures. */
typealias Reply = ai.thimble.ffi.Reply

/** Why an answer ended. */
typealias Finish = ai.thimble.ffi.Finish

/** Figures of the last answer. */
typealias Stats = ai.thimble.ffi.Stats

/** Why a call did not do what was asked; a subclass only where an app would do something different. */
typealias ThimbleException = ai.thimble.ffi.ApiException

/** What happens while an answer is made. */
sealed interface Event {
    /** More text: whole characters, to be shown after the text before. */
    data class Piece(val text: String) : Event

    /** A long prompt is being read: [done] of [of] tokens. */
    data class Reading(val done: Int, val of: Int) : Event

    /** The answer is over; nothing follows. */
    data class End(val reply: Reply) : Event
}
