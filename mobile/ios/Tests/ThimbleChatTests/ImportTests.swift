import Foundation
import Thimble
@testable import ThimbleChat
import XCTest

/// Bringing a model into the app.
final class ImportTests: XCTestCase {
    private var root = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        root = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: root, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: root)
    }

    private static let open: ModelOpener = { url, _ in
        let handle = try FileHandle(forReadingFrom: url)
        defer { try? handle.close() }
        let text = String(decoding: try handle.read(upToCount: 7) ?? Data(), as: UTF8.self)
        guard text.hasPrefix("model") else { throw ThimbleError.notAModel(path: url.path) }
        // Opens, and its checksums are wrong.
        let damage = text == "model !" ? ThimbleError.damaged(path: url.path, reason: "a checksum is wrong") : nil
        return FakeModel("fake \(text.suffix(1))", damage: damage)
    }

    /// A file of some megabytes that begins with `text`.
    private func picked(_ name: String, _ text: String, megabytes: Int = 5) throws -> URL {
        let url = root.appendingPathComponent(name)
        var data = Data(text.utf8)
        data.append(Data(repeating: 7, count: megabytes << 20))
        try data.write(to: url)
        return url
    }

    private func app() throws -> AppFolder { try AppFolder(root.appendingPathComponent("app")) }

    private func files() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: app().models.path).sorted()
    }

    func testTheCopyIsWholeAndItsProgressGrows() async throws {
        let source = try picked("a.thimble", "model a")
        let shares = Shares()
        let url = try await ModelImporter(into: app(), open: Self.open).importModel(from: source) { shares.add($0) }
        XCTAssertEqual(url.lastPathComponent, "a.thimble")
        XCTAssertEqual(try Data(contentsOf: url), try Data(contentsOf: source))
        XCTAssertEqual(shares.all, shares.all.sorted())
        XCTAssertGreaterThan(shares.all.count, 4)
        XCTAssertEqual(shares.all.last, 1)
    }

    func testAnImportKeepsTheOtherModels() async throws {
        let importer = ModelImporter(into: try app(), open: Self.open)
        let first = try picked("a.thimble", "model a")
        _ = try await importer.importModel(from: first) { _ in }
        _ = try await importer.importModel(from: picked("b.thimble", "model b")) { _ in }
        let before = try Data(contentsOf: first)
        let again = try await importer.importModel(from: picked("a.thimble", "model c", megabytes: 3)) { _ in }
        XCTAssertEqual(try files(), ["a (2).thimble", "a.thimble", "b.thimble"])
        XCTAssertEqual(try Data(contentsOf: app().models.appendingPathComponent("a.thimble")), before)
        XCTAssertEqual(try app().model(), again, "the one that was imported last")
        XCTAssertEqual(try app().model("b")?.lastPathComponent, "b.thimble")
        XCTAssertEqual(try app().savedModels().map(\.name), ["a", "a (2)", "b"])
        XCTAssertEqual(try app().savedModels().map(\.bytes), [5, 3, 5].map { $0 << 20 + 7 })
    }

    func testWhatIsDamagedTakesNoPlace() async throws {
        let importer = ModelImporter(into: try app(), open: Self.open)
        _ = try await importer.importModel(from: picked("a.thimble", "model a")) { _ in }
        let damaged = try picked("b.thimble", "model !")
        do {
            _ = try await importer.importModel(from: damaged) { _ in }
            XCTFail("expected an error")
        } catch {
            XCTAssertEqual(error as? ThimbleError, .damaged(path: damaged.path, reason: "a checksum is wrong"))
        }
        XCTAssertEqual(try files(), ["a.thimble"])
    }

    func testWithoutRoomNothingIsCopied() async throws {
        let source = try picked("a.thimble", "model a")
        let bytes = Int64(5 << 20 + 7)
        let shares = Shares()
        do {
            let importer = ModelImporter(into: try app(), open: Self.open, freeBytes: { bytes - 1 })
            _ = try await importer.importModel(from: source) { shares.add($0) }
            XCTFail("expected an error")
        } catch {
            XCTAssertEqual(error as? NoRoomError, NoRoomError(needed: bytes, free: bytes - 1))
            XCTAssertTrue(error.localizedDescription.contains("takes 6 MB of storage, and 5 MB are free"))
        }
        XCTAssertEqual(shares.all, [])
        XCTAssertEqual(try files(), [])
        let importer = ModelImporter(into: try app(), open: Self.open, freeBytes: { bytes })
        _ = try await importer.importModel(from: source) { _ in }
        XCTAssertEqual(try files(), ["a.thimble"])
        XCTAssertGreaterThan(try XCTUnwrap(app().freeBytes()), bytes, "of the disk that this test has just used")
    }

    @MainActor
    func testModelsToChooseFrom() async throws {
        let viewModel = ChatViewModel(folder: try app(), open: Self.open)
        await viewModel.importModel(from: try picked("one.thimble", "model 1"))
        await viewModel.importModel(from: try picked("two.thimble", "model 2"))
        XCTAssertEqual(viewModel.savedModels.map(\.name), ["one", "two"])
        XCTAssertEqual(viewModel.currentModel, "two")
        XCTAssertEqual(viewModel.modelInfo?.name, "fake 2")

        await viewModel.choose(viewModel.savedModels[0])
        XCTAssertEqual(viewModel.currentModel, "one")
        XCTAssertEqual(viewModel.modelInfo?.name, "fake 1")
        // A sheet of settings that was opened before does not take the choice back.
        var settings = ChatSettings()
        settings.maxTokens = 128
        await viewModel.apply(settings)
        XCTAssertEqual(viewModel.modelInfo?.name, "fake 1")
        XCTAssertEqual(viewModel.settings.maxTokens, 128)
        let next = ChatViewModel(folder: try app(), open: Self.open)
        await next.start()
        XCTAssertEqual(next.modelInfo?.name, "fake 1", "the choice is there after a launch")

        await viewModel.delete(viewModel.savedModels[1])
        XCTAssertEqual(viewModel.modelInfo?.name, "fake 1", "another one that goes changes nothing")
        XCTAssertEqual(try files(), ["one.thimble"])
        await viewModel.importModel(from: try picked("two.thimble", "model 2"))
        await viewModel.delete(viewModel.savedModels[1])
        XCTAssertEqual(viewModel.currentModel, "one", "the open one goes: another one is opened")
        XCTAssertEqual(viewModel.phase, .ready)
        await viewModel.delete(viewModel.savedModels[0])
        XCTAssertEqual(viewModel.phase, .noModel)
        XCTAssertNil(viewModel.modelInfo)
        XCTAssertEqual(viewModel.savedModels, [])
        XCTAssertNil(viewModel.notice)
        XCTAssertEqual(try files(), [])
    }

    func testSettingsOfAnEarlierVersionAreRead() throws {
        let file = root.appendingPathComponent("settings.json")
        let old = #"{"temperature":0.5,"systemPrompt":"","maxTokens":256,"powerSaver":"on","smallCache":true}"#
        try Data(old.utf8).write(to: file)
        let settings = ChatSettings.read(file)
        XCTAssertEqual(settings.maxTokens, 256)
        XCTAssertNil(settings.model)
    }

    func testWhatIsNoModelChangesNothing() async throws {
        let importer = ModelImporter(into: try app(), open: Self.open)
        _ = try await importer.importModel(from: picked("a.thimble", "model a")) { _ in }
        let other = try picked("notes.txt", "notes")
        do {
            _ = try await importer.importModel(from: other) { _ in }
            XCTFail("expected an error")
        } catch {
            XCTAssertEqual(error as? ThimbleError, .notAModel(path: other.path))
        }
        do {
            _ = try await importer.importModel(from: root.appendingPathComponent("none")) { _ in }
            XCTFail("expected an error")
        } catch {}
        XCTAssertEqual(try files(), ["a.thimble"])
    }

    func testCancelLeavesNothing() async throws {
        let source = try picked("a.thimble", "model a", megabytes: 30)
        let importer = ModelImporter(into: try app(), open: Self.open)
        let cancel = Canceller()
        let shares = Shares()
        let task = Task {
            try await importer.importModel(from: source) { share in
                cancel.call()
                shares.add(share)
                // So that the copy is not over before the cancellation has reached it.
                Thread.sleep(forTimeInterval: 0.002)
            }
        }
        cancel.set { task.cancel() }
        do {
            _ = try await task.value
            XCTFail("expected an error")
        } catch {
            XCTAssertTrue(error is CancellationError, "\(error)")
        }
        XCTAssertLessThan(try XCTUnwrap(shares.all.last), 1, "the copy went on to its end")
        XCTAssertEqual(try files(), [])
    }

    func testLeftoversOfAKilledAppGo() async throws {
        let app = try app()
        try Data("half".utf8).write(to: app.models.appendingPathComponent("x.partial"))
        let source = try picked("a.thimble", "model a")
        _ = try await ModelImporter(into: app, open: Self.open).importModel(from: source) { _ in }
        XCTAssertEqual(try files(), ["a.thimble"])
    }

    @MainActor
    func testImportOnTheScreen() async throws {
        let viewModel = ChatViewModel(folder: try app(), open: Self.open)
        await viewModel.start()
        XCTAssertEqual(viewModel.phase, .noModel)
        await viewModel.importModel(from: try picked("notes.txt", "notes"))
        XCTAssertEqual(viewModel.notice, "notes.txt is not a .thimble file.")
        XCTAssertEqual(viewModel.phase, .noModel)
        viewModel.notice = nil

        let source = try picked("a.thimble", "model a", megabytes: 30)
        let importing = Task { await viewModel.importModel(from: source) }
        let begun = await eventually { viewModel.importing != nil }
        XCTAssertTrue(begun)
        viewModel.cancelImport()
        await importing.value
        XCTAssertNil(viewModel.importing)
        XCTAssertNil(viewModel.notice, "who cancels knows it")
        XCTAssertEqual(viewModel.phase, .noModel)

        await viewModel.importModel(from: source)
        XCTAssertEqual(viewModel.phase, .ready)
        XCTAssertNil(viewModel.importing)
        XCTAssertEqual(viewModel.modelInfo?.name, "fake a")
    }
}

/// Progress as it was heard.
private final class Shares: @unchecked Sendable {
    private let lock = NSLock()
    private var heard: [Double] = []

    var all: [Double] {
        lock.lock()
        defer { lock.unlock() }
        return heard
    }

    func add(_ share: Double) {
        lock.lock()
        defer { lock.unlock() }
        heard.append(share)
    }
}

/// Calls once there is something to call.
private final class Canceller: @unchecked Sendable {
    private let ready = DispatchSemaphore(value: 0)
    private var work: (() -> Void)?

    func set(_ work: @escaping () -> Void) {
        self.work = work
        ready.signal()
    }

    func call() {
        ready.wait()
        ready.signal()
        work?()
    }
}
