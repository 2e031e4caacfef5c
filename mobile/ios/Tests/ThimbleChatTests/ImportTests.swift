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
        guard try handle.read(upToCount: 5) == Data("model".utf8) else { throw ThimbleError.notAModel(path: url.path) }
        return FakeModel()
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
        // The next one takes its place.
        let next = try picked("b.thimble", "model b")
        _ = try await ModelImporter(into: app(), open: Self.open).importModel(from: next) { _ in }
        XCTAssertEqual(try files(), ["b.thimble"])
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
        XCTAssertEqual(viewModel.modelInfo?.name, "fake")
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
