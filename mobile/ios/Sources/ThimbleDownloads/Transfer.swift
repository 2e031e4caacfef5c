import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// A file on its way.
struct TransferJob: Sendable {
    /// The file name without its ending.
    let stem: String
    let remote: RemoteFile
    /// Where its bytes go.
    let part: URL
    /// Hears the bytes on disk, from any thread.
    let progress: @Sendable (Int64) -> Void
}

/// What carries the bytes of a file.
protocol Transfer: Sendable {
    /// Brings what `job.part` lacks; it has every byte afterwards. Cancelling the task keeps what has arrived.
    ///
    /// - Throws: ``TransientFailure``, ``DownloadError`` of the disk, or `CancellationError`.
    func fetch(_ job: TransferJob) async throws

    /// Whether the system carries this file already, or has brought it while the app was away.
    func isUnderWay(_ stem: String) async -> Bool

    /// Waits until the system has told what happened while the app was away.
    func eventsDelivered() async
}

/// Downloads in this process, with ranges.
struct ForegroundTransfer: Transfer {
    let files: RemoteFiles

    func isUnderWay(_ stem: String) async -> Bool { false }

    func eventsDelivered() async {}

    func fetch(_ job: TransferJob) async throws {
        let part = try PartFile(job.part, total: job.remote.bytes)
        if part.count > part.total { try part.truncate() }
        guard part.count < part.total else { return }
        let range = part.count > 0 ? "bytes=\(part.count)-" : nil
        let metered = files.options.allowsCellular
        do {
            _ = try await files.get(job.remote.address, range: range, metered: metered) { answer in
                try Self.check(answer, job.remote, part)
                job.progress(part.count)
                return { data in
                    try part.append(data)
                    job.progress(part.count)
                }
            }
        } catch let error as URLError {
            throw TransientFailure(reason: error.localizedDescription)
        }
        guard part.count == part.total else { throw TransientFailure(reason: "the answer was too short") }
        try part.synchronize()
    }

    /// Whether the bytes that follow continue the part; an answer with the whole file starts it over.
    private static func check(_ answer: RemoteAnswer, _ remote: RemoteFile, _ part: PartFile) throws {
        switch answer.head.status {
        case 206 where answer.head.contentRange?.first == part.count: break
        case 200: try part.truncate()
        case 206, 416:
            try part.truncate()
            throw TransientFailure(reason: "the server sent another range of the file than requested")
        case let status:
            // The file was described a moment ago: a status that stays is found when it is described again.
            throw TransientFailure(reason: "the server answered \(status)")
        }
        if let etag = answer.plainETag, let before = remote.etag, etag != before {
            throw TransientFailure(reason: "the file changed at the server meanwhile")
        }
    }
}

/// The file that bytes are appended to. Its calls come one after the other.
final class PartFile: @unchecked Sendable {
    let total: Int64
    private(set) var count: Int64
    private let url: URL
    private let handle: FileHandle

    init(_ url: URL, total: Int64) throws {
        self.url = url
        self.total = total
        let exists = FileManager.default.fileExists(atPath: url.path)
        guard exists || FileManager.default.createFile(atPath: url.path, contents: nil) else {
            throw DownloadError.disk(path: url.path, reason: "it cannot be created")
        }
        do {
            handle = try FileHandle(forWritingTo: url)
            count = Int64(clamping: try handle.seekToEnd())
        } catch {
            throw DownloadFolder.failure(error, url, needed: total)
        }
    }

    deinit { try? handle.close() }

    func append(_ data: Data) throws {
        guard count + Int64(data.count) <= total else {
            try truncate()
            throw TransientFailure(reason: "the server sent more bytes than the file has")
        }
        try wrap { try handle.write(contentsOf: data) }
        count += Int64(data.count)
    }

    func truncate() throws {
        guard count > 0 else { return }
        try wrap {
            try handle.truncate(atOffset: 0)
            try handle.seek(toOffset: 0)
        }
        count = 0
    }

    func synchronize() throws { try wrap { try handle.synchronize() } }

    private func wrap(_ work: () throws -> Void) throws {
        do { try work() } catch { throw DownloadFolder.failure(error, url, needed: total - count) }
    }
}
