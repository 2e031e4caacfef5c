import Foundation
import ThimbleFFI

/// Why a call did not do what was asked: a case only where an app would do something different.
public enum ThimbleError: Error, Sendable, Equatable {
    /// There is no such file: let the user choose or download one.
    case notFound(path: String)
    /// A file of another kind: let the user choose another one.
    case notAModel(path: String)
    /// A model file, and not whole: download it again.
    case damaged(path: String, reason: String)
    /// More bytes of memory than the budget: ask for a shorter context or a smaller model.
    case tooLarge(needed: UInt64, budget: UInt64)
    /// A message that the context has no room for: shorten it.
    case contextFull(message: String)
    /// The token limit ended an answer before it had the form that was asked for: allow more tokens, or ask for less.
    case incomplete(partial: String)
    /// The work was stopped.
    case cancelled
    /// Anything else, as a sentence.
    case other(message: String)

    /// The same error from below, or what another one says of itself.
    init(_ error: any Error) {
        guard let error = error as? ApiError else {
            self = (error as? ThimbleError) ?? .other(message: String(describing: error))
            return
        }
        switch error {
        case let .NotFound(path): self = .notFound(path: path)
        case let .NotAModel(path): self = .notAModel(path: path)
        case let .Damaged(path, reason): self = .damaged(path: path, reason: reason)
        case let .TooLarge(needed, budget): self = .tooLarge(needed: needed, budget: budget)
        case let .ContextFull(message): self = .contextFull(message: message)
        case .Cancelled: self = .cancelled
        case let .Other(message): self = .other(message: message)
        }
    }
}

extension ThimbleError: LocalizedError {
    /// A sentence to show to the user.
    public var errorDescription: String? {
        func name(_ path: String) -> String { URL(fileURLWithPath: path).lastPathComponent }
        func megabytes(_ bytes: UInt64) -> String { "\((bytes + 999_999) / 1_000_000) MB" }
        switch self {
        case let .notFound(path): return "There is no file \(name(path))."
        case let .notAModel(path): return "\(name(path)) is not a .thimble file."
        case let .damaged(path, reason): return "\(name(path)) is damaged: \(reason)."
        case let .tooLarge(needed, budget):
            return "The model needs \(megabytes(needed)) of memory, and \(megabytes(budget)) are free for it."
        case let .contextFull(message), let .other(message): return message
        case .incomplete: return "The answer reached the limit of tokens before it was complete."
        case .cancelled: return "The work was stopped."
        }
    }
}
