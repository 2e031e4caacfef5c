import Foundation
import Thimble
@testable import ThimbleChat

/// A scripted model: each test says what it answers.
final class FakeModel: ChatModel, @unchecked Sendable {
    let info: ModelInfo
    private let lock = NSLock()
    private var made: [FakeChat] = []
    private var questions: [String] = []
    private var prepared: Result<String, ThimbleError>?

    /// What a test lets the checksums say.
    private let damage: ThimbleError?

    init(_ name: String = "fake", answersMessages: Bool = true, damage: ThimbleError? = nil) {
        self.damage = damage
        info = ModelInfo(
            name: name, parameters: 1, fileBytes: 1, stateBytes: 1, context: 64, mostContext: 64,
            answersMessages: answersMessages, kernels: "none", threads: 1)
    }

    /// The chats that were begun, oldest first.
    var chats: [FakeChat] {
        lock.lock()
        defer { lock.unlock() }
        return made
    }

    /// Seconds that the last handle of a chat lives longer than the app holds it.
    var lingering: Double {
        get { journals.lingering }
        set { journals.lingering = newValue }
    }

    private let journals = OpenJournals()

    func chat(_ options: ChatOptions) async throws -> any Conversing {
        try journals.take(options.journal)
        let handle: FakeHandle
        do {
            handle = FakeHandle(try FakeChat(options), journals)
        } catch {
            journals.giveBack(options.journal)
            throw error
        }
        add(handle.chat)
        if lingering > 0 {
            handle.chat.whenEnded = { [weak handle, lingering] in
                // As the worker's thread does that has just told the end.
                guard let handle else { return }
                DispatchQueue.global().asyncAfter(deadline: .now() + lingering) { withExtendedLifetime(handle) {} }
            }
        }
        return handle
    }

    /// What was asked outside of chats, oldest first.
    var asked: [String] {
        lock.lock()
        defer { lock.unlock() }
        return questions
    }

    /// The next question outside of a chat is answered with this JSON; without an answer it waits.
    func answersOnce(_ json: String) { prepare(.success(json)) }

    /// The next question outside of a chat fails.
    func failsOnce(_ error: ThimbleError) { prepare(.failure(error)) }

    private func prepare(_ answer: Result<String, ThimbleError>) {
        lock.lock()
        defer { lock.unlock() }
        prepared = answer
    }

    private func take(_ question: String) -> Result<String, ThimbleError>? {
        lock.lock()
        defer { lock.unlock() }
        questions.append(question)
        defer { prepared = nil }
        return prepared
    }

    func answerOnce<Value: Decodable & Sendable>(
        _ text: String, as type: Value.Type, options: ChatOptions
    ) async throws -> Value {
        guard let answer = take(text) else {
            try await Task.sleep(nanoseconds: 60_000_000_000)
            throw CancellationError()
        }
        return try JSONDecoder().decode(type, from: Data(try answer.get().utf8))
    }

    func verify() async throws {
        if let damage { throw damage }
    }

    private func add(_ chat: FakeChat) {
        lock.lock()
        defer { lock.unlock() }
        made.append(chat)
    }
}

/// Journals that a chat has open: a second chat with the same one is refused, as the library does.
final class OpenJournals: @unchecked Sendable {
    private let lock = NSLock()
    private var paths: Set<String> = []
    var lingering = 0.0

    func take(_ path: String?) throws {
        lock.lock()
        defer { lock.unlock() }
        guard let path, !paths.insert(path).inserted else { return }
        throw ThimbleError.other(message: "another chat has \(path) open")
    }

    func giveBack(_ path: String?) {
        lock.lock()
        defer { lock.unlock() }
        if let path { paths.remove(path) }
    }
}

/// What the app holds of a chat: its journal is in use until this is gone.
final class FakeHandle: Conversing {
    let chat: FakeChat
    private let journals: OpenJournals

    init(_ chat: FakeChat, _ journals: OpenJournals) {
        self.chat = chat
        self.journals = journals
    }

    deinit { journals.giveBack(chat.options.journal) }

