import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// A file on a server, as the server described it.
struct RemoteFile: Codable, Equatable, Sendable {
    /// Where it lies: at the hub, by commit, so that it never changes.
    let address: URL
    /// Where the last redirect led. The address of a storage may expire within the hour.
    let storage: URL
    /// The ETag without quotes, if the server has one.
    let etag: String?
    /// Bytes of the file.
    let bytes: Int64
    /// The SHA-256 in lower-case hexadecimal, which every downloaded byte is checked with.
    let sha256: String
}

/// An answer, and what was said on the way to it.
struct RemoteAnswer: Sendable {
    var head: HTTPAnswer
    var etag: String?
    var commit: String?
    var bytes: Int64?

    /// Adds a head to what earlier ones said. What the hub says counts more than what the storage behind it says.
    fileprivate init(_ head: HTTPAnswer, after before: RemoteAnswer?, isHub: Bool) {
        let etag = head["x-linked-etag"] ?? head["etag"]
        let commit = head["x-repo-commit"]
        self.head = head
        self.etag = isHub ? etag ?? before?.etag : before?.etag ?? etag
        self.commit = isHub ? commit ?? before?.commit : before?.commit ?? commit
        bytes = before?.bytes ?? head["x-linked-size"].flatMap { Int64($0) }
    }

    /// The ETag without its quotes and its mark of weakness.
    var plainETag: String? {
        etag.map { ($0.hasPrefix("W/") ? String($0.dropFirst(2)) : $0).replacingOccurrences(of: "\"", with: "") }
    }
}

/// Requests for the files of a hub or of another server.
struct RemoteFiles: Sendable {
    let client: HTTPClient
    let options: DownloadOptions

    private static let mostRedirects = 10

    /// Asks for a file's size, ETag and checksum through its first byte.
    ///
    /// - Throws: ``DownloadError``, or `CancellationError`.
    func describe(_ source: ModelSource) async throws -> RemoteFile {
        guard let url = source.address(endpoint: options.endpoint) else {
            throw DownloadError.invalidSource(reason: "\(source.what) has no valid address")
        }
        let answer = try await retried(pause: options.retryPause) {
            let answer = try await get(url, range: "bytes=0-0", metered: true) { _ in nil }
            // 416: an empty file has no first byte.
            guard (200..<300).contains(answer.head.status) || answer.head.status == 416 else {
                throw DownloadError.refused(answer.head.status, source, hasToken: options.token != nil)
            }
            return answer
        }
        return try file(source, answer)
    }

    private func file(_ source: ModelSource, _ answer: RemoteAnswer) throws -> RemoteFile {
        let head = answer.head
        func unusable(_ reason: String) -> DownloadError { .unusable(what: source.what, reason: reason) }
        let whole = head.status == 200 ? head["content-length"].flatMap { Int64($0) } : head.contentRange?.total
        guard let bytes = answer.bytes ?? whole else { throw unusable("expected its size, found none") }
        guard bytes > 0 else { throw unusable("expected a model, found an empty file") }
        let etag = answer.plainETag
        let announced = etag.flatMap { source.isOnHub && isSHA256($0.lowercased()) ? $0.lowercased() : nil }
        if let expected = source.sha256, let announced, announced != expected {
            throw DownloadError.damaged(name: source.name, expected: expected, found: announced)
        }
        guard let sha256 = source.sha256 ?? announced else {
            throw unusable("expected a SHA-256 as the file's ETag, found \(etag ?? "none"); name the SHA-256")
        }
        guard source.isOnHub else {
            guard let address = source.address(endpoint: options.endpoint) else { throw unusable("it has no address") }
            return RemoteFile(address: address, storage: head.url, etag: etag, bytes: bytes, sha256: sha256)
        }
        guard let commit = answer.commit, isSafeName(commit),
            let address = source.address(endpoint: options.endpoint, commit: commit)
        else {
            throw unusable("expected a commit in X-Repo-Commit, found \(answer.commit ?? "none")")
        }
        return RemoteFile(address: address, storage: head.url, etag: etag, bytes: bytes, sha256: sha256)
    }

    /// Requests a file or a range of it, and follows redirects. The token goes to the hub alone.
    func get(
        _ url: URL, range: String? = nil, metered: Bool,
        accept: @escaping @Sendable (RemoteAnswer) throws -> BodySink?
    ) async throws -> RemoteAnswer {
        var url = url
        var found: RemoteAnswer?
        for _ in 0...Self.mostRedirects {
            let isHub = isSameOrigin(options.endpoint, url)
            var request = URLRequest(url: url)
            // A compressed answer could not be resumed.
            request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
            request.setValue("thimble-ios", forHTTPHeaderField: "User-Agent")
            if let range { request.setValue(range, forHTTPHeaderField: "Range") }
            if isHub, let token = options.token {
                request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization")
            }
            request.allowsCellularAccess = metered
            let before = found
            let head = try await client.send(request) { head in
                guard head.redirect == nil else { return nil }
                return try accept(RemoteAnswer(head, after: before, isHub: isHub))
            }
            let answer = RemoteAnswer(head, after: before, isHub: isHub)
            guard let next = head.redirect else { return answer }
            found = answer
            url = next
        }
        throw URLError(.httpTooManyRedirects)
    }
}

/// Whether `url` has the endpoint's scheme, host and port; an upgrade from http to https is allowed.
func isSameOrigin(_ endpoint: URL, _ url: URL) -> Bool {
    let schemes = (endpoint.scheme?.lowercased(), url.scheme?.lowercased())
    func port(_ url: URL) -> Int { url.port ?? (url.scheme?.lowercased() == "https" ? 443 : 80) }
    guard let host = endpoint.host?.lowercased(), host == url.host?.lowercased() else { return false }
    if schemes == ("http", "https"), port(endpoint) == 80, port(url) == 443 { return true }
    return schemes.0 == schemes.1 && port(endpoint) == port(url)
}
