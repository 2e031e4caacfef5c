import Foundation
import Thimble
@testable import ThimbleChat
import ThimbleDownloads
import XCTest

/// The screen of downloads, with downloads that the test directs.
final class DownloadsTests: XCTestCase {
    private var root = URL(fileURLWithPath: "/")
    private let fake = FakeDownloads()

    override func setUpWithError() throws {
        root = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
    }

    override func tearDownWithError() throws {
        if FileManager.default.fileExists(atPath: root.path) { try FileManager.default.removeItem(at: root) }
    }

    private static let catalogue = Data(
        """
        {"folder": "https://example.org/models", "models": [
            {"name": "owner/tiny", "title": "Tiny", "bytes": 1000, "sha256": "\(String(repeating: "ab", count: 32))"}
        ]}
        """.utf8)

    @MainActor
    private func launch() async throws -> (DownloadsViewModel, ChatViewModel) {
        let chats = ChatViewModel(folder: try AppFolder(root), open: { _, _ in FakeModel() })
        await chats.start()
        let viewModel = DownloadsViewModel(downloads: fake, catalogue: try Catalogue(Self.catalogue), chats: chats)
        await viewModel.start()
        return (viewModel, chats)
    }

    func testTheCatalogue() throws {
        let offers = try Catalogue(Self.catalogue).offers
        XCTAssertEqual(offers.map(\.title), ["Tiny"])
        XCTAssertEqual(offers.map(\.source.stem), ["owner--tiny"])
        XCTAssertEqual(try Catalogue(Data(#"{"folder": "", "models": []}"#.utf8)), .empty)
        XCTAssertThrowsError(try Catalogue(Data("{}".utf8)))
        let short = String(decoding: Self.catalogue, as: UTF8.self).replacingOccurrences(of: "abab", with: "ab")
        XCTAssertThrowsError(try Catalogue(Data(short.utf8)), "an invalid checksum")
    }

    @MainActor
    func testAModelOfTheCatalogueArrives() async throws {
        let (viewModel, chats) = try await launch()
        XCTAssertEqual(viewModel.rows.map(\.status), [.offered])
        XCTAssertEqual(chats.phase, .noModel)
        viewModel.download(viewModel.rows[0])
        let begun = await eventually { viewModel.rows.map(\.status) == [.running(received: 0, total: nil)] }
        XCTAssertTrue(begun, "\(viewModel.rows)")
        await fake.tell(.progress(received: 400, total: 1000))
        let grows = await eventually { viewModel.rows.map(\.status) == [.running(received: 400, total: 1000)] }
        XCTAssertTrue(grows, "\(viewModel.rows)")
        await fake.tell(.checking)
        let checks = await eventually { viewModel.rows.map(\.status) == [.checking] }
        XCTAssertTrue(checks, "\(viewModel.rows)")
        let file = chats.folder.models.appendingPathComponent("owner--tiny.thimble")
        try Data("model".utf8).write(to: file)
        await fake.end(.finished(file))
        let arrived = await eventually { viewModel.rows.map(\.status) == [.here] && chats.phase == .ready }
        XCTAssertTrue(arrived, "\(viewModel.rows), \(chats.phase)")
        XCTAssertEqual(chats.currentModel, "owner--tiny", "the first model is opened")

        await viewModel.delete(viewModel.rows[0])
        XCTAssertEqual(viewModel.rows.map(\.status), [.offered])
        XCTAssertEqual(chats.phase, .noModel)
    }

    @MainActor
    func testADownloadIsPausedAndDeleted() async throws {
        let (viewModel, _) = try await launch()
        viewModel.download(viewModel.rows[0])
        _ = await eventually { viewModel.rows.map(\.status) == [.running(received: 0, total: nil)] }
        await viewModel.pause(viewModel.rows[0])
        let paused = await eventually { viewModel.rows.map(\.status) == [.paused(received: 0, total: nil)] }
        XCTAssertTrue(paused, "\(viewModel.rows)")
        await viewModel.delete(viewModel.rows[0])
        XCTAssertEqual(viewModel.rows.map(\.status), [.offered])
    }

    @MainActor
    func testAModelOfTheHub() async throws {
        let (viewModel, _) = try await launch()
        viewModel.repository = "nonsense"
        viewModel.downloadFromHub()
        XCTAssertTrue(viewModel.notice?.contains("owner/name") == true, viewModel.notice ?? "")
        viewModel.notice = nil
        viewModel.repository = " somebody/model "
        viewModel.downloadFromHub()
        let begun = await eventually { viewModel.rows.map(\.title) == ["Tiny", "somebody/model"] }
        XCTAssertTrue(begun, "\(viewModel.rows)")
        await fake.fail(.unreachable(host: "example.org", reason: "offline"))
        _ = await eventually { viewModel.notice != nil }
        XCTAssertEqual(viewModel.notice, "example.org cannot be reached (offline). Try again later.")
        XCTAssertEqual(viewModel.rows.map(\.title), ["Tiny", "somebody/model"], "it can be continued")
    }

    @MainActor
    func testALaunchShowsWhatIsInProgress() async throws {
        let source = try ModelSource.hub("somebody/model", file: "model.thimble")
        _ = await fake.download(source)
        let (viewModel, _) = try await launch()
        let shown = await eventually { viewModel.rows.last?.status == .running(received: 0, total: nil) }
        XCTAssertTrue(shown, "\(viewModel.rows)")
        XCTAssertEqual(viewModel.rows.map(\.title), ["Tiny", "somebody/model"])
    }
}

/// Downloads that a test directs; one at a time.
private actor FakeDownloads: Downloading {
    private var records: [String: (source: ModelSource, isRunning: Bool)] = [:]
    private var listeners: [AsyncThrowingStream<DownloadEvent, any Error>.Continuation] = []

    func download(_ source: ModelSource) -> AsyncThrowingStream<DownloadEvent, any Error> {
        records[source.name] = (source, true)
        let (stream, listener) = AsyncThrowingStream<DownloadEvent, any Error>.makeStream()
        listeners.append(listener)
        return stream
    }

    func tell(_ event: DownloadEvent) { for listener in listeners { listener.yield(event) } }

    func end(_ event: DownloadEvent) {
        tell(event)
        if event == .paused {
            for name in records.keys { records[name]?.isRunning = false }
        } else {
            records = [:]
        }
        for listener in listeners { listener.finish() }
        listeners = []
    }

    func fail(_ error: DownloadError) {
        for name in records.keys { records[name]?.isRunning = false }
        for listener in listeners { listener.finish(throwing: error) }
        listeners = []
    }

    func restore() {}
    func pause(_ name: String) { end(.paused) }
    func delete(_ name: String) { records[name] = nil }
    func finishBackgroundEvents() {}

    func unfinished() -> [UnfinishedDownload] {
        records.values.map {
            UnfinishedDownload(source: $0.source, received: 0, total: nil, isRunning: $0.isRunning)
        }
    }
}
