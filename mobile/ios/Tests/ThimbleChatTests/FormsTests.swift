import Foundation
import Thimble
@testable import ThimbleChat
import XCTest

/// Forms that a model fills in, with answers that the test writes.
final class FormsTests: XCTestCase {
    private var root = URL(fileURLWithPath: "/")
    private let fake = FakeModel()

    override func setUpWithError() throws {
        root = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
    }

    override func tearDownWithError() throws { try FileManager.default.removeItem(at: root) }

    @MainActor
    private func launch(withModel: Bool = true) async throws -> FormsViewModel {
        let folder = try AppFolder(root)
        if withModel { try Data("model".utf8).write(to: folder.models.appendingPathComponent("fake.thimble")) }
        let chats = ChatViewModel(folder: folder, open: { [fake] _, _ in fake })
        await chats.start()
        return FormsViewModel(chats: chats)
    }

    @MainActor
    func testAFormIsFilledIn() async throws {
        let viewModel = try await launch()
        XCTAssertFalse(viewModel.canFill, "there is no text")
        viewModel.text = " Lunch with Ada on Friday at 12:30. \n"
        fake.answersOnce(#"{"title":"Lunch with Ada","date":"Friday","time":"12:30"}"#)
        viewModel.fill()
        XCTAssertTrue(viewModel.isWorking)
        XCTAssertFalse(viewModel.canFill)
        let filled = await eventually { !viewModel.isWorking }
        XCTAssertTrue(filled)
        XCTAssertEqual(viewModel.fields.map(\.label), ["Title", "Date", "Time", "Place"])
        XCTAssertEqual(viewModel.fields.map(\.value), ["Lunch with Ada", "Friday", "12:30", ""])
        XCTAssertTrue(fake.asked.last?.hasSuffix("\n\nLunch with Ada on Friday at 12:30.") == true, "\(fake.asked)")
        XCTAssertNil(viewModel.notice)

        viewModel.kind = .contact
        XCTAssertEqual(viewModel.fields, [])
        fake.answersOnce(#"{"name":"Ada","email":"ada@example.org"}"#)
        viewModel.fill()
        _ = await eventually { !viewModel.isWorking }
        XCTAssertEqual(viewModel.fields.map(\.value), ["Ada", "", "ada@example.org", ""])
    }

    @MainActor
    func testAFormWithoutAnEndIsTold() async throws {
        let viewModel = try await launch()
        viewModel.text = "Lunch"
        fake.failsOnce(.incomplete(partial: #"{"title":"Lun"#))
        viewModel.fill()
        _ = await eventually { !viewModel.isWorking }
        XCTAssertEqual(viewModel.notice, #"The model found no end of the form. It wrote: {"title":"Lun"#)
        XCTAssertEqual(viewModel.fields, [])
    }

    @MainActor
    func testWhatTheUserStopsIsNoFault() async throws {
        let viewModel = try await launch()
        viewModel.text = "Lunch"
        viewModel.fill()
        viewModel.stop()
        let stopped = await eventually { !viewModel.isWorking }
        XCTAssertTrue(stopped)
        XCTAssertNil(viewModel.notice)
    }

    @MainActor
    func testWithoutAModelThereIsNothingToFill() async throws {
        let viewModel = try await launch(withModel: false)
        viewModel.text = "Lunch"
        XCTAssertFalse(viewModel.canFill)
        viewModel.fill()
        XCTAssertFalse(viewModel.isWorking)
    }
}
