import Foundation
@testable import ThimbleDownloads
import XCTest

/// Servers and disks that do not do what they should.
final class ServerFaultTests: DownloadTestCase {
    func testABrokenConnectionContinuesWhereItBroke() async throws {
        let data = noise(1_000_000)
        let file = hubFile(data)
        let server = try TestServer { request, _ in
            var response = file.answer(request)
            if !request.isQuestion { response.closesAfter = 300_000 }
            return response
        }
        let url = try await finished(manager(server).download(source()))
        XCTAssertEqual(try Data(contentsOf: url), data)
        XCTAssertEqual(server.transfers.map(\.rangeStart), [nil, 300_000, 600_000, 900_000])
    }

    func testAServerWithoutRangesStartsOver() async throws {
        let data = noise(500_000)
        var file = hubFile(data)
        file.hasRanges = false
        let served = file
        let server = try TestServer { request, number in
            var response = served.answer(request)
            if !request.isQuestion, number == 1 { response.closesAfter = 100_000 }
            return response
        }
        let url = try await finished(manager(server).download(source()))
        XCTAssertEqual(try Data(contentsOf: url), data)
        XCTAssertEqual(server.transfers.count, 2)
    }

    func testAnotherRangeThanRequestedIsNotAppended() async throws {
        let data = noise(500_000)
        let file = hubFile(data)
        for status in [206, 416] {
            let server = try TestServer { request, number in
                var response = file.answer(request)
                if number == 1, !request.isQuestion { response.closesAfter = 100_000 }
                if number == 2, !request.isQuestion {
                    response.status = status
                    response.fields["Content-Range"] = status == 206 ? "bytes 5-9/500000" : "bytes */500000"
                }
                return response
            }
            let downloads = try manager(server)
            let url = try await finished(downloads.download(source()))
            XCTAssertEqual(try Data(contentsOf: url), data)
            XCTAssertEqual(server.transfers.map(\.rangeStart), [nil, 100_000, nil], "\(status): it starts over")
            try await downloads.delete("owner/model")
        }
    }

    func testMoreBytesThanTheFileHas() async throws {
        let data = noise(200_000)
        let file = hubFile(data)
        let server = try TestServer { request, number in
            var response = file.answer(request)
            if number == 1, !request.isQuestion { response.body += noise(1000) }
            return response
        }
        let url = try await finished(manager(server).download(source()))
        XCTAssertEqual(try Data(contentsOf: url), data)
    }

    func testAFileThatChangesMeanwhileIsDownloadedAsItIsNow() async throws {
        let (old, new) = (hubFile(noise(400_000, seed: 1)), hubFile(noise(300_000, seed: 2)))
        let server = try TestServer { request, number in
            var response = (number <= 1 ? old : new).answer(request)
            if !request.isQuestion, number == 1 { response.closesAfter = 150_000 }
            return response
        }
        let url = try await finished(manager(server).download(source()))
        XCTAssertEqual(try Data(contentsOf: url), new.data)
        XCTAssertEqual(server.transfers.map(\.rangeStart), [nil, 150_000, nil], "the old file's bytes are discarded")
    }

    func testAFileThatChangesBetweenTwoRequests() async throws {
        let (old, new) = (hubFile(noise(400_000, seed: 1)), hubFile(noise(400_000, seed: 2)))
        // The first question is answered for the old file, and the bytes come from the new one.
        let server = try TestServer { request, number in (number == 0 ? old : new).answer(request) }
        let url = try await finished(manager(server).download(source()))
        XCTAssertEqual(try Data(contentsOf: url), new.data)
    }

    func testWrongBytesAreDeleted() async throws {
        let data = noise(200_000)
        var file = hubFile(data)
        file.data[100_000] ^= 1
        let served = file
        let server = try TestServer { request, _ in served.answer(request) }
        let downloads = try manager(server)
        let error = await failure(await downloads.download(try source()))
        XCTAssertEqual(
            error as? DownloadError,
            .damaged(name: "owner/model", expected: digest(data), found: digest(served.data)))
        XCTAssertEqual(files(), [".downloads/owner--model.json"])
        // The next attempt begins anew.
        let right = hubFile(data)
        server.answer { request, _ in right.answer(request) }
        let url = try await finished(downloads.download(source()))
        XCTAssertEqual(try Data(contentsOf: url), data)
    }

    func testTheAppsChecksumCountsMoreThanTheHubs() async throws {
        let file = hubFile(noise(1000))
        let server = try TestServer { request, _ in file.answer(request) }
        let expected = digest(Data("another".utf8))
        let error = await failure(try manager(server).download(try source(sha256: expected)))
        XCTAssertEqual(
            error as? DownloadError,
            .damaged(name: "owner/model", expected: expected, found: file.etag ?? ""))
        XCTAssertEqual(server.transfers.count, 0, "known before a byte is downloaded")
    }

