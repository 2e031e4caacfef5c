import ThimbleFFI

/// A completion in progress: a stream of pieces or of events, and control of the work behind it.
///
/// The work stops when nobody holds this or reads the stream any more, or when the task that reads it is cancelled.
public struct Completion<Element: Sendable>: AsyncSequence, Sendable {
    private let stream: AsyncThrowingStream<Element, any Error>
    /// Nil if the options are invalid; the stream then throws.
    private let work: ThimbleFFI.Completion?

    /// The pieces or events, to be read once.
    public func makeAsyncIterator() -> AsyncThrowingStream<Element, any Error>.Iterator { stream.makeAsyncIterator() }

    /// Stops, even while paused; the stream ends with what was made.
    public func cancel() { work?.cancel() }

    /// Pauses, for an app that goes to the background; ``resume()`` continues where it was.
    public func pause() { work?.pause() }

    /// Ends a pause.
    public func resume() { work?.resume() }

    /// Works with half the threads while the device is hot or its battery low. The text does not depend on it.
    public func savePower(_ save: Bool) { work?.savePower(save: save) }
}

extension Completion {
    init(
        _ element: @escaping @Sendable (AnswerEvent) -> Element?,
        start: (any Listener) throws -> ThimbleFFI.Completion
    ) {
        var started: ThimbleFFI.Completion?
        stream = listening(element) { listener in
            let completion = try start(listener)
            started = completion
            return Work(owner: completion) { completion.cancel() }
        }
        work = started
    }
}
