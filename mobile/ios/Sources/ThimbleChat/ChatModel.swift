import Foundation
import Thimble

/// A conversation as the screen needs it. `Thimble.Chat` is one; tests have another.
public protocol Conversing: AnyObject, Sendable {
    /// The messages so far, oldest first.
    var history: [Message] { get }
    /// A message that was never answered.
    var unanswered: String? { get }
    /// Figures of the last answer.
    var stats: Stats { get }
    /// Answers a message with a stream of events.
    func answer(_ text: String) -> AsyncThrowingStream<AnswerEvent, any Error>
    /// Answers the last message again.
    func answerAgain() -> AsyncThrowingStream<AnswerEvent, any Error>
    /// Stops every answer.
    func cancel()
    /// Pauses.
    func pause()
    /// Ends a pause.
    func resume()
    /// Works with fewer threads, or with all of them.
    func savePower(_ save: Bool)
    /// Gives memory back until the next message.
    func freeMemory()
}

extension Chat: Conversing {}

/// A model as the screen needs it.
public protocol ChatModel: Sendable {
    /// Its properties.
    var info: ModelInfo { get }
    /// Begins a conversation, or continues the one in the journal.
    func chat(_ options: ChatOptions) async throws -> any Conversing
    /// Answers one message, in a conversation of its own, with a value of a Swift type.
    func answerOnce<Value: Decodable & Sendable>(
        _ text: String, as type: Value.Type, options: ChatOptions
    ) async throws -> Value
    /// Checks every byte of the file against its checksums.
    func verify() async throws
}

extension Model: ChatModel {
    /// Begins a conversation, or continues the one in the journal.
    public func chat(_ options: ChatOptions) async throws -> any Conversing {
        try await Chat(self, options: options)
    }

    /// Answers one message, in a conversation of its own, with a value of a Swift type.
    public func answerOnce<Value: Decodable & Sendable>(
        _ text: String, as type: Value.Type, options: ChatOptions
    ) async throws -> Value {
        try await Chat(self, options: options).answer(text, as: type)
    }
}

/// Opens a model file.
public typealias ModelOpener = @Sendable (URL, ModelOptions) async throws -> any ChatModel
