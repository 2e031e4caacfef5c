#if canImport(CryptoKit)
import CryptoKit
#endif
#if canImport(Darwin)
import Darwin
#endif
import Foundation

/// The SHA-256 of a file in lower-case hexadecimal.
///
/// On a thread that may wait for the disk: Swift's own pool has one per core and none to spare. Cancelling the task ends
/// it with `CancellationError`.
func sha256(of file: URL) async throws -> String {
    let stop = Flag()
    return try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global(qos: .utility).async {
                continuation.resume(with: Result { try digest(file, stop) })
            }
        }
    } onCancel: {
        stop.raise()
    }
}

/// Bytes read at a time.
private let chunk = 1 << 20

private func digest(_ file: URL, _ stop: Flag) throws -> String {
    let input = try FileHandle(forReadingFrom: file)
    defer { try? input.close() }
    var hash = SHA256()
    var more = true
    while more {
        if stop.isRaised { throw CancellationError() }
        more = try withPool {
            guard let data = try input.read(upToCount: chunk), !data.isEmpty else { return false }
            hash.update(data: data)
            return true
        }
    }
    return hash.finalize().map { String(format: "%02x", $0) }.joined()
}

/// Gives each chunk back before the next one on systems that would keep them.
private func withPool<Value>(_ work: () throws -> Value) rethrows -> Value {
    #if canImport(Darwin)
    return try autoreleasepool(invoking: work)
    #else
    return try work()
    #endif
}

/// Tells another thread to stop.
private final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var raised = false

    var isRaised: Bool {
        lock.lock()
        defer { lock.unlock() }
        return raised
    }

    func raise() {
        lock.lock()
        defer { lock.unlock() }
        raised = true
    }
}
