import Foundation
@testable import Thimble
import XCTest

/// What a device asks of a chat: to pause, to give memory back, to save power.
final class PauseTests: ModelTestCase {
    func testPauseLosesNothing() async throws {
        let chat = try await Thimble.Chat(openModel(), options: greedy(maxTokens: 40))
        let expected = try await joined(chat.send("Why is the sky blue?"))
        chat.clear()
        var text = ""
        var pieces = 0
        for try await piece in chat.send("Why is the sky blue?") {
            text += piece
            pieces += 1
            if pieces % 5 == 0 {
                chat.pause()
                await Task.yield()
                chat.resume()
            }
        }
        XCTAssertEqual(text, expected)
    }

    func testKeysAndValuesGoOnInAnotherChat() async throws {
        let model = try await openModel()
        let file = folder.appendingPathComponent("open.kv")
        let options = greedy(maxTokens: 60).journaled(at: folder.appendingPathComponent("a.journal"))
            .keepingKeysAndValues(at: file)
        func first() async throws {
            let chat = try await Thimble.Chat(model, options: options)
            _ = try await joined(chat.send("Tell me a long story about a lighthouse."))
            chat.pause()
            for _ in 0..<20_000 where !FileManager.default.fileExists(atPath: file.path) {
                try await Task.sleep(nanoseconds: 1_000_000)
            }
        }
        try await first()
        let chat = try await Thimble.Chat(model, options: options)
        XCTAssertEqual(chat.history.count, 2)
        var reused: UInt32 = 0
        for try await event in chat.answer("And then?") {
            if case let .end(reply) = event { reused = reply.reusedTokens }
        }
        XCTAssertGreaterThanOrEqual(reused, 64)
    }

    func testMemoryIsGivenBackWhilePaused() async throws {
        let model = try await openModel()
        let chat = try await Thimble.Chat(model, options: greedy(maxTokens: 40))
        let monitor = DeviceMonitor()
        monitor.watch(chat)
        let question = String(repeating: "One, two, three, four. ", count: 40) + "Go on."
        let expected = try await joined(chat.send(question))
        chat.clear()
        var text = ""
        var pieces = 0
        for try await piece in chat.send(question) {
            text += piece
            pieces += 1
            guard pieces == 5 else { continue }
            chat.pause()
            let before = try XCTUnwrap(Memory.used())
            monitor.report(.memoryIsShort)
            // Keys and values of the question alone are more than that.
            var given = false
            for _ in 0..<20_000 where !given {
                try await Task.sleep(nanoseconds: 1_000_000)
                given = try XCTUnwrap(Memory.used()) + 3_000_000 < before
            }
            XCTAssertTrue(given, "\(before) bytes before, \(Memory.used() ?? 0) afterwards")
            chat.resume()
        }
        XCTAssertGreaterThan(pieces, 5)
        XCTAssertEqual(text, expected)
    }

    func testThreadsAndFreedMemoryDoNotChangeAnswers() async throws {
        let model = try await openModel()
        func talk(_ between: (Thimble.Chat) -> Void) async throws -> [Message] {
            let chat = try await Thimble.Chat(model, options: greedy(maxTokens: 30))
            for question in ["What is the capital of France?", "And of Italy?"] {
                _ = try await joined(chat.send(question))
                between(chat)
            }
            return chat.history
        }
        let monitor = DeviceMonitor()
        let expected = try await talk { _ in }
        let other = try await talk { chat in
            monitor.watch(chat)
            monitor.report(.conditions(DeviceConditions(isHot: true)))
            monitor.report(.memoryIsShort)
        }
        XCTAssertEqual(other, expected)
    }
}
