import Foundation
import Thimble
@testable import ThimbleChat
import XCTest

/// The screen's logic with the real model, from the import to the next launch.
final class RealModelTests: XCTestCase {
    @MainActor
    func testFromImportToTheNextLaunch() async throws {
        let model = try modelFile()
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        let (shown, settings) = try await firstLaunch(root, model: model)

        let next = ChatViewModel(folder: try AppFolder(root))
        await next.start()
        XCTAssertNil(next.notice)
        XCTAssertEqual(next.messages.map(\.text), shown)
        XCTAssertEqual(next.settings, settings)
    }

    /// Settings that change in the middle of an answer: it is completed, and the chat continues from its journal.
    @MainActor
    func testSettingsChangeWhileAnswering() async throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        let viewModel = ChatViewModel(folder: try AppFolder(root))
        await viewModel.importModel(from: try modelFile())
        let id = viewModel.currentChat
        for number in 1...5 {
            viewModel.draft = "Count from 1 to 100."
            viewModel.send()
            let begun = await eventually { viewModel.messages.last?.text.isEmpty == false }
            XCTAssertTrue(begun)
            var settings = viewModel.settings
            settings.maxTokens = 10 + number
            let applying = Task { await viewModel.apply(settings) }
            _ = await eventually { viewModel.settings == settings }
            if number % 2 == 0 { viewModel.stop() }
            await applying.value
            XCTAssertNil(viewModel.notice)
            XCTAssertEqual(viewModel.phase, .ready)
            XCTAssertEqual(viewModel.currentChat, id)
            XCTAssertEqual(viewModel.messages.count, 2 * number)
        }
    }

    @MainActor
    func testADamagedModelIsNotImported() async throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        let viewModel = ChatViewModel(folder: try AppFolder(root.appendingPathComponent("app")))
        await viewModel.importModel(from: try modelFile())
        let before = viewModel.currentModel
        var bytes = try Data(contentsOf: modelFile())
        bytes[bytes.count - 1000] ^= 1
        let damaged = root.appendingPathComponent("damaged.thimble")
        try bytes.write(to: damaged)
        await viewModel.importModel(from: damaged)
        let notice = viewModel.notice ?? ""
        XCTAssertTrue(notice.hasPrefix("damaged.thimble is damaged"), notice)
        XCTAssertEqual(viewModel.savedModels.map(\.name), [before])
        XCTAssertEqual(viewModel.phase, .ready)
    }

    @MainActor
    func testAFormIsFilledInFromAText() async throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        let chats = ChatViewModel(folder: try AppFolder(root))
        await chats.importModel(from: try modelFile())
        let forms = FormsViewModel(chats: chats)
        forms.kind = .contact
        forms.text = "Best regards, Ada Lovelace, Analytical Engines Ltd, ada@example.org"
        forms.fill()
        let filled = await eventually { !forms.isWorking }
        XCTAssertTrue(filled)
        XCTAssertNil(forms.notice)
        XCTAssertTrue(forms.fields.first?.value.contains("Ada") == true, "\(forms.fields)")
    }

    private func modelFile() throws -> URL {
        guard let path = ProcessInfo.processInfo.environment["THIMBLE_MODEL"], !path.isEmpty else {
            try missing("set THIMBLE_MODEL to a .thimble file of SmolLM2-135M-Instruct")
        }
        return URL(fileURLWithPath: path)
    }

    /// Imports, talks, stops in the middle; what was on the screen then. A journal belongs to one chat at a time, so the
    /// view model is gone when this returns.
    @MainActor
    private func firstLaunch(_ root: URL, model: URL) async throws -> ([String], ChatSettings) {
        let viewModel = ChatViewModel(folder: try AppFolder(root))
        await viewModel.start()
        XCTAssertEqual(viewModel.phase, .noModel)
        await viewModel.importModel(from: model)
        XCTAssertNil(viewModel.notice)
        XCTAssertEqual(viewModel.phase, .ready)
        var settings = viewModel.settings
        settings.temperature = 0
        settings.maxTokens = 200
        settings.smallCache = true
        await viewModel.apply(settings)

        viewModel.draft = "What is the capital of France?"
        viewModel.send()
        let answered = await eventually { viewModel.phase == .ready }
        XCTAssertTrue(answered)
        XCTAssertTrue(viewModel.messages.last?.text.contains("Paris") == true, "\(viewModel.messages)")
        XCTAssertTrue(viewModel.statsLine.contains("tokens/s"), viewModel.statsLine)

        viewModel.draft = "Write a long story about a whale."
        viewModel.send()
        let begun = await eventually { viewModel.messages.last?.text.isEmpty == false }
        XCTAssertTrue(begun)
        viewModel.stop()
        let stopped = await eventually { viewModel.phase == .ready }
        XCTAssertTrue(stopped)
        let shown = viewModel.messages.map(\.text)
        XCTAssertEqual(shown.count, 4)
        return (shown, settings)
    }
}

/// Skips the test for want of something, or fails it where THIMBLE_REQUIRE has `model` among its names.
private func missing(_ why: String) throws -> Never {
    let required = (ProcessInfo.processInfo.environment["THIMBLE_REQUIRE"] ?? "").split(separator: ",")
    if required.contains("model") || required.contains("all") {
        throw RequiredIsMissing(why: why)
    }
    throw XCTSkip(why)
}

/// What a gate does not let pass.
private struct RequiredIsMissing: Error {
    let why: String
}
