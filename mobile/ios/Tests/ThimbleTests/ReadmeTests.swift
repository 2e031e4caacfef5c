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
}
