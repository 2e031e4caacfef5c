import Foundation

/// A model that is whole and checked.
public struct DownloadedModel: Sendable, Equatable, Identifiable {
    /// The name of its source, or of the file.
    public let name: String
    /// Where it is.
    public let url: URL
    /// Bytes of the file.
    public let bytes: Int64
    /// The name.
    public var id: String { name }
}

/// The models of a folder, and the downloads that bring more. What was asked for is on disk and outlives the process.
///
/// A download resumes after interruptions, is compared with its SHA-256, and appears in the folder complete or not at
/// all. One object at a time may use a folder.
public actor ModelDownloads {
    private typealias Listener = AsyncThrowingStream<DownloadEvent, any Error>.Continuation

    /// A download in progress.
    private struct Running {
        var task: Task<Void, Never>
        var listeners: [UUID: Listener] = [:]
        var last: DownloadEvent?
        var end = End.failure
    }

    /// Why a download in progress ends where it has not succeeded.
    private enum End { case failure, pause, deletion }

    private let folder: DownloadFolder
    private let files: RemoteFiles
    private let transfer: any Transfer
    private let freeBytes: @Sendable () -> Int64?
    private let check: (@Sendable (URL) async throws -> Void)?
    private var running: [String: Running] = [:]

    /// The downloads of a folder. Nothing is requested before ``restore()`` or ``download(_:)``.
    ///
    /// - Parameters:
    ///   - folder: Where the models are; made if need be.
    ///   - check: Opens a file whose checksum is right, and throws where the app cannot use it; the file is deleted then.
    /// - Throws: ``DownloadError/disk(path:reason:)``; ``DownloadError/invalidSource(reason:)`` for a background carrier
    ///   where the system has none.
    public init(
        folder: URL, options: DownloadOptions = DownloadOptions(), check: (@Sendable (URL) async throws -> Void)? = nil
    ) throws {
        try self.init(folder: folder, options: options, check: check, freeBytes: { Storage.freeBytes(at: folder) })
    }

    /// - Parameter freeBytes: Tells the room on disk in place of the system, for tests.
    init(
        folder: URL, options: DownloadOptions, check: (@Sendable (URL) async throws -> Void)? = nil,
        freeBytes: @escaping @Sendable () -> Int64?
    ) throws {
        self.folder = try DownloadFolder(folder)
        files = RemoteFiles(client: HTTPClient(), options: options)
        self.freeBytes = freeBytes
        self.check = check
        switch options.carrier {
        case .foreground: transfer = ForegroundTransfer(files: files)
        case let .background(identifier):
            #if canImport(Darwin)
            transfer = BackgroundTransfer(identifier, folder: self.folder, options: options)
            #else
            throw DownloadError.invalidSource(
                reason: "this system has no downloads in the background, which \(identifier) asks for")
            #endif
        }
    }

    // MARK: - Downloads

    /// Downloads a model, or joins the download of it, with a stream of events that ends with ``DownloadEvent/finished(_:)``.
    ///
    /// A model of this name that is there already is not downloaded again. The stream shows the latest event; ending it
    /// does not stop the download: ``pause(_:)`` and ``delete(_:)`` do, and the stream of a deleted download throws
    /// `CancellationError`. Any other error of the stream is a ``DownloadError`` or comes from the app's check.
    public func download(_ source: ModelSource) -> AsyncThrowingStream<DownloadEvent, any Error> {
        let (stream, listener) = AsyncThrowingStream<DownloadEvent, any Error>.makeStream(
            bufferingPolicy: .bufferingNewest(1))
        let (stem, id) = (source.stem, UUID())
        let model = folder.model(stem)
        if FileManager.default.fileExists(atPath: model.path) {
            listener.yield(.finished(model))
            listener.finish()
            return stream
        }
        do {
            try begin(source)
        } catch {
            listener.finish(throwing: error)
            return stream
        }
        listener.onTermination = { [weak self] _ in
            Task { await self?.leave(stem, id) }
        }
        running[stem]?.listeners[id] = listener
        if let last = running[stem]?.last { listener.yield(last) }
        return stream
    }

    /// Continues the downloads that were in progress when the app ended. Call it once at launch.
    public func restore() {
        for record in folder.records() where !record.isPaused {
            if FileManager.default.fileExists(atPath: folder.model(record.source.stem).path) {
                folder.forget(record.source.stem)
            } else {
                try? begin(record.source)
            }
        }
    }

    /// Stops a download and keeps what has arrived; ``download(_:)`` continues it.
    public func pause(_ name: String) async { await stop(name, .pause) }

    /// Deletes a model, or a download with all that has arrived of it.
    public func delete(_ name: String) async throws {
        await stop(name, .deletion)
        let stem = ModelSource.stem(name)
        folder.forget(stem)
        let model = folder.model(stem)
        guard FileManager.default.fileExists(atPath: model.path) else { return }
        do {
            try FileManager.default.removeItem(at: model)
        } catch {
            throw DownloadError.disk(path: model.path, reason: error.localizedDescription)
        }
    }

    /// Models that are whole, by name.
    public func models() -> [DownloadedModel] {
        folder.downloaded().map { url in
            let stem = url.deletingPathExtension().lastPathComponent
            let name = stem.replacingOccurrences(of: "--", with: "/")
            return DownloadedModel(name: name, url: url, bytes: Storage.bytes(of: url))
        }
    }

    /// Downloads that are not complete, by name.
    public func unfinished() -> [UnfinishedDownload] {
        folder.records().map { record in
            let stem = record.source.stem
            var received = folder.received(record)
            if case let .progress(now, _) = running[stem]?.last { received = now }
            return UnfinishedDownload(
                source: record.source, received: received, total: record.remote?.bytes, isRunning: running[stem] != nil)
        }
    }

    /// Waits for the work that the system started the app in the background for. When this returns, the files that had
    /// arrived are checked and in place, and the app may be suspended again.
    ///
    /// With SwiftUI it is the action of `.backgroundTask(.urlSession(identifier))`; with UIKit
    /// `application(_:handleEventsForBackgroundURLSession:completionHandler:)` calls it before the completion handler.
    public func finishBackgroundEvents() async {
        restore()
        await transfer.eventsDelivered()
        for (stem, download) in running {
            let total = folder.read(stem)?.remote?.bytes
            if Storage.bytes(of: folder.part(stem)) == total { await download.task.value }
        }
    }

    // MARK: - One download

    private func begin(_ source: ModelSource) throws {
        let stem = source.stem
        var record = folder.read(stem) ?? DownloadRecord(source: source)
        guard record.source == source else { throw DownloadError.nameTaken(name: source.name) }
        guard running[stem] == nil else { return }
        record.isPaused = false
        try folder.write(record)
        running[stem] = Running(task: Task { await self.run(record) })
    }

    private func leave(_ stem: String, _ id: UUID) { running[stem]?.listeners[id] = nil }

    private func stop(_ name: String, _ end: End) async {
        let stem = ModelSource.stem(name)
        running[stem]?.end = end
        guard let task = running[stem]?.task else {
            if var record = folder.read(stem) {
                record.isPaused = true
                try? folder.write(record)
            }
            return
        }
        task.cancel()
        await task.value
    }

    private func run(_ record: DownloadRecord) async {
        let result: Result<URL, any Error>
        do {
            result = .success(try await obtain(record))
        } catch {
            result = .failure(error)
        }
        ended(record.source.stem, result)
    }

    private func ended(_ stem: String, _ result: Result<URL, any Error>) {
        guard let download = running.removeValue(forKey: stem) else { return }
        switch result {
        case let .success(url):
            folder.forget(stem)
            for listener in download.listeners.values {
                listener.yield(.finished(url))
                listener.finish()
            }
        case let .failure(error):
            if download.end == .deletion { folder.forget(stem) } else { keep(stem, download, error) }
            for listener in download.listeners.values {
                if download.end == .pause {
                    listener.yield(.paused)
                    listener.finish()
                } else {
                    listener.finish(throwing: download.end == .deletion ? CancellationError() : error)
                }
            }
        }
    }

    /// Remembers what the next launch should do.
    private func keep(_ stem: String, _ download: Running, _ error: any Error) {
        guard var record = folder.read(stem) else { return }
        if case let .progress(received, _) = download.last { record.received = received }
        switch error {
        case DownloadError.unreachable, DownloadError.interrupted: record.isPaused = download.end == .pause
        case let DownloadError.refused(status, _, _): record.isPaused = !isRetryable(status)
        default: record.isPaused = true
        }
        try? folder.write(record)
    }

    /// Brings the file, checks it and puts it in place.
    private func obtain(_ known: DownloadRecord) async throws -> URL {
        let (source, stem) = (known.source, known.source.stem)
        var record = known
        var retries = Retries(pause: files.options.retryPause)
        while true {
            let remote = try await describe(&record)
            do {
                try await transfer.fetch(job(stem, remote))
                break
            } catch let failure as TransientFailure {
                try Task.checkCancellation()
                guard try await retries.wait(received: folder.received(record)) else {
                    throw DownloadError.interrupted(
                        what: source.what, reason: failure.reason, kept: folder.received(record))
                }
            }
        }
        try Task.checkCancellation()
        tell(stem, .checking)
        return try await checked(source, record.remote)
    }

    /// The file that the bytes on disk belong to. Bytes of another version of the file are discarded.
    private func describe(_ record: inout DownloadRecord) async throws -> RemoteFile {
        let stem = record.source.stem
        if let known = record.remote {
            // A launch finds what the system has done meanwhile, also without a network.
            if Storage.bytes(of: folder.part(stem)) == known.bytes { return known }
            if await transfer.isUnderWay(stem) { return known }
        }
        let remote = try await files.describe(record.source)
        if let known = record.remote,
            (known.sha256, known.etag, known.bytes) != (remote.sha256, remote.etag, remote.bytes)
        {
            folder.discardBytes(stem)
        }
        record.remote = remote
        try folder.write(record)
        let needed = remote.bytes - folder.received(record)
        if let free = freeBytes(), free < needed { throw DownloadError.noRoom(needed: needed, free: free) }
        return remote
    }

    private func job(_ stem: String, _ remote: RemoteFile) -> TransferJob {
        let meter = ProgressMeter(total: remote.bytes)
        return TransferJob(stem: stem, remote: remote, part: folder.part(stem)) { [weak self] received in
            guard meter.advance(to: received) else { return }
            Task { await self?.tell(stem, .progress(received: meter.received, total: remote.bytes)) }
        }
    }

    /// Passes an event on. Reports of progress may come late.
    private func tell(_ stem: String, _ event: DownloadEvent) {
        guard let download = running[stem], download.last != .checking else { return }
        running[stem]?.last = event
        for listener in download.listeners.values { listener.yield(event) }
    }

    private func checked(_ source: ModelSource, _ remote: RemoteFile?) async throws -> URL {
        let part = folder.part(source.stem)
        let expected = remote?.sha256 ?? source.sha256 ?? ""
        do {
            let found = try await sha256(of: part)
            guard found == expected else {
                throw DownloadError.damaged(name: source.name, expected: expected, found: found)
            }
            try await check?(part)
        } catch {
            if !(error is CancellationError) { folder.discardBytes(source.stem) }
            throw error
        }
        try Task.checkCancellation()
        return try folder.put(source.stem)
    }
}

/// Lets a report of progress pass for each half percent.
private final class ProgressMeter: @unchecked Sendable {
    private let step: Int64
    private let total: Int64
    private let lock = NSLock()
    private var latest: Int64 = 0
    private var reported: Int64 = -1

    init(total: Int64) {
        self.total = total
        step = max(total / 200, 1)
    }

    var received: Int64 {
        lock.lock()
        defer { lock.unlock() }
        return latest
    }

    /// Notes the bytes on disk; whether it is time for a report.
    func advance(to received: Int64) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        latest = received
        let isDue = reported < 0 || received < reported || received - reported >= step || received == total
        if isDue { reported = received }
        return isDue
    }
}
