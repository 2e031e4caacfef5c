import Foundation
import ThimbleFFI

/// Answers of a given form. Sampling excludes every token that would break the form.
extension Chat {
    /// Answers a message with a value of a Swift type, see ``JSONSchema/init(of:)`` for which types.
    ///
    /// Cancelling the task stops the answer.
    ///
    /// - Throws: ``ThimbleError/incomplete(partial:)`` where the token limit ended the answer, ``SchemaError``, `CancellationError`,
    ///   or ``ThimbleError``: a schema keyword that is not supported is refused before anything is generated.
    public func answer<Value: Decodable & Sendable>(
        _ text: String, as type: Value.Type, options: AnswerOptions = AnswerOptions()
    ) async throws -> Value {
        let format = AnswerFormat.jsonSchema(schema: try JSONSchema(of: type).json)
        return try decoded(type, from: try await answer(text, format: format, options: options))
    }

    /// Answers a message with one of these texts.
    ///
    /// - Throws: As ``answer(_:as:options:)``.
    public func answer(
        _ text: String, choices: [String], options: AnswerOptions = AnswerOptions()
    ) async throws -> String {
        try await answer(text, format: .choices(choices: choices), options: options)
    }

    /// Answers a message with a text that a regular expression matches as a whole.
    ///
    /// - Throws: As ``answer(_:as:options:)``.
    public func answer(
        _ text: String, matching pattern: String, options: AnswerOptions = AnswerOptions()
    ) async throws -> String {
        try await answer(text, format: .regex(pattern: pattern), options: options)
    }

    /// Answers a message with a text of a form: a JSON Schema or a grammar that the app has as text.
    ///
    /// - Throws: As ``answer(_:as:options:)``.
    public func answer(
        _ text: String, format: AnswerFormat, options: AnswerOptions = AnswerOptions()
    ) async throws -> String {
        var options = options
        options.format = format
        let reply = try await reply(to: text, options: options)
        guard reply.complete else { throw ThimbleError.incomplete(partial: reply.text) }
        return reply.text
    }

    /// Answers a message as a whole: text, tool calls, log-probabilities and figures.
    ///
    /// - Throws: `CancellationError` where the task or the answer was cancelled, or ``ThimbleError``.
    public func reply(to text: String, options: AnswerOptions = AnswerOptions()) async throws -> Reply {
        try await Self.last(answer(text, options: options))
    }

    /// The end of a stream.
    static func last(_ events: AsyncThrowingStream<AnswerEvent, any Error>) async throws -> Reply {
        var end: Reply?
        for try await event in events {
            if case let .end(reply) = event { end = reply }
        }
        try Task.checkCancellation()
        guard let end, end.finish != .cancelled else { throw CancellationError() }
        return end
    }
}

/// A value from the JSON that a model wrote.
func decoded<Value: Decodable>(_ type: Value.Type, from json: String) throws -> Value {
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .custom(SchemaDate.decode)
    do {
        return try decoder.decode(type, from: Data(json.utf8))
    } catch {
        throw ThimbleError.other(message: "The answer \(json) is no \(type): \(error)")
    }
}
