import Foundation
import ThimbleFFI

/// A conversation with a model, on a thread of its own. No call waits for the model, and every call may come from any
/// thread. A chat that nobody holds any more stops, even in the middle of an answer.
public final class Chat: Sendable {
    let inner: ThimbleFFI.Chat
    /// The model that answers.
    public let model: Model

    /// Begins a conversation, or continues the one in `options.journal`. The first message takes memory.
    ///
    /// - Throws: ``ThimbleError`` if the file is no journal, is open in another chat, or cannot be written.
    public init(_ model: Model, options: ChatOptions = ChatOptions()) async throws {
        self.model = model
        let below = model.inner
        inner = try await blocking { try ThimbleFFI.Chat(model: below, options: options) }
    }

    /// Answers a message with a stream of pieces of text, as they are made.
    ///
    /// Messages are answered in order. To stop the answer, even while paused, end the stream: cancel the task that
    /// reads it or release the stream. ``cancel()`` stops all answers. While anybody holds the stream the answer goes
    /// on to its end.
    public func send(_ text: String) -> AsyncThrowingStream<String, any Error> {
        asking({ $0.text }, { inner.send(text: text, listener: $0) })
    }

    /// Answers the last message again, like ``send(_:)``. The old answer stays until part of the new one is shown. A last
    /// message of `ChatOptions.messages` that has no answer is answered.
    public func retry() -> AsyncThrowingStream<String, any Error> {
        asking({ $0.text }, { inner.retry(listener: $0) })
    }

    /// Answers a message with a stream of events: the text, the progress of reading, and the figures at the end.
    public func answer(_ text: String) -> AsyncThrowingStream<AnswerEvent, any Error> {
        asking({ $0 }, { inner.send(text: text, listener: $0) })
    }

    /// Answers a message like ``answer(_:)``, with what the app asks of this answer: its form, stop texts,
    /// log-probabilities.
    public func answer(_ text: String, options: AnswerOptions) -> AsyncThrowingStream<AnswerEvent, any Error> {
        asking({ $0 }, { inner.send(text: text, listener: $0, options: options) })
    }

    /// Answers the last message again, like ``answer(_:)``.
    public func answerAgain() -> AsyncThrowingStream<AnswerEvent, any Error> {
        asking({ $0 }, { inner.retry(listener: $0) })
    }

    /// Answers the last message again, like ``answer(_:options:)``.
    public func answerAgain(options: AnswerOptions) -> AsyncThrowingStream<AnswerEvent, any Error> {
        asking({ $0 }, { inner.retry(listener: $0, options: options) })
    }

    /// Answers a message with what `element` makes of its events, on the worker's thread.
    func answer<Element: Sendable>(
        _ text: String, _ element: @escaping @Sendable (AnswerEvent) -> Element?
    ) -> AsyncThrowingStream<Element, any Error> {
        asking(element, { inner.send(text: text, listener: $0) })
    }

    /// Keeps the chat alive until the stream ends.
    func asking<Element: Sendable>(
        _ element: @escaping @Sendable (AnswerEvent) -> Element?, _ ask: (any Listener) -> Answer
    ) -> AsyncThrowingStream<Element, any Error> {
        listening(element) { listener in
            let answer = ask(listener)
            return Work(owner: self) { answer.cancel() }
        }
    }

    /// Stops the current answer and those that wait; each stream ends with what was made.
    public func cancel() { inner.cancel() }

    /// The messages so far, oldest first, without an unfinished answer.
    public var history: [Message] { inner.history() }

    /// The last message in the journal, if the app ended before any of its answer was shown: a draft to send again.
    public var unanswered: String? { inner.unanswered() }

    /// Figures of the last answer.
    public var stats: Stats { inner.stats() }

    /// Writes the conversation to a file, atomically.
    public func save(to url: URL) async throws {
        try await blocking { [inner] in try inner.save(path: url.path) }
    }

    /// Stops all answers and continues a conversation from a file that ``save(to:)`` or `thimble chat` wrote.
    public func restore(from url: URL) async throws {
        try await blocking { [inner] in try inner.restore(path: url.path) }
    }

    /// Stops all answers and begins a new conversation with the same instructions.
    public func clear() { inner.clear() }

    /// Pauses, for an app that goes to the background; ``resume()`` continues where it was.
    public func pause() { inner.pause() }

    /// Ends a pause.
    public func resume() { inner.resume() }

    /// Works with half the threads while the device is hot or its battery low. Answers do not depend on it.
    public func savePower(_ save: Bool) { inner.savePower(save: save) }

    /// Gives the memory of the conversation back: at once while paused, otherwise once the current answer is complete.
    /// Later work takes memory again and recomputes the conversation; nothing is lost.
    public func freeMemory() { inner.freeMemory() }
}

extension ChatOptions {
    /// The same options with a journal: every piece is on disk before it is shown, and a chat continues an existing
    /// file.
    public func journaled(at url: URL) -> ChatOptions {
        var options = self
        options.journal = url.path
        return options
    }

    /// The same options with a file for keys and values: written when the chat is paused or gives its memory back, and
    /// read instead of computing them, even by a later process. It may be deleted at any time: put it in the app's
    /// caches.
    public func keepingKeysAndValues(at url: URL) -> ChatOptions {
        var options = self
        options.kvFile = url.path
        return options
    }
}
