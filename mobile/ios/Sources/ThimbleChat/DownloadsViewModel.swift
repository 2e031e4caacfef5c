import Foundation
import Observation
import Thimble
import ThimbleDownloads

/// Downloads as the screen needs them. `ModelDownloads` has them; tests have others.
public protocol Downloading: Sendable {
    /// Downloads a model, or joins the download of it.
    func download(_ source: ModelSource) async -> AsyncThrowingStream<DownloadEvent, any Error>
    /// Continues what was in progress when the app ended.
    func restore() async
    /// Stops a download and keeps what has arrived.
    func pause(_ name: String) async
    /// Deletes a model or a download.
    func delete(_ name: String) async throws
    /// Downloads that are not complete.
    func unfinished() async -> [UnfinishedDownload]
    /// Waits for the work that the system started the app in the background for.
    func finishBackgroundEvents() async
}

extension ModelDownloads: Downloading {}

/// Models to download: those of the catalogue, and others of the hub.
@MainActor
@Observable
public final class DownloadsViewModel {
    /// Whether a model is on the device.
    public enum Status: Equatable, Sendable {
        /// It can be downloaded.
        case offered
        /// Its bytes arrive.
        case running(received: Int64, total: Int64?)
        /// Its checksum is computed.
        case checking
        /// It waits for the user.
        case paused(received: Int64, total: Int64?)
        /// It is on the device.
        case here
    }

    /// A line of the screen.
    public struct Row: Identifiable, Equatable, Sendable {
        /// What is downloaded.
        public let source: ModelSource
        /// What the screen calls it.
        public let title: String
        /// About the bytes of its file, where they are known.
        public let bytes: Int64?
        /// Whether it is on the device.
        public var status: Status
        /// The model's name.
        public var id: String { source.name }
    }

    /// Models that are offered, on their way, or here.
    public private(set) var rows: [Row] = []
    /// `OWNER/NAME`, as the user writes it.
    public var repository = ""
    /// A file of the repository, as the user writes it.
    public var file = "model.thimble"
    /// What went wrong, as a sentence, until the user has read it.
    public var notice: String?

    @ObservationIgnored private let downloads: any Downloading
    @ObservationIgnored private let catalogue: Catalogue
    @ObservationIgnored private let chats: ChatViewModel
    @ObservationIgnored private var following: [String: Task<Void, Never>] = [:]

    /// Downloads into the folder of `chats`.
    public init(downloads: any Downloading, catalogue: Catalogue = .empty, chats: ChatViewModel) {
        self.downloads = downloads
        self.catalogue = catalogue
        self.chats = chats
    }

    /// The app's downloads: over Wi-Fi only and, on Apple's systems, also while the app is away.
    ///
    /// - Parameter catalogue: `catalogue.json`, if the app has one.
    /// - Throws: What ``Catalogue/init(_:)`` throws, or ``ThimbleDownloads/DownloadError`` for a folder that cannot be
    ///   made.
    public convenience init(chats: ChatViewModel, catalogue: Data? = nil) throws {
        #if canImport(Darwin)
        let options = DownloadOptions(carrier: .background(identifier: Self.sessionIdentifier))
        #else
        let options = DownloadOptions()
        #endif
        let open = chats.open
        let downloads = try ModelDownloads(folder: chats.folder.models, options: options) { url in
            // Without a budget: what does not fit now may fit with other settings.
            _ = try await open(url, ModelOptions())
        }
        self.init(downloads: downloads, catalogue: try catalogue.map(Catalogue.init) ?? .empty, chats: chats)
    }

    /// The identifier of the app's downloads in the background.
    public nonisolated static var sessionIdentifier: String {
        (Bundle.main.bundleIdentifier ?? "thimble") + ".models"
    }

    /// Completes what the system started the app in the background for.
    public func finishBackgroundEvents() async {
        await downloads.finishBackgroundEvents()
        await refresh()
    }

    /// Continues what was in progress, and shows what there is.
    public func start() async {
        await downloads.restore()
        await refresh()
        for download in await downloads.unfinished() where download.isRunning { follow(download.source) }
    }

    /// Shows what there is now.
    public func refresh() async {
        let unfinished = await downloads.unfinished()
        let here = Set(chats.folder.savedModels().map(\.name))
        var rows = catalogue.offers.map {
            Row(source: $0.source, title: $0.title, bytes: $0.bytes, status: .offered)
        }
        for download in unfinished where !rows.contains(where: { $0.source == download.source }) {
            let source = download.source
            rows.append(Row(source: source, title: source.name, bytes: download.total, status: .offered))
        }
        for index in rows.indices {
            let row = rows[index]
            if here.contains(row.source.stem) {
                rows[index].status = .here
            } else if let download = unfinished.first(where: { $0.source == row.source }) {
                let (received, total) = (download.received, download.total)
                rows[index].status =
                    download.isRunning
                    ? .running(received: received, total: total) : .paused(received: received, total: total)
            }
        }
        self.rows = rows
    }

    /// Downloads a model, or continues its download.
    public func download(_ row: Row) { follow(row.source) }

    /// Downloads the file that the user has named.
    public func downloadFromHub() {
        let (owner, file) = (trimmed(repository), trimmed(file))
        do {
            follow(try .hub(owner, file: file))
            repository = ""
        } catch {
            notice = error.localizedDescription
        }
    }

    /// Stops a download and keeps what has arrived.
    public func pause(_ row: Row) async { await downloads.pause(row.source.name) }

    /// Deletes a download with what has arrived of it, or a model.
    public func delete(_ row: Row) async {
        if let model = chats.folder.savedModels().first(where: { $0.name == row.source.stem }) {
            // Where it is open its chat ends first.
            await chats.delete(model)
        } else {
            do { try await downloads.delete(row.source.name) } catch { notice = error.localizedDescription }
        }
        await refresh()
    }

    private func follow(_ source: ModelSource) {
        guard following[source.name] == nil else { return }
        following[source.name] = Task {
            do {
                let events = await downloads.download(source)
                await refresh()
                for try await event in events { await hear(event, source) }
            } catch {
                if !(error is CancellationError) { notice = error.localizedDescription }
            }
            following[source.name] = nil
            await refresh()
        }
    }

    private func hear(_ event: DownloadEvent, _ source: ModelSource) async {
        switch event {
        case let .progress(received, total): show(source, .running(received: received, total: total))
        case .checking: show(source, .checking)
        case .paused: break
        case let .finished(url):
            show(source, .here)
            await chats.modelArrived(url)
        }
    }

    private func show(_ source: ModelSource, _ status: Status) {
        guard let index = rows.firstIndex(where: { $0.source == source }) else { return }
        rows[index].status = status
    }

    private func trimmed(_ text: String) -> String { text.trimmingCharacters(in: .whitespacesAndNewlines) }
}
