import Foundation
import ThimbleFFI

/// A conversation with a model, on a thread of its own. No call waits for the model, and every call may come from any
/// thread. A chat that nobody holds any more stops, also in the middle of an answer.
public final class Chat: Sendable {
    let inner: ThimbleFFI.Chat
    /// The model that answers.
    public let model: Model

    /// Begins a conversation, or goes on with the one in `options.journal`. Memory is taken with the first message.
    ///
    /// - Throws: ``ThimbleError`` where the journal is none, is in use by another chat, or cannot be written.
    public init(_ model: Model, options: ChatOptions = ChatOptions()) async throws {
        self.model = model
        let below = model.inner
        inner = try await blocking { try ThimbleFFI.Chat(model: below, options: options) }
    }

    /// Answers a message with a stream of pieces of text, as they are made.
    ///
    /// Messages are answered one after the other. To stop the answer, end the stream, also while paused: cancel the task
    /// that reads it or let go of it. ``cancel()`` stops all of them. The answer goes on until its end while anybody holds the stream.
    public func send(_ text: String) -> AsyncThrowingStream<String, any Error> {
        asking({ $0.text }, { inner.send(text: text, listener: $0) })
    }

    /// Answers the last message once more, as ``send(_:)`` does. The old answer stays until something of the new one is
    /// there.
    public func retry() -> AsyncThrowingStream<String, any Error> {
        asking({ $0.text }, { inner.retry(listener: $0) })
    }

    /// Answers a message with a stream of events: besides the text how much of the prompt was read, and figures.
    public func answer(_ text: String) -> AsyncThrowingStream<AnswerEvent, any Error> {
        asking({ $0 }, { inner.send(text: text, listener: $0) })
    }

    /// Answers the last message once more, as ``answer(_:)`` does.
    public func answerAgain() -> AsyncThrowingStream<AnswerEvent, any Error> {
        asking({ $0 }, { inner.retry(listener: $0) })
    }

    /// Answers a message with what `element` makes of its events, on the engine's thread.
    func answer<Element: Sendable>(
        _ text: String, _ element: @escaping @Sendable (AnswerEvent) -> Element?
    ) -> AsyncThrowingStream<Element, any Error> {
        asking(element, { inner.send(text: text, listener: $0) })
    }

    /// The chat lives for as long as the stream is being filled.
    private func asking<Element: Sendable>(
        _ element: @escaping @Sendable (AnswerEvent) -> Element?, _ ask: (any Listener) -> Answer
    ) -> AsyncThrowingStream<Element, any Error> {
        listening(element) { listener in
            let answer = ask(listener)
            return Work(owner: self) { answer.cancel() }
        }
    }

    /// Stops the answer at hand and those that wait; each stream comes to its end with what there was.
    public func cancel() { inner.cancel() }

    /// What was said so far, oldest first; an answer that is being made is not in it yet.
    public var history: [Message] { inner.history() }

    /// The last message in the journal, if the app ended before anything of its answer was shown: a draft to send again.
    public var unanswered: String? { inner.unanswered() }

    /// Figures of the last answer.
    public var stats: Stats { inner.stats() }

    /// Writes the conversation to a file, whole or not at all.
    public func save(to url: URL) async throws {
        try await blocking { [inner] in try inner.save(path: url.path) }
    }

    /// Stops all answers and goes on with a conversation from a file that ``save(to:)`` or `thimble chat` wrote.
    public func restore(from url: URL) async throws {
        try await blocking { [inner] in try inner.restore(path: url.path) }
    }

    /// Stops all answers and begins anew, with the same instructions.
    public func clear() { inner.clear() }

    /// Lets work wait, for an app that goes to the background; ``resume()`` lets it go on where it was.
    public func pause() { inner.pause() }

    /// Ends a pause.
    public func resume() { inner.resume() }

    /// Works with half the threads while the device is hot or its battery low. Answers do not depend on it.
    public func savePower(_ save: Bool) { inner.savePower(save: save) }

    /// Gives the memory of the conversation back: at once while paused, otherwise once the answer at hand is complete.
    /// What is asked or goes on afterwards takes it again and computes the conversation anew; nothing is lost.
    public func freeMemory() { inner.freeMemory() }
}

extension ChatOptions {
    /// The same options with a journal: every piece is on disk before it is shown, and a chat that finds the file goes
    /// on from it.
    public func journaled(at url: URL) -> ChatOptions {
        var options = self
        options.journal = url.path
        return options
    }

    /// The same options with a file for keys and values: written when the chat is paused or its memory taken, and read
    /// in place of computing them, also by a later process. It may be deleted at any time: best among the app's caches.
    public func keepingKeysAndValues(at url: URL) -> ChatOptions {
        var options = self
        options.kvFile = url.path
        return options
    }
}
