import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// The head of an answer.
struct HTTPAnswer: Sendable {
    let status: Int
    let url: URL
    /// Values by lower-case name.
    private let fields: [String: String]

    init?(_ response: URLResponse?) {
        guard let response = response as? HTTPURLResponse, let url = response.url else { return nil }
        self.url = url
        status = response.statusCode
        let pairs = response.allHeaderFields.compactMap { name, value -> (String, String)? in
            guard let name = name as? String, let value = value as? String else { return nil }
            return (name.lowercased(), value)
        }
        fields = Dictionary(pairs, uniquingKeysWith: { first, _ in first })
    }

    /// The value of a header field.
    subscript(_ name: String) -> String? {
        fields[name].map { $0.trimmingCharacters(in: .whitespaces) }.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// Where a redirect leads.
    var redirect: URL? {
        guard [301, 302, 303, 307, 308].contains(status), let to = self["location"] else { return nil }
        return URL(string: to, relativeTo: url)?.absoluteURL
    }

    /// The first byte and the total of `bytes FIRST-LAST/TOTAL` or `bytes */TOTAL`.
    var contentRange: (first: Int64?, total: Int64?)? {
        guard let value = self["content-range"], value.hasPrefix("bytes") else { return nil }
        let parts = value.dropFirst(5).split(separator: "/")
        guard parts.count == 2 else { return nil }
        let number = { (text: Substring) in Int64(text.trimmingCharacters(in: .whitespaces)) }
        return (parts[0].split(separator: "-").first.flatMap(number), number(parts[1]))
    }
}

/// Takes the bytes of an answer, one piece after the other.
typealias BodySink = @Sendable (Data) throws -> Void

/// Single HTTP requests, without redirects: who follows them decides who gets the token.
final class HTTPClient: Sendable {
    /// Seconds that a connection may be silent.
    private static let silence: TimeInterval = 60

    private let session: URLSession
    private let exchanges: Exchanges

    init() {
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = Self.silence
        configuration.requestCachePolicy = .reloadIgnoringLocalCacheData
        configuration.httpShouldSetCookies = false
        exchanges = Exchanges()
        // One answer's pieces in order: the queue of a delegate is serial.
        session = URLSession(configuration: configuration, delegate: exchanges, delegateQueue: nil)
    }

    deinit { session.invalidateAndCancel() }

    /// Sends a request.
    ///
    /// - Parameter accept: Sees the head; returns what takes the body, or nil where nobody wants it.
    /// - Returns: The head, once the body is complete or not wanted.
    /// - Throws: `CancellationError`, what `accept` and the sink throw, or a `URLError`.
    func send(
        _ request: URLRequest, accept: @escaping @Sendable (HTTPAnswer) throws -> BodySink?
    ) async throws -> HTTPAnswer {
        let task = session.dataTask(with: request)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                exchanges.add(task, Exchange(accept, continuation))
                task.resume()
            }
        } onCancel: {
            task.cancel()
        }
    }
}

/// A request on its way.
private final class Exchange {
    let accept: @Sendable (HTTPAnswer) throws -> BodySink?
    let continuation: CheckedContinuation<HTTPAnswer, any Error>
    var answer: HTTPAnswer?
    var sink: BodySink?
    /// Why the client ended it: an error, or that the body is not wanted.
    var ended: Result<HTTPAnswer, any Error>?

    init(
        _ accept: @escaping @Sendable (HTTPAnswer) throws -> BodySink?,
        _ continuation: CheckedContinuation<HTTPAnswer, any Error>
    ) {
        self.accept = accept
        self.continuation = continuation
    }

    /// Hears the head; whether the body is wanted.
    func hear(_ answer: HTTPAnswer) -> Bool {
        self.answer = answer
        do {
            sink = try accept(answer)
            if sink == nil { ended = .success(answer) }
        } catch {
            ended = .failure(error)
        }
        return sink != nil
    }

    /// Hears a piece; whether more is wanted.
    func hear(_ data: Data) -> Bool {
        guard ended == nil else { return false }
        do {
            try sink?(data)
            return true
        } catch {
            ended = .failure(error)
            return false
        }
    }

    func end(_ error: (any Error)?) {
        if let ended {
            continuation.resume(with: ended)
        } else if let error {
            let cancelled = (error as? URLError)?.code == .cancelled
            continuation.resume(throwing: cancelled ? CancellationError() : error)
        } else if let answer {
            continuation.resume(returning: answer)
        } else {
            continuation.resume(throwing: URLError(.badServerResponse))
        }
    }
}

/// Passes what a session reports to the exchange that it belongs to.
private final class Exchanges: NSObject, URLSessionDataDelegate, @unchecked Sendable {
    /// Guards the dictionary; an exchange itself belongs to the delegate's queue.
    private let lock = NSLock()
    private var all: [Int: Exchange] = [:]

    func add(_ task: URLSessionTask, _ exchange: Exchange) {
        lock.lock()
        defer { lock.unlock() }
        all[task.taskIdentifier] = exchange
    }

    private func of(_ task: URLSessionTask, remove: Bool = false) -> Exchange? {
        lock.lock()
        defer { lock.unlock() }
        return remove ? all.removeValue(forKey: task.taskIdentifier) : all[task.taskIdentifier]
    }

    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest request: URLRequest, completionHandler: @escaping (URLRequest?) -> Void
    ) {
        completionHandler(nil)
    }

    func urlSession(
        _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
        completionHandler: @escaping (URLSession.ResponseDisposition) -> Void
    ) {
        let wanted = HTTPAnswer(response).flatMap { of(dataTask)?.hear($0) } ?? false
        completionHandler(wanted ? .allow : .cancel)
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        if of(dataTask)?.hear(data) != true { dataTask.cancel() }
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        of(task, remove: true)?.end(error)
    }
}
