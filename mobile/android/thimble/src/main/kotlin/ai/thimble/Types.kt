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

/** What is asked of one answer: its form, its longest length in tokens, texts to stop at, whether it calls tools. */
typealias AnswerOptions = ai.thimble.ffi.AnswerOptions

/** A function that a model may call, as the model sees it. */
typealias ToolDefinition = ai.thimble.ffi.ToolDefinition

/** A call that a model makes. */
typealias ToolCall = ai.thimble.ffi.ToolCall

/** What a tool returned. */
typealias ToolResult = ai.thimble.ffi.ToolResult

/** A token and how likely the model found it. */
typealias TokenLogProbability = ai.thimble.ffi.TokenLogProbability

/** How hidden states become one vector: their mean, or the last one. */
typealias Pooling = ai.thimble.ffi.Pooling

/** An open adapter. */
typealias Adapter = ai.thimble.ffi.Adapter

/** An adapter of a chat, and by how much it counts. */
typealias AdapterWeight = ai.thimble.ffi.AdapterWeight
