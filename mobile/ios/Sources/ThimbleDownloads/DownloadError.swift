import Foundation

/// Why a model was not downloaded: a case only where an app would do something different.
public enum DownloadError: Error, Sendable, Equatable {
    /// A name, address or checksum that cannot be right: correct the call.
    case invalidSource(reason: String)
    /// No answer: offline, or only on a network that the options forbid. Try again later; nothing is lost.
    case unreachable(host: String, reason: String)
    /// The server refused, with an HTTP status.
    case refused(status: Int, what: String, advice: String)
    /// The connection broke again and again; `kept` bytes are on disk, and the next attempt resumes.
    case interrupted(what: String, reason: String, kept: Int64)
    /// An answer that is not one of a hub or of a file server, such as a proxy's page.
    case unusable(what: String, reason: String)
    /// The bytes differ from what was announced. They were deleted: download again.
    case damaged(name: String, expected: String, found: String)
    /// The device has not enough room, in bytes; what was downloaded is kept.
    case noRoom(needed: Int64, free: Int64)
    /// Another file has this name on the device: delete it or choose another name.
    case nameTaken(name: String)
    /// A file that cannot be written.
    case disk(path: String, reason: String)
}

extension DownloadError: LocalizedError {
    /// A sentence to show to the user.
    public var errorDescription: String? {
        switch self {
        case let .invalidSource(reason): return "The model cannot be requested: \(reason)."
        case let .unreachable(host, reason): return "\(host) cannot be reached (\(reason)). Try again later."
        case let .refused(status, what, advice): return "The server answered \(status) for \(what): \(advice)."
        case let .interrupted(what, reason, kept):
            return "The download of \(what) was interrupted (\(reason)). \(megabytes(kept)) are kept: try again."
        case let .unusable(what, reason): return "The answer for \(what) cannot be used (\(reason))."
        case let .damaged(name, expected, found):
            return "\(name) is damaged: its SHA-256 is \(found), expected \(expected). Download it again."
        case let .noRoom(needed, free):
            return "The model takes \(megabytes(needed)) more of storage, and \(megabytes(free, roundingUp: false)) "
                + "are free: delete something and try again."
        case let .nameTaken(name): return "Another model is called \(name): delete it or choose another name."
        case let .disk(path, reason): return "\(path) cannot be written: \(reason)"
        }
    }

    private func megabytes(_ bytes: Int64, roundingUp: Bool = true) -> String {
        "\((bytes + (roundingUp ? 999_999 : 0)) / 1_000_000) MB"
    }

    /// What to do about an HTTP status.
    static func refused(_ status: Int, _ source: ModelSource, hasToken: Bool) -> DownloadError {
        let advice: String
        switch status {
        case 401, 403:
            advice =
                hasToken
                ? "the token may not read it; accept its licence with the token's account"
                : "it is private or gated, or there is no such repository; check the name, or set a token"
        case 404: advice = "there is no such file, revision or repository; check the name"
        case 429: advice = "too many requests; wait a few minutes"
        case 500...: advice = "the server reported an internal error; try again later"
        default: advice = "expected 200 or 206"
        }
        return .refused(status: status, what: source.what, advice: advice)
    }
}
