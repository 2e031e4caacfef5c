import Foundation
import Thimble
import XCTest

/// The shortest chat, as the README shows it: `check.sh` compares the two.
final class ReadmeTests: ModelTestCase {
    func testTheShortestChat() async throws {
        let modelURL = try modelFile()
        var shown = ""
        func print(_ text: String, terminator: String) { shown += text + terminator }
        // README begin
        let model = try await Model.open(modelURL)
        let chat = try await Chat(model)
        for try await piece in chat.send("What is a thimble?") {
            print(piece, terminator: "")
        }
        // README end
        XCTAssertEqual(chat.history.map(\.text), ["What is a thimble?", shown])
    }

    func testWhatAnAppWantsBesides() async throws {
        let modelURL = try modelFile()
        let journalURL = folder.appendingPathComponent("chat.journal")
        var shown: [String] = []
        func show(_ text: String) { shown.append(text) }
        // README begin
        // Refuse what would get the app ended for its memory, with the figures.
        let model = try await Model.open(modelURL, options: ModelOptions(budgetBytes: Memory.budget()))

        // Each piece is on disk before it is shown; a chat that finds its journal continues from it.
        let chat = try await Chat(model, options: ChatOptions(system: "Be brief.").journaled(at: journalURL))

        // Heat, low-power mode and short memory.
        let monitor = DeviceMonitor()
        monitor.watch(chat)

        // Progress, text and figures instead of text alone.
        for try await event in chat.answer("What is a thimble?") {
            switch event {
            case let .reading(done, of): show("read \(done) of \(of) tokens")
            case .reasoning: break
            case let .piece(text): show(text)
            case let .end(reply): show("\(reply.tokens) tokens in \(reply.seconds) s")
            }
        }
        // README end
        XCTAssertTrue(shown.last?.contains(" tokens in ") == true, "\(shown)")
        XCTAssertGreaterThan(try Data(contentsOf: journalURL).count, 0)
    }

    func testAnAnswerOfAForm() async throws {
        let chat = try await Chat(openModel(), options: greedy(maxTokens: 300))
        // README begin
        struct Recipe: Codable {
            enum Effort: String, Codable, CaseIterable { case easy, medium, hard }
            let name: String
            let minutes: UInt8
            let effort: Effort
            let ingredients: [String]?
        }
        let recipe = try await chat.answer("Invent a recipe for pancakes.", as: Recipe.self)

        let mood = try await chat.answer("Is this good or bad? I like it.", choices: ["good", "bad"])
        let time = try await chat.answer("When is lunch?", matching: "[01][0-9]:[0-5][0-9]")
        // README end
        XCTAssertFalse(recipe.name.isEmpty)
        XCTAssertTrue(["good", "bad"].contains(mood), mood)
        XCTAssertEqual(time.count, 5, time)
    }

    func testTools() async throws {
        let model = try await openModel()
        // README begin
        struct Place: Codable { let city: String }
        let weather = try Tool("get_weather", "The weather of a city now.", arguments: Place.self) { place in
            "18 degrees and sunny in \(place.city)"
        }
        let chat = try await Chat(model, options: ChatOptions(maxTokens: 100).tools([weather]))
        let options = AnswerOptions(toolChoice: .named(name: "get_weather"))
        let text = try await chat.answer("What is the weather in Rome?", tools: [weather], options: options)
        // README end
        XCTAssertEqual(chat.history.filter { !$0.toolCalls.isEmpty }.flatMap(\.toolCalls).map(\.name), ["get_weather"])
        XCTAssertFalse(text.isEmpty)
    }

    func testMessagesAndEmbeddings() async throws {
        let model = try await openModel()
        // README begin
        // A chat that begins with messages of the app.
        var options = ChatOptions(maxTokens: 20)
        options.messages = [
            Message(fromUser: true, text: "My name is Ada."), Message(fromUser: false, text: "Hello Ada."),
        ]
        let chat = try await Chat(model, options: options)

        // How alike texts are: the scalar product of their embeddings.
        let texts = try await model.embed(["A cat sleeps.", "A kitten naps.", "Stocks fell."])
        let likeness = zip(texts[0], texts[1]).map(*).reduce(0, +)

        // How likely the model finds a text, in nats per token.
        let scores = try await model.logProbabilities(of: " Paris", after: "The capital of France is")
        // README end
        XCTAssertEqual(chat.history.map(\.text), ["My name is Ada.", "Hello Ada."])
        XCTAssertGreaterThan(likeness, zip(texts[0], texts[2]).map(*).reduce(0, +))
        XCTAssertGreaterThan(try XCTUnwrap(scores.first).logProbability, -3)
    }
}
