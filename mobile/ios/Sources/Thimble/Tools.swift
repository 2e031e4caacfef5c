import Foundation
import ThimbleFFI

/// A function of the app that a model may call.
public struct Tool: Sendable {
    /// What the model is told.
    public let definition: ToolDefinition
    /// Gives the model's text for a call's arguments, in JSON.
    let run: @Sendable (String) async throws -> String

    /// A tool whose arguments are a Swift type, see ``JSONSchema/init(of:)`` for which types.
    ///
    /// - Parameters:
    ///   - name: Letters, digits, `_` and `-`.
    ///   - description: What it does and when to call it, for the model.
    ///   - run: Returns what the model reads: text, often JSON.
    /// - Throws: ``SchemaError``.
    public init<Arguments: Decodable & Sendable>(
        _ name: String, _ description: String, arguments: Arguments.Type,
        run: @escaping @Sendable (Arguments) async throws -> String
    ) throws {
        let parameters = try JSONSchema(of: arguments).json
        definition = ToolDefinition(name: name, description: description, parameters: parameters)
        self.run = { try await run(decoded(arguments, from: $0)) }
    }

    /// A tool without arguments.
    public init(_ name: String, _ description: String, run: @escaping @Sendable () async throws -> String) {
        definition = ToolDefinition(name: name, description: description, parameters: JSONSchema.object([:]).json)
        self.run = { _ in try await run() }
    }
}

extension ChatOptions {
    /// The same options with tools that the model may call.
    public func tools(_ tools: [Tool]) -> ChatOptions {
        var options = self
        options.tools = tools.map(\.definition)
        return options
    }
}

extension Chat {
    /// Answers a message; where the model calls tools, runs them and goes on, until the answer calls none.
    ///
    /// What a tool throws is told to the model, which may try something else; `CancellationError` ends the answer. For
    /// an app that decides about each call itself: ``reply(to:options:)`` and ``sendToolResults(_:options:)``.
    ///
    /// - Parameters:
    ///   - tools: Those of the chat's options.
    ///   - mostCalls: Calls after which it stops with ``ThimbleError/other(message:)``.
    ///   - approve: Asked before each call; where it says no, the model is told that the user declined.
    public func answer(
        _ text: String, tools: [Tool], mostCalls: Int = 10, options: AnswerOptions = AnswerOptions(),
        approve: @Sendable (ToolCall) async -> Bool = { _ in true }
    ) async throws -> String {
        let byName = Dictionary(tools.map { ($0.definition.name, $0) }, uniquingKeysWith: { first, _ in first })
        var reply = try await reply(to: text, options: options)
        // A choice such as a required call is for the first answer: otherwise there would never be a last one.
        var following = options
        following.toolChoice = nil
        var calls = 0
        while !reply.toolCalls.isEmpty {
            calls += reply.toolCalls.count
            guard calls <= mostCalls else {
                throw ThimbleError.other(
                    message: "The model called tools \(calls) times, expected at most \(mostCalls).")
            }
            var results: [ToolResult] = []
            for call in reply.toolCalls {
                let isApproved = await approve(call)
                let content = try await isApproved ? Self.run(byName[call.name], call) : "The user declined this call."
                results.append(ToolResult(callId: call.id, content: content))
            }
            reply = try await Self.last(sendToolResults(results, options: following))
        }
        return reply.text
    }

    /// Tells the model what its calls returned, and answers with a stream of events.
    public func sendToolResults(
        _ results: [ToolResult], options: AnswerOptions = AnswerOptions()
    ) -> AsyncThrowingStream<AnswerEvent, any Error> {
        asking({ $0 }, { inner.sendToolResults(results: results, listener: $0, options: options) })
    }

    private static func run(_ tool: Tool?, _ call: ToolCall) async throws -> String {
        guard let tool else { return "There is no tool \(call.name)." }
        do {
            return try await tool.run(call.arguments)
        } catch let error as CancellationError {
            throw error
        } catch {
            return "The tool failed: \(error.localizedDescription)"
        }
    }
}
