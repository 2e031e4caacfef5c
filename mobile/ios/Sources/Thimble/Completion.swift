import ThimbleFFI

/// A text that is being continued: a stream of pieces or of events, with a hand on the work behind it.
///
/// The work stops when nobody holds this or reads the stream any more, and when the task that reads it is cancelled.
public struct Completion<Element: Sendable>: AsyncSequence, Sendable {
    private let stream: AsyncThrowingStream<Element, any Error>
    /// Nothing where the options made no sense; the stream says so.
    private let work: ThimbleFFI.Completion?

    /// The pieces or events; they can be read once.
    public func makeAsyncIterator() -> AsyncThrowingStream<Element, any Error>.Iterator { stream.makeAsyncIterator() }

    /// Stops, also while paused; the stream comes to its end with what there was.
    public func cancel() { work?.cancel() }

    /// Lets the work wait, for an app that goes to the background; ``resume()`` lets it go on where it was.
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
