import Foundation
#if canImport(Darwin)
import Darwin
#endif
import Thimble
import ThimbleDownloads

/// The device has not enough room for a model.
public struct NoRoomError: Error, Equatable, LocalizedError {
    /// Bytes of the file.
    public let needed: Int64
    /// Bytes that are free.
    public let free: Int64

    /// A sentence to show to the user.
    public var errorDescription: String? {
        let (needed, free) = ((needed + 999_999) / 1_000_000, free / 1_000_000)
        return "The model takes \(needed) MB of storage, and \(free) MB are free: delete something and try again."
    }
}

/// Copies a model file into the app, atomically.
public struct ModelImporter: Sendable {
    let folder: AppFolder
    let open: ModelOpener
    let freeBytes: @Sendable () -> Int64?

    /// Bytes read at a time: often enough for progress, seldom enough for speed.
    static let chunk = 1 << 20

    /// An importer into `folder` that believes a file once `open` has opened it and all its checksums are right.
    ///
    /// - Parameter freeBytes: Tells the room on disk in place of the system, for tests.
    public init(into folder: AppFolder, open: @escaping ModelOpener, freeBytes: (@Sendable () -> Int64?)? = nil) {
        self.folder = folder
        self.open = open
        self.freeBytes = freeBytes ?? { folder.freeBytes() }
    }

    /// Copies `source`, checks that it is a whole model, and only then puts it beside the other models: under its own
    /// name, or with a number where another one has that.
    ///
    /// - Parameters:
    ///   - source: A file from the picker; it may belong to another app.
    ///   - progress: Hears the copied share, 0 to 1, from any thread.
    /// - Returns: Where the model is now.
    /// - Throws: `CancellationError` where the task was cancelled, ``ThimbleError`` where the file is no model or is
    ///   damaged, ``NoRoomError`` before anything is copied, or an error of the file system. Nothing is left of the
    ///   copy then.
    public func importModel(
        from source: URL, progress: @escaping @Sendable (Double) -> Void
    ) async throws -> URL {
        removeLeftovers()
        let partial = folder.models.appendingPathComponent("\(UUID().uuidString).partial")
        do {
            try await copy(source, to: partial, progress)
            try Task.checkCancellation()
            // Without a budget: what does not fit now may fit with other settings.
            try await open(partial, ModelOptions()).verify()
            try Task.checkCancellation()
            return try put(partial, named: source.deletingPathExtension().lastPathComponent)
        } catch {
            try? FileManager.default.removeItem(at: partial)
            throw Self.naming(source, error)
        }
    }

    /// In a task of its own that is cancelled with this one: the file system must not hold up the screen.
    private func copy(_ source: URL, to partial: URL, _ progress: @escaping @Sendable (Double) -> Void) async throws {
        let copying = Task.detached(priority: .userInitiated) {
            #if canImport(Darwin)
            let scoped = source.startAccessingSecurityScopedResource()
            defer { if scoped { source.stopAccessingSecurityScopedResource() } }
            #endif
            try copyChunks(source, to: partial, progress)
        }
        try await withTaskCancellationHandler {
            try await copying.value
        } onCancel: {
            copying.cancel()
        }
    }

    private func copyChunks(_ source: URL, to partial: URL, _ progress: (Double) -> Void) throws {
        let input = try FileHandle(forReadingFrom: source)
        defer { try? input.close() }
        let total = try input.seekToEnd()
        try input.seek(toOffset: 0)
        let needed = Int64(clamping: total)
        if let free = freeBytes(), free < needed { throw NoRoomError(needed: needed, free: free) }
        guard FileManager.default.createFile(atPath: partial.path, contents: nil) else {
            throw CocoaError(.fileWriteUnknown)
        }
        let output = try FileHandle(forWritingTo: partial)
        defer { try? output.close() }
        var done: UInt64 = 0
        var more = true
        while more {
            try Task.checkCancellation()
            more = try Self.withPool {
                guard let data = try input.read(upToCount: Self.chunk), !data.isEmpty else { return false }
                try output.write(contentsOf: data)
                done += UInt64(data.count)
                return true
            }
            progress(total == 0 ? 1 : min(Double(done) / Double(total), 1))
        }
        try output.synchronize()
    }

    /// Gives each chunk back before the next one on systems that would keep them.
    private static func withPool<Value>(_ work: () throws -> Value) rethrows -> Value {
        #if canImport(Darwin)
        return try autoreleasepool(invoking: work)
        #else
        return try work()
        #endif
    }

    /// In place in one step.
    private func put(_ partial: URL, named name: String) throws -> URL {
        let target = folder.unusedModel(name)
        guard rename(partial.path, target.path) == 0 else {
            throw CocoaError(.fileWriteUnknown, userInfo: [NSFilePathErrorKey: target.path])
        }
        Storage.excludeFromBackup(target)
        return target
    }

    /// Copies that an app left behind when it was killed.
    private func removeLeftovers() {
        let files = try? FileManager.default.contentsOfDirectory(at: folder.models, includingPropertiesForKeys: nil)
        for file in files ?? [] where file.pathExtension == "partial" { try? FileManager.default.removeItem(at: file) }
    }

    /// Errors about the copy name the file that the user chose.
    private static func naming(_ source: URL, _ error: any Error) -> any Error {
        switch error {
        case ThimbleError.notAModel: return ThimbleError.notAModel(path: source.path)
        case let ThimbleError.damaged(_, reason): return ThimbleError.damaged(path: source.path, reason: reason)
        default: return error
        }
    }
}
