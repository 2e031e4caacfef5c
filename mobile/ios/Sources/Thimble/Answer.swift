import Foundation
import ThimbleFFI

/// What becomes of a message, in this order: progress, pieces, one end.
public enum AnswerEvent: Sendable, Equatable {
    /// How much of a long prompt has been read, in tokens.
    case reading(done: Int, of: Int)
    /// More text; whole characters.
    case piece(String)
    /// The answer is complete or was stopped, with its figures.
    case end(Reply)
}

/// Takes an answer from the engine's thread into a stream.
///
/// A stream that nobody reads any more stops its own answer, and no other one that waits.
final class Ear<Element: Sendable>: Listener, @unchecked Sendable {
    private let continuation: AsyncThrowingStream<Element, any Error>.Continuation
    private let element: @Sendable (AnswerEvent) -> Element?
    private let lock = NSLock()
    private var stopped = false

    init(
        _ continuation: AsyncThrowingStream<Element, any Error>.Continuation,
        _ element: @escaping @Sendable (AnswerEvent) -> Element?
    ) {
        self.continuation = continuation
        self.element = element
    }

    /// Lets the engine stop at the next token.
    func stop() {
        lock.lock()
        defer { lock.unlock() }
        stopped = true
    }

    private func hear(_ event: AnswerEvent) throws {
        lock.lock()
        let stopped = stopped
        lock.unlock()
        if stopped { throw ListenerError.Failed(reason: "nobody reads the answer") }
        if let element = element(event) { continuation.yield(element) }
    }

    func onPiece(text: String) throws { try hear(.piece(text)) }

    func onProgress(done: UInt32, of: UInt32) throws { try hear(.reading(done: Int(done), of: Int(of))) }

    func onEnd(reply: Reply) throws {
        if let element = element(.end(reply)) { continuation.yield(element) }
        continuation.finish()
    }

    func onError(error: ApiError) throws { continuation.finish(throwing: ThimbleError(error)) }
}

/// A stream of what `start` lets its listener hear; `owner` lives as long as the stream is being filled.
func listening<Element: Sendable>(
    _ owner: any Sendable,
    _ element: @escaping @Sendable (AnswerEvent) -> Element?,
    start: (any Listener) -> Void
) -> AsyncThrowingStream<Element, any Error> {
    AsyncThrowingStream { continuation in
        let ear = Ear(continuation, element)
        continuation.onTermination = { _ in withExtendedLifetime(owner) { ear.stop() } }
        start(ear)
    }
}
