import Foundation
@testable import Thimble
import XCTest

/// Answers of a form, and tools, with the real model.
final class AnswersTests: ModelTestCase {
    private struct Ticket: Codable {
        enum Kind: String, Codable, CaseIterable { case bug, wish, question }
        struct Person: Codable {
            let name: String
            let isCustomer: Bool
        }
        let kind: Kind
        let due: Date
        let hours: Double
        let votes: Int
        let author: Person?
    }

    /// At temperature 1, where a small model without a schema gives hardly any JSON.
    func testEveryCompleteAnswerIsDecoded() async throws {
        let model = try await openModel()
        var complete = 0
        for seed in 0..<10 {
            let sampling = Sampling(temperature: 1, topK: nil, topP: nil, repetitionPenalty: 1, seed: UInt64(seed))
            let chat = try await Chat(model, options: ChatOptions(sampling: sampling, maxTokens: 200))
            do {
                _ = try await chat.answer("Invent a ticket of a software project.", as: Ticket.self)
                complete += 1
            } catch let ThimbleError.incomplete(partial) {
                XCTAssertTrue(partial.hasPrefix("{\"kind\":\""), partial)
            }
        }
        XCTAssertGreaterThan(complete, 3, "hardly any answer was complete")
    }

    func testAnEnumerationAndARegularExpression() async throws {
        let chat = try await Chat(openModel(), options: greedy(maxTokens: 20))
        let kind = try await chat.answer("The app crashes. Is this a bug?", as: Ticket.Kind.self)
        XCTAssertTrue(Ticket.Kind.allCases.contains(kind))
        let year = try await chat.answer("When was the moon landing?", matching: "(19|20)[0-9]{2}")
        XCTAssertNotNil(Int(year), year)
        XCTAssertEqual(chat.history.count, 4)
    }

    func testTheLimitOfTokensIsTold() async throws {
        let chat = try await Chat(openModel(), options: greedy(maxTokens: 200))
        let options = AnswerOptions(maxTokens: 3)
        let error = await thrown { _ = try await chat.answer("Invent a ticket.", as: Ticket.self, options: options) }
        guard case let .incomplete(partial) = error else { return XCTFail("\(String(describing: error))") }
        XCTAssertTrue(partial.hasPrefix("{\""), partial)
    }

    func testAKeywordThatIsNotSupportedIsRefusedByName() async throws {
        let chat = try await Chat(openModel(), options: greedy(maxTokens: 20))
        let schema = #"{"type":"array","items":{"type":"integer"},"uniqueItems":true}"#
        let error = await thrown { _ = try await chat.answer("Numbers.", format: .jsonSchema(schema: schema)) }
        guard case let .other(message) = error else { return XCTFail("\(String(describing: error))") }
        XCTAssertTrue(message.contains("uniqueItems"), message)
        XCTAssertEqual(chat.history, [])
    }

    func testCancellingTheTaskStopsAnAnswerOfAForm() async throws {
        let chat = try await Chat(openModel(), options: greedy(maxTokens: 400))
        chat.pause()
        let asking = Task { try await chat.answer("Invent a ticket.", as: Ticket.self) }
        asking.cancel()
        let result = await asking.result
        XCTAssertThrowsError(try result.get()) { error in XCTAssertTrue(error is CancellationError, "\(error)") }
        chat.resume()
    }

    func testTheAppDecidesAboutEachCall() async throws {
        struct Failed: Error {}
        let ran = Counter()
        let weather = try Tool("get_weather", "The weather of a city.", arguments: [String: String].self) { _ in
            _ = ran.next()
            throw Failed()
        }
        let choice = AnswerOptions(toolChoice: .named(name: "get_weather"))
        for approves in [false, true] {
            let chat = try await Chat(openModel(), options: greedy(maxTokens: 60).tools([weather]))
            let text = try await chat.answer(
                "The weather in Rome?", tools: [weather], options: choice, approve: { _ in approves })
            XCTAssertEqual(ran.count, approves ? 1 : 0)
            XCTAssertFalse(text.isEmpty)
            let result = chat.history.flatMap(\.toolResults).first?.content ?? ""
            XCTAssertTrue(result.hasPrefix(approves ? "The tool failed" : "The user declined"), result)
        }
    }

    func testTokensAndTexts() async throws {
        let model = try await openModel()
        let tokens = try await model.tokens("Grüße, Welt!")
        let text = try await model.text(of: tokens)
        XCTAssertEqual(text, "Grüße, Welt!")
        let error = await thrown { _ = try await model.text(of: [UInt32.max]) }
        guard case .other = error else { return XCTFail("\(String(describing: error))") }
        let embeddings = try await model.embed(["a", "b"], pooling: .last)
        for embedding in embeddings { XCTAssertEqual(embedding.map { $0 * $0 }.reduce(0, +), 1, accuracy: 1e-3) }
        let none = await thrown { _ = try await model.openAdapter(self.folder.appendingPathComponent("none")) }
        XCTAssertEqual(none, .notFound(path: folder.appendingPathComponent("none").path))
    }
}
