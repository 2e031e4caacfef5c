#if os(Linux)
import Foundation
import Glibc
import Thimble
import XCTest

/// An app that is killed at any moment reopens where it was.
///
/// The test starts itself again as that app, which prints what it receives and is killed in the middle.
final class KilledTests: ModelTestCase {
    private static let journalKey = "THIMBLE_KILLED_JOURNAL"

    /// The app that is killed.
    func testShowUntilKilled() async throws {
        guard let path = ProcessInfo.processInfo.environment[Self.journalKey] else {
            throw XCTSkip("runs only as a part of the other test")
        }
        let options = greedy(maxTokens: 300).journaled(at: URL(fileURLWithPath: path))
        let chat = try await Chat(openModel(), options: options)
        for try await piece in chat.send("Write a long story about a whale.") {
            FileHandle.standardError.write(Data(piece.utf8))
        }
    }

    func testNothingShownIsLost() async throws {
        let file = try modelFile()
        let model = try await openModel()
        var random = SystemRandomNumberGenerator()
        var cut = 0
        for round in 0..<20 {
            let journal = folder.appendingPathComponent("\(round).journal")
            let shown = try kill(showing: journal, model: file, after: Int.random(in: 1...600, using: &random))
            let chat = try await Chat(model, options: ChatOptions().journaled(at: journal))
            XCTAssertEqual(chat.history.first?.text, "Write a long story about a whale.", "round \(round)")
            let kept = chat.history.last?.text ?? ""
            XCTAssertTrue(kept.hasPrefix(shown), "round \(round): shown \(shown), kept \(kept)")
            if kept.count < 900 { cut += 1 }
        }
        XCTAssertGreaterThan(cut, 5, "hardly any answer was cut off")
    }

    /// Starts the app, kills it once it has shown so many bytes, and says what it showed.
    private func kill(showing journal: URL, model: URL, after bytes: Int) throws -> String {
        let app = Process()
        let myself = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        app.executableURL = URL(fileURLWithPath: myself)
        app.arguments = ["ThimbleTests.KilledTests/testShowUntilKilled"]
        app.environment = ProcessInfo.processInfo.environment.merging([Self.journalKey: journal.path]) { $1 }
        let output = Pipe()
        app.standardError = output
        app.standardOutput = FileHandle.nullDevice
        try app.run()
        var shown = Data()
        while shown.count < bytes {
            let more = output.fileHandleForReading.availableData
            if more.isEmpty { break }
            shown += more
        }
        Glibc.kill(app.processIdentifier, SIGKILL)
        app.waitUntilExit()
        shown += output.fileHandleForReading.readDataToEndOfFile()
        // A partly written character does not count.
        while !shown.isEmpty, String(data: shown, encoding: .utf8) == nil { shown.removeLast() }
        return String(decoding: shown, as: UTF8.self)
    }
}
#endif
