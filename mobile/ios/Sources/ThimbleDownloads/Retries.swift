import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// A failure that the next attempt may not meet.
struct TransientFailure: Error {
    let reason: String
}

/// Counts failures in a row without progress.
struct Retries {
    /// Retries in a row without progress.
    private static let most = 5

    private let pause: UInt64
    private var failures = 0
    private var received: Int64 = 0

    /// - Parameter pause: Nanoseconds before the first retry; they double with each one.
    init(pause: UInt64) { self.pause = pause }

    /// Counts a failed attempt after `received` bytes and pauses; false, without a pause, after the last retry.
    mutating func wait(received: Int64) async throws -> Bool {
        if received > self.received { (failures, self.received) = (0, received) }
        failures += 1
        guard failures <= Self.most else { return false }
        try await Task.sleep(nanoseconds: pause << UInt64(failures - 1))
        return true
    }
}

/// Repeats a request until it succeeds, fails for good, or runs out of retries. A connection that fails is not retried:
/// each attempt costs a wait.
func retried<Value>(pause: UInt64, _ attempt: () async throws -> Value) async throws -> Value {
    var retries = Retries(pause: pause)
    while true {
        do {
            return try await attempt()
        } catch let error as DownloadError {
            guard case let .refused(status, _, _) = error, isRetryable(status), try await retries.wait(received: 0)
            else { throw error }
        } catch let error as URLError {
            let broke = error.code == .networkConnectionLost
            if broke, try await retries.wait(received: 0) { continue }
            let host = error.failingURL?.host ?? "the server"
            throw DownloadError.unreachable(host: host, reason: error.localizedDescription)
        }
    }
}

/// Whether a server may answer soon after this status.
func isRetryable(_ status: Int) -> Bool { status == 429 || status >= 500 }
