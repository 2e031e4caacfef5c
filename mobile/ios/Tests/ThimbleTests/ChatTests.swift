import Foundation
@testable import Thimble
import ThimbleFFI
import XCTest

/// Conversations with the real model.
final class ChatTests: ModelTestCase {
    func testTheTextIsThatOfTheCommand() async throws {
        guard let expected = ProcessInfo.processInfo.environment["THIMBLE_RUN_CHAT"] else {
            try missing(
                """
                THIMBLE_RUN_CHAT is what `thimble run --chat --temperature 0 --repetition-penalty 1 --max-tokens 60` says \
                to the question
                """)
        }
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 60))
        let text = try await joined(chat.send("Why is the sky blue?"))
        XCTAssertEqual(text, expected)
    }

    func testEventsComeInOrder() async throws {
        let model = try await Thimble.Model.open(modelFile(), options: ModelOptions(threads: 2))
        let chat = try await Thimble.Chat(model, options: greedy(maxTokens: 40))
        // Long enough to be read in several parts.
        let question = String(repeating: "One, two, three, four. ", count: 80) + "Go on."
        var text = ""
        var read = -1
        var end: Reply?
        for try await event in chat.answer(question) {
            XCTAssertNil(end, "nothing comes after the end")
            switch event {
            case let .reading(done, of):
                XCTAssertEqual(text, "", "the prompt is read before the first piece")
                XCTAssertGreaterThan(done, read)
                XCTAssertLessThanOrEqual(done, of)
                read = done
            case let .reasoning(reasoning):
                XCTFail("a model that does not think: \(reasoning)")
            case let .piece(piece):
                XCTAssertFalse(piece.isEmpty)
                text += piece
            case let .end(reply):
                end = reply
            }
        }
        XCTAssertGreaterThan(read, 0)
        XCTAssertEqual(end?.text, text)
        XCTAssertEqual(chat.history, [Message(fromUser: true, text: question), Message(fromUser: false, text: text)])
        XCTAssertEqual(chat.stats.tokens, end?.tokens)
        XCTAssertGreaterThan(chat.stats.speed, 0)
    }

    func testCancelStopsBeforeTheNextToken() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 300))
        let heard = Counter()
        // On the worker's thread, so that no piece can be on its way meanwhile.
        let stream = chat.answer("Count from 1 to 300.") { event -> Reply? in
            switch event {
            case .piece:
                if heard.next() == 5 { chat.cancel() }
            case let .end(reply):
                return reply
            case .reading, .reasoning:
                break
            }
            return nil
        }
        var replies: [Reply] = []
        for try await reply in stream { replies.append(reply) }
        XCTAssertEqual(heard.count, 5)
        XCTAssertEqual(replies.map(\.finish), [.cancelled])
        XCTAssertEqual(chat.history.last?.text, replies.first?.text)
        let next = try await joined(chat.send("What is 2 + 2?"))
        XCTAssertFalse(next.isEmpty, "the chat goes on after it")
    }

    func testCancelStopsThoseThatWaitToo() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 300))
        chat.pause()
        let first = chat.answer("Count from 1 to 300.")
        let second = chat.answer("And back.")
        chat.cancel()
        for stream in [first, second] {
            var last: AnswerEvent?
            for try await event in stream { last = event }
            guard case let .end(reply) = last else { return XCTFail("an answer without an end") }
            XCTAssertEqual(reply.finish, .cancelled)
        }
        XCTAssertEqual(chat.history, [])
        chat.resume()
    }

    func testLettingGoOfAStreamStopsItsAnswerAndNoOther() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 300))
        func readTwo() async throws -> AsyncThrowingStream<String, any Error> {
            var pieces = chat.send("Count from 1 to 300.").makeAsyncIterator()
            _ = try await pieces.next()
            _ = try await pieces.next()
            return chat.send("What is the capital of France?")
        }
        let text = try await joined(readTwo())
        XCTAssertTrue(text.contains("Paris"), text)
        XCTAssertEqual(chat.history.count, 4)
        XCTAssertLessThan(chat.history[1].text.count, 600, "the first answer was not made to its end")
    }

    func testLettingGoOfAStreamStopsAnAnswerThatIsPausedOrWaits() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 300))
        // Both in the first message's time, and neither of them by `resume`.
        let ended = Ends()
        chat.pause()
        for question in ["Count from 1 to 300.", "And back."] {
            _ = chat.answer(question) { event -> Reply? in
                if case let .end(reply) = event { ended.add(reply) }
                return nil
            }
        }
        let both = await ended.wait(for: 2)
        XCTAssertEqual(both.map(\.finish), [.cancelled, .cancelled])
        chat.resume()
        let text = try await joined(chat.send("What is the capital of France?"))
        XCTAssertTrue(text.contains("Paris"), text)
        XCTAssertEqual(chat.history.count, 2)
    }

    func testCancellingTheTaskStopsTheAnswer() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 400))
        let begun = expectation(description: "the answer has begun")
        let reading = Task {
            var pieces = 0
            for try await _ in chat.send("Write a long story about a whale.") {
                pieces += 1
                if pieces == 1 { begun.fulfill() }
            }
            return pieces
        }
        await fulfillment(of: [begun], timeout: 60)
        reading.cancel()
        _ = try await reading.value
        let text = try await joined(chat.send("What is the capital of France?"))
        XCTAssertFalse(text.isEmpty)
        XCTAssertEqual(chat.history.count, 4)
    }

    func testTwoChatsOnOneModelAtOnce() async throws {
        let model = try await openModel()
        let alone = try await Thimble.Chat(model, options: greedy(maxTokens: 40))
        let questions = ["Why is the sky blue?", "What is a thimble?"]
        var expected: [String] = []
        for question in questions {
            expected.append(try await joined(alone.send(question)))
            alone.clear()
        }
        let chats = [
            try await Thimble.Chat(model, options: greedy(maxTokens: 40)),
            try await Thimble.Chat(model, options: greedy(maxTokens: 40)),
        ]
        async let first = joined(chats[0].send(questions[0]))
        async let second = joined(chats[1].send(questions[1]))
        let texts = try await [first, second]
        XCTAssertEqual(texts, expected)
    }

    func testEverythingMayBeDroppedWhileGenerating() async throws {
        let model = try await openModel()
        for pieces in 0..<10 {
            weak var dropped: Thimble.Chat?
            func begin() async throws {
                let chat = try await Thimble.Chat(model, options: greedy(maxTokens: 400))
                dropped = chat
                var stream = chat.send("Write a long story about a whale.").makeAsyncIterator()
                for _ in 0..<pieces { _ = try await stream.next() }
            }
            try await begin()
            XCTAssertNil(dropped, "nothing keeps a chat whose stream is gone")
        }
        let chat = try await Thimble.Chat(model, options: greedy(maxTokens: 20))
        let text = try await joined(chat.send("What is the capital of France?"))
        XCTAssertTrue(text.contains("Paris"), text)
    }

    func testAStreamKeepsItsChat() async throws {
        let stream = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 20)).send(
            "What is the capital of France?")
        let text = try await joined(stream)
        XCTAssertTrue(text.contains("Paris"), text)
    }

    func testAChatIsLetGoOfBeforeTheEndOfItsStream() async throws {
        let model = try await openModel()
        for _ in 0..<10 {
            weak var held: Thimble.Chat?
            func begin() async throws -> AsyncThrowingStream<String, any Error> {
                let chat = try await Thimble.Chat(model, options: greedy(maxTokens: 2))
                held = chat
                return chat.send("What is the capital of France?")
            }
            _ = try await joined(begin())
            XCTAssertNil(held, "its journal could not be opened again")
        }
    }

    func testAListenerThatThrowsStopsItsAnswerAndNothingElse() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 300))
        let listener = Failing(after: 3)
        _ = chat.inner.send(text: "Count from 1 to 300.", listener: listener)
        await fulfillment(of: [listener.ended], timeout: 60)
        XCTAssertEqual(listener.pieces, 3)
        XCTAssertEqual(listener.finish, .cancelled)
        let text = try await joined(chat.send("What is the capital of France?"))
        XCTAssertFalse(text.isEmpty)
    }

    func testRetryAnswersTheLastMessageOnceMore() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 20))
        let nothing = await thrown { _ = try await joined(chat.retry()) }
        guard case .other = nothing else { return XCTFail("\(String(describing: nothing))") }
        let first = try await joined(chat.send("What is the capital of France?"))
        let second = try await joined(chat.retry())
        XCTAssertEqual(first, second)
        XCTAssertEqual(chat.history.count, 2)
    }

    func testAMessageLongerThanTheContextIsRefused() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 20))
        let error = await thrown { _ = try await joined(chat.send(String(repeating: "word ", count: 2000))) }
        guard case .contextFull = error else { return XCTFail("\(String(describing: error))") }
        XCTAssertEqual(chat.history, [])
    }

    func testCallsFromManyTasksAtOnce() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 5))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<8 {
                group.addTask {
                    _ = try await joined(chat.send("Say \(number)."))
                    _ = chat.history
                    chat.freeMemory()
                    _ = chat.stats
                }
            }
            try await group.waitForAll()
        }
        XCTAssertEqual(chat.history.filter(\.fromUser).count, 8)
    }
}

/// A listener that throws something of its own after some pieces.
private final class Failing: Listener, @unchecked Sendable {
    struct Broken: Error {}

    let ended = XCTestExpectation(description: "the answer has ended")
    private let after: Int
    private let counter = Counter()
    private(set) var finish: Finish?

    init(after: Int) { self.after = after }

    var pieces: Int { counter.count }

    func onPiece(text: String) throws {
        if counter.next() >= after { throw Broken() }
    }

    func onReasoning(text: String) throws {}

    func onProgress(done: UInt32, of: UInt32) throws {}

    func onEnd(reply: Reply) throws {
        finish = reply.finish
        ended.fulfill()
        throw Broken()
    }

    func onError(error: ApiError) throws { ended.fulfill() }
}
