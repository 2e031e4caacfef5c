import Foundation
#if canImport(Darwin)
import Darwin
#endif

/// What is known of a download, across launches.
struct DownloadRecord: Codable, Sendable, Equatable {
    let source: ModelSource
    /// The file that the bytes on disk belong to.
    var remote: RemoteFile?
    /// Bytes that the system keeps, where it does not say.
    var received: Int64 = 0
    /// Whether it waits for the user.
    var isPaused = false
}

/// Models, and parts of models:
///
///     NAME.thimble               a model, whole and checked
///     .downloads/NAME.json       a download that is not complete
///     .downloads/NAME.part       its bytes
///     .downloads/NAME.resume     what the system continues it from, in the background
struct DownloadFolder: Sendable {
    static let suffix = "thimble"

    let models: URL
    private var unfinished: URL { models.appendingPathComponent(".downloads", isDirectory: true) }

    init(_ models: URL) throws {
        self.models = models
        do {
            try FileManager.default.createDirectory(at: unfinished, withIntermediateDirectories: true)
        } catch {
            throw DownloadError.disk(path: unfinished.path, reason: error.localizedDescription)
        }
        Storage.excludeFromBackup(unfinished)
    }

    func model(_ stem: String) -> URL { models.appendingPathComponent("\(stem).\(Self.suffix)") }
    func part(_ stem: String) -> URL { unfinished.appendingPathComponent("\(stem).part") }
    func resumeData(_ stem: String) -> URL { unfinished.appendingPathComponent("\(stem).resume") }
    private func record(_ stem: String) -> URL { unfinished.appendingPathComponent("\(stem).json") }

    /// The download of this name.
    func read(_ stem: String) -> DownloadRecord? {
        guard let data = try? Data(contentsOf: record(stem)) else { return nil }
        return try? JSONDecoder().decode(DownloadRecord.self, from: data)
    }

    /// All downloads, by name.
    func records() -> [DownloadRecord] {
        files(unfinished, "json").compactMap { read($0.deletingPathExtension().lastPathComponent) }
    }

    func write(_ record: DownloadRecord) throws {
        let file = self.record(record.source.stem)
        do {
            try JSONEncoder().encode(record).write(to: file, options: .atomic)
        } catch {
            throw DownloadFolder.failure(error, file, needed: 0)
        }
    }

    /// Bytes on disk of a download.
    func received(_ record: DownloadRecord) -> Int64 {
        let stem = record.source.stem
        let kept = FileManager.default.fileExists(atPath: resumeData(stem).path) ? record.received : 0
        return max(Storage.bytes(of: part(stem)), kept)
    }

    /// Keeps what the system continues a download from; a deleted download leaves nothing.
    func keep(_ data: Data?, _ stem: String) {
        guard let data, read(stem) != nil else { return }
        try? data.write(to: resumeData(stem), options: .atomic)
    }

    /// Removes the bytes of a download.
    func discardBytes(_ stem: String) {
        for file in [part(stem), resumeData(stem)] { try? FileManager.default.removeItem(at: file) }
    }

    /// Removes all that there is of a download.
    func forget(_ stem: String) {
        discardBytes(stem)
        try? FileManager.default.removeItem(at: record(stem))
    }

    /// Puts a checked part in place in one step.
    func put(_ stem: String) throws -> URL {
        let target = model(stem)
        guard rename(part(stem).path, target.path) == 0 else {
            throw DownloadError.disk(path: target.path, reason: String(cString: strerror(errno)))
        }
        Storage.excludeFromBackup(target)
        return target
    }

    /// Models by name.
    func downloaded() -> [URL] { files(models, Self.suffix) }

    private func files(_ folder: URL, _ kind: String) -> [URL] {
        let all = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        return (all ?? []).filter { $0.pathExtension == kind }.sorted { $0.lastPathComponent < $1.lastPathComponent }
    }

    /// The error for a file that could not be written, for want of `needed` bytes where the disk is full.
    static func failure(_ error: any Error, _ file: URL, needed: Int64) -> DownloadError {
        let isFull = (error as? CocoaError)?.code == .fileWriteOutOfSpace || (error as? POSIXError)?.code == .ENOSPC
        guard isFull else { return .disk(path: file.path, reason: error.localizedDescription) }
        return .noRoom(needed: needed, free: Storage.freeBytes(at: file.deletingLastPathComponent()) ?? 0)
    }
}
