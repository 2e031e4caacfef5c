import Foundation
@testable import ThimbleDownloads
import XCTest

/// What the tests of downloads share: a folder that goes when the test ends, and files to serve.
class DownloadTestCase: XCTestCase {
    private(set) var folder = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
    }

    override func tearDownWithError() throws {
        if FileManager.default.fileExists(atPath: folder.path) { try FileManager.default.removeItem(at: folder) }
    }

    func manager(
        _ server: TestServer, token: String? = nil, free: Int64 = .max,
        check: (@Sendable (URL) async throws -> Void)? = nil
    ) throws -> ModelDownloads {
        var options = DownloadOptions(endpoint: server.url, token: token)
        options.retryPause = 5_000_000
        return try ModelDownloads(folder: folder, options: options, check: check, freeBytes: { free })
    }

    /// A file of the server as a hub's.
    func source(_ name: String? = nil, sha256: String? = nil) throws -> ModelSource {
        try ModelSource.hub("owner/model", file: "model.thimble", name: name, sha256: sha256)
    }

    /// Names of all files below the folder.
    func files() -> [String] {
        let all = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
        return all.filter { $0 != ".downloads" }.sorted()
    }
}

/// Bytes that look like no others.
func noise(_ count: Int, seed: UInt64 = 1) -> Data {
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    var data = Data(capacity: count + 8)
    while data.count < count {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        withUnsafeBytes(of: state) { data.append(contentsOf: $0) }
    }
    return data.prefix(count)
}

/// The SHA-256 of bytes in memory.
func digest(_ data: Data) -> String {
    var hash = SHA256()
    hash.update(data: data)
    return hash.finalize().map { String(format: "%02x", $0) }.joined()
}

/// A file whose ETag is its SHA-256, as a hub's large files have it.
func hubFile(_ data: Data) -> ServedFile { ServedFile(data: data, etag: digest(data)) }

/// All events of a stream.
func all(_ events: AsyncThrowingStream<DownloadEvent, any Error>) async throws -> [DownloadEvent] {
    var all: [DownloadEvent] = []
    for try await event in events { all.append(event) }
    return all
}

/// The file that a stream ends with.
func finished(_ events: AsyncThrowingStream<DownloadEvent, any Error>) async throws -> URL {
    guard case let .finished(url) = try await all(events).last else { throw URLError(.cannotOpenFile) }
    return url
}

/// The error of a stream.
func failure(_ events: AsyncThrowingStream<DownloadEvent, any Error>) async -> (any Error)? {
    do {
        _ = try await all(events)
        return nil
    } catch {
        return error
    }
}
