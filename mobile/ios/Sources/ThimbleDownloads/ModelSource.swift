import Foundation

/// A `.thimble` file to download, and the name that it gets on the device.
public struct ModelSource: Codable, Hashable, Sendable, Identifiable {
    /// Where a file lies.
    enum Place: Codable, Hashable, Sendable {
        case hub(repository: String, file: String, revision: String)
        case url(URL)
    }

    /// The name as `thimble list` shows it: of the catalogue, such as `smollm2-135m-instruct`, or of a repository,
    /// `owner/name`.
    public let name: String
    let place: Place
    /// The SHA-256 that the file must have, in lower-case hexadecimal; nil where only the hub announces it.
    public let sha256: String?

    /// The name, which no other model of a folder has.
    public var id: String { name }

    /// A file of a repository on the Hugging Face hub.
    ///
    /// The hub announces the SHA-256 of large files, which the download is compared with.
    ///
    /// - Parameters:
    ///   - repository: `OWNER/NAME`.
    ///   - file: The path of a `.thimble` file in the repository.
    ///   - revision: A branch, a tag or a commit.
    ///   - name: The name on the device, by default the repository's; give another one where a repository has several
    ///     files.
    ///   - sha256: The SHA-256 that the app expects, for an app that does not rely on the hub.
    /// - Throws: ``DownloadError/invalidSource(reason:)``.
    public static func hub(
        _ repository: String, file: String, revision: String = "main", name: String? = nil, sha256: String? = nil
    ) throws -> ModelSource {
        let parts = repository.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ isSafeName($0) }) else {
            throw DownloadError.invalidSource(
                reason: "expected a repository such as owner/name, found \"\(repository)\"")
        }
        guard isContained(file), file.hasSuffix(".thimble") else {
            throw DownloadError.invalidSource(reason: "expected the name of a .thimble file, found \"\(file)\"")
        }
        guard !revision.isEmpty else {
            throw DownloadError.invalidSource(reason: "expected a branch, a tag or a commit, found an empty revision")
        }
        return try ModelSource(
            name: name ?? repository,
            place: .hub(repository: repository, file: file, revision: revision), sha256: sha256)
    }

    /// A file at any address, with the SHA-256 that it must have.
    ///
    /// - Parameter name: The name on the device; by default the file's own, without `.thimble`.
    /// - Throws: ``DownloadError/invalidSource(reason:)``.
    public static func url(_ url: URL, sha256: String, name: String? = nil) throws -> ModelSource {
        guard ["http", "https"].contains(url.scheme?.lowercased()), url.host?.isEmpty == false else {
            throw DownloadError.invalidSource(
                reason: "expected an address that begins with https://, found \"\(url.absoluteString)\"")
        }
        let name = name ?? url.deletingPathExtension().lastPathComponent
        return try ModelSource(name: name, place: .url(url), sha256: sha256)
    }

    private init(name: String, place: Place, sha256: String?) throws {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, parts.allSatisfy({ isSafeName($0) }) else {
            throw DownloadError.invalidSource(
                reason: "expected the name of a model, such as smollm2-135m-instruct or owner/name, found \"\(name)\"")
        }
        let digest = sha256?.lowercased()
        if let digest, !isSHA256(digest) {
            throw DownloadError.invalidSource(
                reason: "expected a SHA-256 of 64 hexadecimal digits, found \"\(digest)\"")
        }
        self.name = name
        self.place = place
        self.sha256 = digest
    }

    /// The name of the model's file without `.thimble`, the same as `thimble pull` gives it.
    ///
    /// Names of repositories have no `--`, so two never share a file.
    public var stem: String { ModelSource.stem(name) }

    static func stem(_ name: String) -> String { name.replacingOccurrences(of: "/", with: "--") }

    /// What a message calls it.
    var what: String {
        switch place {
        case let .hub(repository, file, _): return "\(file) of \(repository)"
        case let .url(url): return url.absoluteString
        }
    }

    /// The file's address at a revision of its own or at `commit`, which never changes.
    func address(endpoint: URL, commit: String? = nil) -> URL? {
        switch place {
        case let .hub(repository, file, revision):
            var base = endpoint.absoluteString
            if base.hasSuffix("/") { base.removeLast() }
            let revision = escaped(commit ?? revision).replacingOccurrences(of: "/", with: "%2F")
            return URL(string: "\(base)/\(repository)/resolve/\(revision)/\(escaped(file))")
        case let .url(url):
            return url
        }
    }

    /// Whether the hub has it, whose answers name commits and checksums.
    var isOnHub: Bool {
        if case .hub = place { return true }
        return false
    }
}

/// Whether a word may become a file name.
func isSafeName(_ word: some StringProtocol) -> Bool {
    let plain = { (byte: UInt8) in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
            return true
        default:
            return false
        }
    }
    return (1...128).contains(word.utf8.count) && !word.hasPrefix(".") && word.utf8.allSatisfy(plain)
}

/// Whether a path stays inside its folder.
func isContained(_ file: String) -> Bool {
    let parts = file.split(separator: "/", omittingEmptySubsequences: false)
    return !file.contains("\\") && !file.contains("\0")
        && parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
}

/// Whether a word is a SHA-256 in lower-case hexadecimal.
func isSHA256(_ word: String) -> Bool {
    word.utf8.count == 64 && word.utf8.allSatisfy { "0123456789abcdef".utf8.contains($0) }
}

/// `text` percent-encoded for a URL's path, except for slashes.
private func escaped(_ text: String) -> String {
    var plain = CharacterSet(charactersIn: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    plain.insert(charactersIn: "-_.~/")
    return text.addingPercentEncoding(withAllowedCharacters: plain) ?? text
}
