import Foundation
import ThimbleFFI

/// What happens while an answer is made: progress and pieces, then one end. A long prompt is read before the first
/// piece; where the context is full, or its memory was given back in a pause, it is read again between pieces.
public enum AnswerEvent: Sendable, Equatable {
    /// How much of a long prompt has been read, in tokens.
    case reading(done: Int, of: Int)
    /// More of the answer; whole characters.
    case piece(String)
    /// More of the model's reasoning, which comes before the answer; whole characters.
    case reasoning(String)
    /// The answer is complete or was stopped, with its figures.
    case end(Reply)
}

/// What fills a stream.
struct Work: Sendable {
    /// Keeps the work alive.
    let owner: any Sendable
    /// Stops the work for this stream only; does nothing once it is over.
    let cancel: @Sendable () -> Void
}

/// Passes an answer from the worker's thread to a stream.
///
/// A stream that nobody reads any more stops its own answer only.
final class StreamListener<Element: Sendable>: Listener, @unchecked Sendable {
    private let continuation: AsyncThrowingStream<Element, any Error>.Continuation
    private let element: @Sendable (AnswerEvent) -> Element?
    /// Guards the properties below.
    private let lock = NSLock()
    private var stopped = false
    private var work: Work?

    init(
        _ continuation: AsyncThrowingStream<Element, any Error>.Continuation,
        _ element: @escaping @Sendable (AnswerEvent) -> Element?
    ) {
        self.continuation = continuation
        self.element = element
    }

    /// Keeps the work alive until ``stop()`` or the end; either may have come already.
    func keep(_ work: Work) {
        lock.lock()
        let stopped = stopped
        if !stopped { self.work = work }
        lock.unlock()
        if stopped { work.cancel() }
    }

    /// Stops this answer, even if it waits or is paused, and releases the work.
    func stop() { letGo()?.cancel() }

    /// Releases the work to the caller, who drops it after the lock is released.
    private func letGo() -> Work? {
        lock.lock()
        defer { lock.unlock() }
        stopped = true
        let work = work
        self.work = nil
        return work
    }

    private func hear(_ event: AnswerEvent) throws {
        lock.lock()
        let stopped = stopped
        lock.unlock()
        if stopped { throw ListenerError.Failed(reason: "nobody reads the answer") }
        if let element = element(event) { continuation.yield(element) }
    }

    func onPiece(text: String) throws { try hear(.piece(text)) }

    func onReasoning(text: String) throws { try hear(.reasoning(text)) }

    func onProgress(done: UInt32, of: UInt32) throws { try hear(.reading(done: Int(done), of: Int(of))) }

    // After the end the app may open the chat's journal again: nothing here may hold the chat by then.
    func onEnd(reply: Reply) throws {
        _ = letGo()
        if let element = element(.end(reply)) { continuation.yield(element) }
        continuation.finish()
    }

    func onError(error: ApiError) throws {
        _ = letGo()
        continuation.finish(throwing: ThimbleError(error))
    }
}

/// A stream of the events that `start` sends to its listener. The work that `start` returns lives until the stream
/// ends.
func listening<Element: Sendable>(
    _ element: @escaping @Sendable (AnswerEvent) -> Element?,
    start: (any Listener) throws -> Work
) -> AsyncThrowingStream<Element, any Error> {
    AsyncThrowingStream { continuation in
        let listener = StreamListener(continuation, element)
        // Before the start: the answer may be over when that returns.
        continuation.onTermination = { _ in listener.stop() }
        do {
            listener.keep(try start(listener))
        } catch {
            continuation.finish(throwing: ThimbleError(error))
        }
    }
}

extension AnswerEvent {
    /// The text of a piece.
    var text: String? {
        guard case let .piece(text) = self else { return nil }
        return text
    }
}
