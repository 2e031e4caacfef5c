import Foundation
import ThimbleFFI

/// What becomes of a message: progress and pieces, then one end. A long prompt is read before the first piece; where the
/// context is full, or was given back in a pause, it is read again between two.
public enum AnswerEvent: Sendable, Equatable {
    /// How much of a long prompt has been read, in tokens.
    case reading(done: Int, of: Int)
    /// More text; whole characters.
    case piece(String)
    /// The answer is complete or was stopped, with its figures.
    case end(Reply)
}

/// What fills a stream.
struct Work: Sendable {
    /// It would stop if nobody held this.
    let owner: any Sendable
    /// Stops the work for this stream and no other; nothing once it is over.
    let cancel: @Sendable () -> Void
}

/// Takes an answer from the engine's thread into a stream.
///
/// A stream that nobody reads any more stops its own answer, and no other one that waits.
final class StreamListener<Element: Sendable>: Listener, @unchecked Sendable {
    private let continuation: AsyncThrowingStream<Element, any Error>.Continuation
    private let element: @Sendable (AnswerEvent) -> Element?
    /// Guards what follows.
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

    /// Keeps what answers alive until ``stop()`` or the end; either may have come already.
    func keep(_ work: Work) {
        lock.lock()
        let stopped = stopped
        if !stopped { self.work = work }
        lock.unlock()
        if stopped { work.cancel() }
    }

    /// Stops this answer, also one that waits or is paused, and lets go of what answers.
    func stop() { letGo()?.cancel() }

    /// Lets go of what answers: the caller has it for a last time, and not while the lock is held.
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

    func onProgress(done: UInt32, of: UInt32) throws { try hear(.reading(done: Int(done), of: Int(of))) }

    // Who hears the end may open the chat's journal anew: by then nothing here holds the chat.
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

/// A stream of what `start` lets its listener hear. What `start` returns lives as long as the stream is being filled.
func listening<Element: Sendable>(
    _ element: @escaping @Sendable (AnswerEvent) -> Element?,
    start: (any Listener) throws -> Work
) -> AsyncThrowingStream<Element, any Error> {
    AsyncThrowingStream { continuation in
        let listener = StreamListener(continuation, element)
        // Before the start: an answer may be over when that returns.
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
