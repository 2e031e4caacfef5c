import Foundation
import Thimble
import XCTest

/// Skips the test for want of something, or fails it where THIMBLE_REQUIRE has `model` among its names.
func missing(_ why: String) throws -> Never {
    let required = (ProcessInfo.processInfo.environment["THIMBLE_REQUIRE"] ?? "").split(separator: ",")
    if required.contains("model") || required.contains("all") {
        throw RequiredIsMissing(why: why)
    }
    throw XCTSkip(why)
}

/// What a gate does not let pass.
struct RequiredIsMissing: Error {
    let why: String
}

/// What the tests share: the real model, and a folder that goes when the test ends.
class ModelTestCase: XCTestCase {
    /// A folder of this test alone.
    private(set) var folder = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: folder)
    }

    /// The file that THIMBLE_MODEL names (SmolLM2-135M-Instruct); a test without one is skipped.
    func modelFile() throws -> URL {
        guard let path = ProcessInfo.processInfo.environment["THIMBLE_MODEL"], !path.isEmpty else {
            try missing("set THIMBLE_MODEL to a .thimble file of SmolLM2-135M-Instruct")
        }
        return URL(fileURLWithPath: path)
    }

    /// The real model with few threads and a short context.
    func openModel() async throws -> Model {
        try await Model.open(modelFile(), options: ModelOptions(context: 512, threads: 2))
    }

    /// Always the likeliest token.
    func greedy(maxTokens: UInt32, system: String? = nil) -> ChatOptions {
        ChatOptions(
            system: system,
            sampling: Sampling(temperature: 0, topK: nil, topP: nil, repetitionPenalty: 1, seed: 1),
            maxTokens: maxTokens
        )
    }
}

/// All pieces of a stream after each other.
func joined<Pieces: AsyncSequence>(_ pieces: Pieces) async throws -> String where Pieces.Element == String {
    var text = ""
    for try await piece in pieces { text += piece }
    return text
}

/// The error that `work` throws.
func thrown(_ work: () async throws -> Void) async -> ThimbleError? {
    do {
        try await work()
        return nil
    } catch {
        return error as? ThimbleError
    }
}

/// Ends of answers, from any thread.
final class Ends: @unchecked Sendable {
    private let lock = NSLock()
    private var heard: [Reply] = []

    func add(_ reply: Reply) {
        lock.lock()
        defer { lock.unlock() }
        heard.append(reply)
    }

    private var all: [Reply] {
        lock.lock()
        defer { lock.unlock() }
        return heard
    }

    /// All ends, once there are so many, or after a long time.
    func wait(for count: Int) async -> [Reply] {
        for _ in 0..<20_000 where all.count < count { try? await Task.sleep(nanoseconds: 1_000_000) }
        return all
    }
}

/// Counts from any thread.
final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var counted = 0

    var count: Int {
        lock.lock()
        defer { lock.unlock() }
        return counted
    }

    func next() -> Int {
        lock.lock()
        defer { lock.unlock() }
        counted += 1
        return counted
    }
}
