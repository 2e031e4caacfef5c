import Foundation
#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// A request as the server received it.
struct ServerRequest: Sendable {
    let path: String
    /// Values by lower-case name.
    let fields: [String: String]

    /// The first byte of the range that it asks for.
    var rangeStart: Int? {
        guard let range = fields["range"], range.hasPrefix("bytes=") else { return nil }
        return range.dropFirst(6).split(separator: "-").first.flatMap { Int($0) }
    }

    /// Whether it asks for the first byte only.
    var isQuestion: Bool { fields["range"] == "bytes=0-0" }
}

/// What the server answers, right or wrong.
struct ServerResponse: Sendable {
    var status = 200
    var fields: [String: String] = [:]
    var body = Data()
    /// The length that it claims.
    var claimedLength: Int?
    /// Bytes of the body after which it closes the connection.
    var closesAfter: Int?
    /// Seconds between pieces of the body.
    var pause = 0.0
}

/// An HTTP server on this machine whose answers a test writes.
final class TestServer: @unchecked Sendable {
    typealias Handler = @Sendable (_ request: ServerRequest, _ number: Int) -> ServerResponse

    let port: UInt16
    private let listener: Int32
    private let lock = NSLock()
    private var handler: Handler
    private var received: [ServerRequest] = []

    init(_ handler: @escaping Handler) throws {
        self.handler = handler
        #if canImport(Glibc)
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        #else
        listener = socket(AF_INET, SOCK_STREAM, 0)
        #endif
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        var length = size
        let fd = listener
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(fd, $0, size) == 0 && listen(fd, 16) == 0 && getsockname(fd, $0, &length) == 0
            }
        }
        guard bound else { throw POSIXError(.EADDRNOTAVAIL) }
        port = UInt16(bigEndian: address.sin_port)
        Thread.detachNewThread { [weak self] in
            while true {
                let connection = accept(fd, nil, nil)
                guard connection >= 0, let self else { return }
                Thread.detachNewThread { self.serve(connection) }
            }
        }
    }

    deinit { stop() }

    /// Refuses connections from now on.
    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    var url: URL { URL(string: "http://127.0.0.1:\(port)") ?? URL(fileURLWithPath: "/") }

    /// All requests so far.
    var requests: [ServerRequest] {
        lock.lock()
        defer { lock.unlock() }
        return received
    }

    /// Requests of bytes, without the questions for a file's size.
    var transfers: [ServerRequest] { requests.filter { !$0.isQuestion } }

    func answer(_ handler: @escaping Handler) {
        lock.lock()
        defer { lock.unlock() }
        self.handler = handler
    }

    private func note(_ request: ServerRequest) -> ServerResponse {
        lock.lock()
        received.append(request)
        let (handler, number) = (handler, received.filter { !$0.isQuestion }.count)
        lock.unlock()
        return handler(request, number)
    }

    private func serve(_ connection: Int32) {
        defer { close(connection) }
        var head = Data()
        while head.range(of: Data("\r\n\r\n".utf8)) == nil {
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = recv(connection, &buffer, buffer.count, 0)
            guard count > 0 else { return }
            head.append(contentsOf: buffer[..<count])
        }
        let lines = String(decoding: head, as: UTF8.self).components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ")
        guard words.count == 3 else { return }
        let pairs = lines.dropFirst().compactMap { line -> (String, String)? in
            guard let colon = line.firstIndex(of: ":") else { return nil }
            let value = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
            return (line[..<colon].lowercased(), value)
        }
        let request = ServerRequest(path: String(words[1]), fields: Dictionary(pairs) { first, _ in first })
        reply(note(request), on: connection)
    }

    private func reply(_ response: ServerResponse, on connection: Int32) {
        var head = "HTTP/1.1 \(response.status) Status\r\nConnection: close\r\n"
        head += "Content-Length: \(response.claimedLength ?? response.body.count)\r\n"
        for (name, value) in response.fields { head += "\(name): \(value)\r\n" }
        guard write(Data((head + "\r\n").utf8), to: connection) else { return }
        let body = response.body.prefix(response.closesAfter ?? response.body.count)
        var rest = body
        while !rest.isEmpty {
            let piece = rest.prefix(16 << 10)
            rest = rest.dropFirst(piece.count)
            guard write(piece, to: connection) else { return }
            if response.pause > 0 { Thread.sleep(forTimeInterval: response.pause) }
        }
    }

    private func write(_ data: Data, to connection: Int32) -> Bool {
        #if canImport(Glibc)
        let flags = Int32(MSG_NOSIGNAL)
        #else
        let flags: Int32 = 0
        #endif
        return data.withUnsafeBytes { bytes in
            var sent = 0
            while sent < bytes.count {
                let count = send(connection, bytes.baseAddress.map { $0 + sent }, bytes.count - sent, flags)
                guard count > 0 else { return false }
                sent += count
            }
            return true
        }
    }
}

/// A file as a hub serves it.
struct ServedFile: Sendable {
    var data: Data
    var etag: String?
    var commit: String? = "c0ffee"
    var hasRanges = true

    func answer(_ request: ServerRequest) -> ServerResponse {
        var response = ServerResponse()
        if let etag { response.fields["ETag"] = "\"\(etag)\"" }
        if let commit { response.fields["X-Repo-Commit"] = commit }
        guard hasRanges, let start = request.rangeStart else {
            response.body = data
            return response
        }
        guard start < data.count else {
            response.status = 416
            response.fields["Content-Range"] = "bytes */\(data.count)"
            return response
        }
        let end = request.isQuestion ? 0 : data.count - 1
        response.status = 206
        response.body = data.subdata(in: start..<end + 1)
        response.fields["Content-Range"] = "bytes \(start)-\(end)/\(data.count)"
        return response
    }
}
