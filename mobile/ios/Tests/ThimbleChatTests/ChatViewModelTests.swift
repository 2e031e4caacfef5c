import Foundation
import Thimble
@testable import ThimbleChat
import XCTest

/// The screen's logic, with a model whose answers the test writes.
final class ChatViewModelTests: XCTestCase {
    private var root = URL(fileURLWithPath: "/")
    private let fake = FakeModel()
    private let device = DeviceMonitor()

    override func setUpWithError() throws {
        root = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: root)
    }

    /// The app as it starts; with a model unless told otherwise.
    @MainActor
    private func launch(withModel: Bool = true) async throws -> ChatViewModel {
        let folder = try AppFolder(root)
        if withModel { try Data("model".utf8).write(to: folder.models.appendingPathComponent("fake.thimble")) }
        let viewModel = ChatViewModel(
            folder: folder,
            open: { [fake] url, _ in
                let text = try String(contentsOf: url, encoding: .utf8)
                guard text.hasPrefix("model") else { throw ThimbleError.notAModel(path: url.path) }
                return text.hasPrefix("model without chat") ? FakeModel(answersMessages: false) : fake
            }, device: device)
        await viewModel.start()
        return viewModel
    }

    private var chat: FakeChat { fake.chats[fake.chats.count - 1] }

    @MainActor
    private func say(_ text: String, _ answer: String, in viewModel: ChatViewModel) async {
        viewModel.draft = text
        viewModel.send()
        chat.say(.piece(answer))
        chat.end()
        let ready = await eventually { viewModel.phase == .ready }
        XCTAssertTrue(ready)
    }

    @MainActor
    func testWithoutAModelThereIsNothingToSend() async throws {
        let viewModel = try await launch(withModel: false)
        XCTAssertEqual(viewModel.phase, .noModel)
        viewModel.draft = "Hello"
        XCTAssertFalse(viewModel.canSend)
        viewModel.send()
        XCTAssertEqual(viewModel.messages, [])
        XCTAssertNil(viewModel.notice)
    }

    @MainActor
    func testTheAnswerGrows() async throws {
        let viewModel = try await launch()
        XCTAssertEqual(viewModel.phase, .ready)
        viewModel.draft = "  "
        XCTAssertFalse(viewModel.canSend)
        viewModel.draft = " Hello \n"
        viewModel.send()
        XCTAssertEqual(viewModel.phase, .answering)
        XCTAssertEqual(viewModel.draft, "")
        XCTAssertFalse(viewModel.canSend)
        chat.say(.reading(done: 1, of: 4))
        let read = await eventually { viewModel.reading == 0.25 }
        XCTAssertTrue(read)
        let id = viewModel.messages.last?.id
        chat.say(.piece("Good "))
        let begun = await eventually { viewModel.messages.map(\.text) == ["Hello", "Good "] }
        XCTAssertTrue(begun)
        XCTAssertNil(viewModel.reading)
        chat.say(.piece("day"))
        chat.end()
        let ended = await eventually { viewModel.phase == .ready }
        XCTAssertTrue(ended)
        XCTAssertEqual(viewModel.messages.map(\.text), ["Hello", "Good day"])
        XCTAssertEqual(viewModel.messages.map(\.fromUser), [true, false])
        XCTAssertEqual(viewModel.messages.last?.id, id)
        XCTAssertTrue(viewModel.statsLine.hasPrefix("12.3 tokens/s · 7 tokens · "), viewModel.statsLine)
        XCTAssertTrue(viewModel.statsLine.hasSuffix(" MB"), viewModel.statsLine)
    }

    @MainActor
    func testStopKeepsWhatThereIs() async throws {
        let viewModel = try await launch()
        viewModel.draft = "Hello"
        viewModel.send()
        chat.say(.piece("Good"))
        _ = await eventually { viewModel.messages.last?.text == "Good" }
        viewModel.stop()
        let ended = await eventually { viewModel.phase == .ready }
        XCTAssertTrue(ended)
        XCTAssertEqual(viewModel.messages.map(\.text), ["Hello", "Good"])
        XCTAssertNil(viewModel.notice)
    }

    @MainActor
    func testAMessageWithoutAnswerIsADraftAgain() async throws {
        let viewModel = try await launch()
        viewModel.draft = "Hello"
        viewModel.send()
        viewModel.stop()
        _ = await eventually { viewModel.phase == .ready }
        XCTAssertEqual(viewModel.messages, [])
        XCTAssertEqual(viewModel.draft, "Hello")
        viewModel.send()
        viewModel.draft = "something else"
        chat.fail(.contextFull(message: "the message is too long"))
        _ = await eventually { viewModel.phase == .ready }
        XCTAssertEqual(viewModel.messages, [])
        XCTAssertEqual(viewModel.draft, "something else", "what is being written is not overwritten")
        XCTAssertEqual(viewModel.notice, "the message is too long")
    }

    @MainActor
    func testRetry() async throws {
        let viewModel = try await launch()
        XCTAssertFalse(viewModel.canRetry)
        await say("Hello", "Good day", in: viewModel)
        XCTAssertTrue(viewModel.canRetry)
        viewModel.retry()
        XCTAssertEqual(viewModel.messages.map(\.text), ["Hello", ""])
        viewModel.stop()
        _ = await eventually { viewModel.phase == .ready }
        XCTAssertEqual(viewModel.messages.map(\.text), ["Hello", "Good day"], "the answer before is still there")
    }

    @MainActor
    func testSavedChats() async throws {
        let viewModel = try await launch()
        let first = try XCTUnwrap(viewModel.currentChat)
        await viewModel.newChat()
        XCTAssertEqual(viewModel.currentChat, first, "a chat without messages is new enough")
        await say("Hello\nyou", "Good day", in: viewModel)
        await viewModel.newChat()
        let second = try XCTUnwrap(viewModel.currentChat)
        XCTAssertNotEqual(second, first)
        XCTAssertEqual(viewModel.messages, [])
        await viewModel.openSaved(first)
        XCTAssertEqual(viewModel.messages.map(\.text).last, "Good day")
        XCTAssertEqual(viewModel.savedChats.map(\.id), [first], "nothing is left of a chat without messages")
        XCTAssertEqual(viewModel.savedChats.map(\.title), ["Hello"])
        await viewModel.delete(first)
        XCTAssertFalse(viewModel.savedChats.map(\.id).contains(first))
        XCTAssertEqual(viewModel.messages, [])
        XCTAssertEqual(viewModel.phase, .ready)
    }

    @MainActor
    func testTheLastChatIsThereAfterALaunch() async throws {
        // A journal belongs to one chat at a time: the first app is gone before the second one starts.
        func firstLaunch() async throws -> UUID? {
            let viewModel = try await launch()
            await say("Hello", "Good day", in: viewModel)
            return viewModel.currentChat
        }
        let chat = try await firstLaunch()
        let after = try await launch()
        await after.start()
        XCTAssertEqual(fake.chats.count, 2, "a second window opens nothing again")
        XCTAssertEqual(after.currentChat, chat)
        XCTAssertEqual(after.messages.map(\.text), ["Hello", "Good day"])
    }

    @MainActor
    func testOpeningAnotherChatStopsTheAnswer() async throws {
        let viewModel = try await launch()
        await say("Hello", "Good day", in: viewModel)
        let first = try XCTUnwrap(viewModel.currentChat)
        viewModel.draft = "More"
        viewModel.send()
        chat.say(.piece("Some"))
        _ = await eventually { viewModel.messages.last?.text == "Some" }
        await viewModel.newChat()
        XCTAssertEqual(viewModel.messages, [])
        XCTAssertEqual(viewModel.phase, .ready)
        await viewModel.openSaved(first)
        XCTAssertEqual(viewModel.messages.map(\.text), ["Hello", "Good day", "More", "Some"])
    }

    @MainActor
    func testAChatThatIsDamagedDoesNotKeepOthersClosed() async throws {
        let viewModel = try await launch()
        await say("Hello", "Good day", in: viewModel)
        let broken = UUID()
        try Data("broken\n".utf8).write(to: viewModel.folder.journal(broken))
        await viewModel.openSaved(broken)
        XCTAssertTrue(viewModel.notice?.contains("damaged") == true)
        XCTAssertEqual(viewModel.phase, .ready)
        XCTAssertNotEqual(viewModel.currentChat, broken)
        XCTAssertEqual(try String(contentsOf: viewModel.folder.journal(broken), encoding: .utf8), "broken\n")
    }

    @MainActor
    func testSettings() async throws {
        let viewModel = try await launch()
        await say("Hello", "Good day", in: viewModel)
        var settings = viewModel.settings
        settings.temperature = 0.9
        settings.maxTokens = 256
        settings.systemPrompt = " Be brief. "
        await viewModel.apply(settings)
        XCTAssertEqual(chat.options.sampling?.temperature, 0.9)
        XCTAssertEqual(chat.options.maxTokens, 256)
        XCTAssertEqual(chat.options.system, "Be brief.")
        XCTAssertEqual(viewModel.messages.map(\.text), ["Hello", "Good day"], "the chat goes on")
        let chats = fake.chats.count
        settings.powerSaver = .on
        await viewModel.apply(settings)
        XCTAssertEqual(fake.chats.count, chats, "power needs no other chat")
        XCTAssertEqual(chat.calls.last, "savePower true")
        let again = try await launch()
        XCTAssertEqual(again.settings, settings)
    }

    /// A chat that a worker's thread still holds is waited for before its journal is opened again.
    @MainActor
    func testAJournalIsOpenedAgainOnlyOnceItsChatIsGone() async throws {
        fake.lingering = 0.05
        let viewModel = try await launch()
        let id = viewModel.currentChat
        viewModel.draft = "Hello"
        viewModel.send()
        chat.say(.piece("Good"))
        _ = await eventually { viewModel.messages.last?.text == "Good" }
        var settings = viewModel.settings
        settings.temperature = 0.9
        let applying = Task { await viewModel.apply(settings) }
        _ = await eventually { viewModel.settings == settings }
        chat.say(.piece(" day"))
        chat.end()
        await applying.value
        XCTAssertNil(viewModel.notice)
        XCTAssertEqual(viewModel.currentChat, id)
        XCTAssertEqual(viewModel.messages.map(\.text), ["Hello", "Good day"], "the answer was made to its end")
        XCTAssertEqual(chat.options.sampling?.temperature, 0.9)
    }

    @MainActor
    func testTheDevice() async throws {
        let viewModel = try await launch()
        XCTAssertEqual(chat.calls, ["savePower false"])
        device.report(.conditions(DeviceConditions(isHot: true)))
        let saves = await eventually { self.chat.calls.last == "savePower true" }
        XCTAssertTrue(saves)
        device.report(.memoryIsShort)
        let frees = await eventually { self.chat.calls.last == "freeMemory" }
        XCTAssertTrue(frees)
        viewModel.enterBackground()
        XCTAssertEqual(chat.calls.last, "pause")
        viewModel.enterForeground()
        XCTAssertEqual(chat.calls.last, "resume")
        // In the background memory goes back, and the answer goes on afterwards.
        viewModel.draft = "Hello"
        viewModel.send()
        viewModel.enterBackground()
        let calls = chat.calls.count
        device.report(.memoryIsShort)
        let freesPaused = await eventually { self.chat.calls.count > calls }
        XCTAssertTrue(freesPaused)
        XCTAssertEqual(chat.calls.suffix(2), ["pause", "freeMemory"])
        XCTAssertEqual(viewModel.phase, .answering)
        viewModel.enterForeground()
        chat.say(.piece("Good day"))
        chat.end()
        _ = await eventually { viewModel.phase == .ready }
        XCTAssertEqual(viewModel.messages.map(\.text), ["Hello", "Good day"])
        await say("Hello", "Good day", in: viewModel)
        await viewModel.newChat()
        XCTAssertEqual(chat.calls, ["savePower true"], "a new chat hears of the heat too")
    }

    @MainActor
    func testAModelThatAnswersNoMessages() async throws {
        let folder = try AppFolder(root)
        try Data("model without chat".utf8).write(to: folder.models.appendingPathComponent("base.thimble"))
        let viewModel = try await launch(withModel: false)
        XCTAssertEqual(viewModel.phase, .noModel)
        XCTAssertEqual(viewModel.notice, "fake continues text and answers no messages.")
    }
}
