import Foundation

/// Runs what reads or writes files off the main thread.
///
/// Not on Swift's own pool of threads: that has one per core, and none to spare for a disk.
func blocking<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        DispatchQueue.global(qos: .userInitiated).async {
            continuation.resume(with: Result { try work() }.mapError { ThimbleError($0) })
        }
    }
}
