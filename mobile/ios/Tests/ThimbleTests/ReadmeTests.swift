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
}
