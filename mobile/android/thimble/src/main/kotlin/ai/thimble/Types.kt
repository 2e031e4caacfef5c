package ai.thimble

/** How to open a model: memory budget in bytes, context in tokens, threads, encoding of the KV cache. */
typealias ModelOptions = ai.thimble.ffi.ModelOptions

/** What there is to know about a model and how it will run. */
typealias ModelInfo = ai.thimble.ffi.ModelInfo

/** How keys and values are kept. */
typealias KvCache = ai.thimble.ffi.KvCache

/** How to begin a chat: system prompt, sampling, longest answer in tokens, journal. */
typealias ChatOptions = ai.thimble.ffi.ChatOptions

/** How to continue a text: longest continuation in tokens, sampling, texts to stop at. */
typealias CompletionOptions = ai.thimble.ffi.CompletionOptions

/** How tokens are chosen. */
typealias Sampling = ai.thimble.ffi.Sampling

/** A message of a conversation. */
typealias Message = ai.thimble.ffi.Message

/** A whole answer with its figures. */
typealias Reply = ai.thimble.ffi.Reply

/** Why an answer ended. */
typealias Finish = ai.thimble.ffi.Finish

/** Where a model runs. */
typealias Backend = ai.thimble.ffi.Backend

/** Figures of the last answer. */
typealias Stats = ai.thimble.ffi.Stats
