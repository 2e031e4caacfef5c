import Foundation
import ThimbleFFI

/// A model, mapped from its file. Several chats may use it at once, from any thread.
public final class Model: Sendable {
    let inner: ThimbleFFI.Model
    /// The model's properties and how it runs.
    public let info: ModelInfo

    private init(_ inner: ThimbleFFI.Model) throws {
        self.inner = inner
        info = try inner.info()
    }

    /// Opens a `.thimble` file. Its memory is planned first: a model over the budget is refused.
    ///
    /// - Throws: ``ThimbleError``: not found, not a model, damaged, or too large for `options.budgetBytes`.
    public static func open(_ url: URL, options: ModelOptions = ModelOptions()) async throws -> Model {
        try await blocking { try Model(ThimbleFFI.Model.open(path: url.path, options: options)) }
    }

    /// Continues `prompt` as it is, without a chat template, with a stream of pieces of text.
    ///
    /// It takes as much memory as one chat. To stop, call ``Completion/cancel()`` or end the stream: cancel the task
    /// that reads it or release it.
    public func complete(
        _ prompt: String, options: CompletionOptions = CompletionOptions()
    ) -> Completion<String> {
        Completion({ $0.text }) { try inner.complete(prompt: prompt, options: options, listener: $0) }
    }

    /// Continues `prompt` like ``complete(_:options:)``, with a stream of events that ends with figures.
    public func completion(
        of prompt: String, options: CompletionOptions = CompletionOptions()
    ) -> Completion<AnswerEvent> {
        Completion({ $0 }) { try inner.complete(prompt: prompt, options: options, listener: $0) }
    }

    /// The token ids of `text`. Text that looks like a special token is plain text.
    public func tokens(_ text: String) async throws -> [UInt32] {
        try await blocking { [inner] in try inner.tokens(text: text) }
    }

    /// The text of these tokens, special tokens as they are spelled.
    public func text(of tokens: [UInt32]) async throws -> String {
        try await blocking { [inner] in try inner.detokenize(tokens: tokens) }
    }

    /// The embeddings of texts, of length 1 each: their scalar product is their cosine similarity. Takes as much memory as a
    /// chat until it returns.
    ///
    /// - Throws: ``ThimbleError/contextFull(message:)`` where a text is longer than the context.
    public func embed(_ texts: [String], pooling: Pooling = .mean) async throws -> [[Float]] {
        try await blocking { [inner] in try inner.embed(texts: texts, pooling: pooling) }
    }

    /// The log-probability of each token of `text` after `prompt`, in nats, with the likeliest tokens in its place, at most
    /// 20. Takes as much memory as a chat until it returns.
    public func logProbabilities(
        of text: String, after prompt: String, alternatives: UInt32 = 0
    ) async throws -> [TokenLogProbability] {
        try await blocking { [inner] in
            try inner.logProbabilities(prompt: prompt, text: text, alternatives: alternatives)
        }
    }

    /// Reads an `.adapter` file for this model, for `ChatOptions.adapters`.
    ///
    /// - Throws: ``ThimbleError``: not found, or trained on another model.
    public func openAdapter(_ url: URL) async throws -> Adapter {
        try await blocking { [inner] in try inner.openAdapter(path: url.path) }
    }

    /// Checks every byte of the file against its checksums.
    ///
    /// - Throws: ``ThimbleError/damaged(path:reason:)``.
    public func verify() async throws {
        try await blocking { [inner] in try inner.verify() }
    }
}