    func testTheTokenGoesToTheHubAlone() async throws {
        let data = noise(300_000)
        let file = hubFile(data)
        let storage = try TestServer { request, number in
            var response = ServedFile(data: data, etag: "of-the-storage", commit: nil).answer(request)
            if !request.isQuestion, number == 1 { response.closesAfter = 100_000 }
            return response
        }
        let address = storage.url.absoluteString
        let server = try TestServer { request, _ in
            guard request.fields["authorization"] == "Bearer secret" else { return ServerResponse(status: 401) }
            // To itself first, as hubs do with names in other cases.
            guard request.path.contains("redirected") else {
                return ServerResponse(status: 307, fields: ["Location": "/redirected\(request.path)"])
            }
            return ServerResponse(
                status: 302,
                fields: [
                    "Location": "\(address)/blob?signature=1", "X-Repo-Commit": "c0ffee",
                    "X-Linked-Etag": "\"\(file.etag ?? "")\"", "X-Linked-Size": "300000",
                ])
        }
        let url = try await finished(manager(server, token: "secret").download(source()))
        XCTAssertEqual(try Data(contentsOf: url), data)
        XCTAssertEqual(storage.requests.count, 4)
        XCTAssertTrue(storage.requests.allSatisfy { $0.path == "/blob?signature=1" })
        XCTAssertTrue(storage.requests.allSatisfy { $0.fields["authorization"] == nil })
        XCTAssertEqual(storage.transfers.map(\.rangeStart), [nil, 100_000])
    }

    func testRedirectsWithoutAnEnd() async throws {
        let server = try TestServer { request, _ in ServerResponse(status: 302, fields: ["Location": request.path]) }
        let error = await failure(try manager(server).download(try source()))
        guard case .unreachable = error as? DownloadError else { return XCTFail("\(String(describing: error))") }
        XCTAssertEqual(server.requests.count, 11)
    }

    func testRefusals() async throws {
        for (status, words, requests) in [(401, "token", 1), (404, "no such file", 1), (500, "internal error", 6)] {
            let server = try TestServer { _, _ in ServerResponse(status: status) }
            let downloads = try manager(server)
            let error = await failure(await downloads.download(try source()))
            guard case let .refused(found, what, advice) = error as? DownloadError else {
                return XCTFail("\(String(describing: error))")
            }
            XCTAssertEqual(found, status)
            XCTAssertEqual(what, "model.thimble of owner/model")
            XCTAssertTrue(advice.contains(words), advice)
            XCTAssertEqual(server.requests.count, requests, "\(status)")
        }
    }

    func testAServerThatIsBusyIsAskedAgain() async throws {
        let data = noise(1000)
        let file = hubFile(data)
        let busy = Countdown(2)
        let server = try TestServer { request, _ in
            busy.next() ? ServerResponse(status: 429) : file.answer(request)
        }
        let url = try await finished(manager(server).download(source()))
        XCTAssertEqual(try Data(contentsOf: url), data)
    }

    func testNobodyAnswers() async throws {
        let server = try TestServer { _, _ in ServerResponse() }
        server.stop()
        let error = await failure(try manager(server).download(try source()))
        guard case .unreachable = error as? DownloadError else { return XCTFail("\(String(describing: error))") }
        let unfinished = try await manager(server).unfinished()
        XCTAssertEqual(unfinished.map(\.source), [try source()], "it is not forgotten")
    }

    func testAnswersThatAreNoHubs() async throws {
        let data = noise(1000)
        let answers = [
            ServedFile(data: data, etag: digest(data), commit: nil), ServedFile(data: data, etag: "short"),
            ServedFile(data: data, etag: digest(data), commit: "../up"), hubFile(Data()),
        ]
        for (number, file) in answers.enumerated() {
            let server = try TestServer { request, _ in file.answer(request) }
            let error = await failure(try manager(server).download(try source("name\(number)")))
            guard case .unusable = error as? DownloadError else {
                return XCTFail("\(number): \(String(describing: error))")
            }
            XCTAssertEqual(server.transfers.count, 0)
        }
    }

    func testWithoutRoomNothingIsDownloaded() async throws {
        let file = hubFile(noise(300_000))
        let server = try TestServer { request, _ in file.answer(request) }
        let error = await failure(try manager(server, free: 299_999).download(try source()))
        XCTAssertEqual(error as? DownloadError, .noRoom(needed: 300_000, free: 299_999))
        XCTAssertEqual(server.transfers.count, 0)
        _ = try await finished(manager(server, free: 300_000).download(source()))
    }

    func testADiskThatIsFullMeanwhile() async throws {
        #if os(Linux)
        let file = hubFile(noise(300_000))
        let server = try TestServer { request, _ in file.answer(request) }
        let downloads = try manager(server)
        // Every write to this device fails as on a full disk.
        let part = try DownloadFolder(folder).part("owner--model")
        try FileManager.default.createSymbolicLink(atPath: part.path, withDestinationPath: "/dev/full")
        let error = await failure(await downloads.download(try source()))
        guard case let .noRoom(needed, _) = error as? DownloadError else {
            return XCTFail("\(String(describing: error))")
        }
        XCTAssertEqual(needed, 300_000)
        #endif
    }
}

/// True for so many calls.
final class Countdown: @unchecked Sendable {
    private let lock = NSLock()
    private var rest: Int

    init(_ count: Int) { rest = count }

    func next() -> Bool {
        lock.lock()
        defer { lock.unlock() }
        rest -= 1
        return rest >= 0
    }
}
