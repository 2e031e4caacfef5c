import Foundation
import Thimble
@testable import ThimbleChat
import XCTest

/// The screen's logic with the real model, from the import to the next launch.
final class RealModelTests: XCTestCase {
    @MainActor
    func testFromImportToTheNextLaunch() async throws {
        guard let path = ProcessInfo.processInfo.environment["THIMBLE_MODEL"], !path.isEmpty else {
            throw XCTSkip("set THIMBLE_MODEL to a .thimble file of SmolLM2-135M-Instruct")
        }
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        let (shown, settings) = try await firstLaunch(root, model: URL(fileURLWithPath: path))

        let next = ChatViewModel(folder: try AppFolder(root))
        await next.start()
        XCTAssertNil(next.notice)
        XCTAssertEqual(next.messages.map(\.text), shown)
        XCTAssertEqual(next.settings, settings)
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