    var history: [Message] { chat.history }
    var unanswered: String? { chat.unanswered }
    var stats: Stats { chat.stats }
    func answer(_ text: String) -> FakeChat.Stream { chat.answer(text) }
    func answerAgain() -> FakeChat.Stream { chat.answerAgain() }
    func cancel() { chat.cancel() }
    func pause() { chat.pause() }
    func resume() { chat.resume() }
    func savePower(_ save: Bool) { chat.savePower(save) }
    func freeMemory() { chat.freeMemory() }
}

/// A chat whose answers a test writes piece by piece. Its journal holds a message per line.
final class FakeChat: @unchecked Sendable {
    typealias Stream = AsyncThrowingStream<AnswerEvent, any Error>

    let options: ChatOptions
    /// Called before anyone hears the end of an answer.
    var whenEnded: (@Sendable () -> Void)?
    private let lock = NSLock()
    private var answer: Stream.Continuation?
    private var asked = ""
    private var said = ""
    private var turns: [Message] = []
    private var heard: [String] = []

    init(_ options: ChatOptions) throws {
        self.options = options
        guard let path = options.journal else { return }
        if FileManager.default.fileExists(atPath: path) {
            let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
            if lines.first == "broken" { throw ThimbleError.damaged(path: path, reason: "it is broken") }
            turns = lines.enumerated().map { Message(fromUser: $0.offset % 2 == 0, text: String($0.element)) }
        } else {
            try Data().write(to: URL(fileURLWithPath: path))
        }
    }

    /// What was asked of it besides answers, in order.
    var calls: [String] { locked { heard } }
    var history: [Message] { locked { turns } }
    var unanswered: String? { nil }
    var stats: Stats { Stats(promptTokens: 1, promptSpeed: 10, tokens: 7, speed: 12.34) }

    func answer(_ text: String) -> Stream { ask(text) }

    func answerAgain() -> Stream {
        ask(
            locked {
                turns.removeLast()
                return turns.removeLast().text
            })
    }

    private func ask(_ text: String) -> Stream {
        let (stream, continuation) = Stream.makeStream()
        locked {
            (asked, said, answer) = (text, "", continuation)
        }
        return stream
    }

    /// More of the answer.
    func say(_ event: AnswerEvent) {
        locked {
            if case let .piece(text) = event { said += text }
            return answer
        }?.yield(event)
    }

    /// The end of the answer.
    func end(_ finish: Finish = .stop) {
        let (continuation, reply) = locked { () -> (Stream.Continuation?, Reply) in
            let continuation = answer
            answer = nil
            if continuation != nil, finish != .cancelled || !said.isEmpty {
                turns += [Message(fromUser: true, text: asked), Message(fromUser: false, text: said)]
                if let path = options.journal {
                    try? Data(turns.map { $0.text + "\n" }.joined().utf8).write(to: URL(fileURLWithPath: path))
                }
            }
            return (
                continuation,
                Reply(
                    text: said, finish: finish, forgottenTurns: 0, reusedTokens: 0, promptTokens: 1, promptSeconds: 1,
                    tokens: 1, seconds: 1)
            )
        }
        if continuation != nil { whenEnded?() }
        continuation?.yield(.end(reply))
        continuation?.finish()
    }

    /// The answer fails.
    func fail(_ error: ThimbleError) {
        locked {
            defer { answer = nil }
            return answer
        }?.finish(throwing: error)
    }

    func cancel() { end(.cancelled) }
    func pause() { note("pause") }
    func resume() { note("resume") }
    func savePower(_ save: Bool) { note("savePower \(save)") }
    func freeMemory() { note("freeMemory") }

    private func note(_ call: String) { locked { heard.append(call) } }

    private func locked<Value>(_ work: () -> Value) -> Value {
        lock.lock()
        defer { lock.unlock() }
        return work()
    }
}

/// Waits until `condition` holds; the screen's thread goes on meanwhile. `false` after a long time.
@MainActor
func eventually(_ condition: () -> Bool) async -> Bool {
    for _ in 0..<20_000 {
        if condition() { return true }
        try? await Task.sleep(nanoseconds: 1_000_000)
    }
    return condition()
}
