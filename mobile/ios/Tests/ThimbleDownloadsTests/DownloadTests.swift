import Foundation
@testable import ThimbleDownloads
import XCTest

/// Downloads as apps ask for them.
final class DownloadTests: DownloadTestCase {
    func testAModelOfTheHub() async throws {
        let data = noise(700_001)
        let file = hubFile(data)
        let server = try TestServer { request, _ in file.answer(request) }
        let downloads = try manager(server)
        var received: [Int64] = []
        var last: DownloadEvent?
        for try await event in await downloads.download(try source()) {
            if case let .progress(now, total) = event {
                XCTAssertEqual(total, 700_001)
                received.append(now)
            }
            last = event
        }
        let url = folder.appendingPathComponent("owner--model.thimble")
        XCTAssertEqual(last, .finished(url), "the name of `thimble pull`")
        XCTAssertEqual(try Data(contentsOf: url), data)
        XCTAssertEqual(received, received.sorted())
        XCTAssertEqual(files(), ["owner--model.thimble"])
        XCTAssertEqual(
            server.requests.map(\.path),
            ["/owner/model/resolve/main/model.thimble", "/owner/model/resolve/c0ffee/model.thimble"],
            "the bytes are those of a commit")
        XCTAssertEqual(server.requests.map { $0.fields["accept-encoding"] }, ["identity", "identity"])
        let models = await downloads.models()
        XCTAssertEqual(models, [DownloadedModel(name: "owner/model", url: url, bytes: 700_001)])
        let unfinished = await downloads.unfinished()
        XCTAssertEqual(unfinished, [])

        let again = try await all(downloads.download(source()))
        XCTAssertEqual(again, [.finished(url)])
        XCTAssertEqual(server.requests.count, 2, "a model that is there is not requested")
        try await downloads.delete("owner/model")
        XCTAssertEqual(files(), [])
    }

    func testAFileOfAnyServer() async throws {
        let data = noise(100_000)
        let file = ServedFile(data: data, etag: nil, commit: nil)
        let server = try TestServer { request, _ in file.answer(request) }
        let downloads = try manager(server)
        let address = server.url.appendingPathComponent("files/tiny.thimble")
        let source = try ModelSource.url(address, sha256: digest(data).uppercased())
        let url = try await finished(downloads.download(source))
        XCTAssertEqual(url.lastPathComponent, "tiny.thimble")
        XCTAssertEqual(try Data(contentsOf: url), data)
    }

    func testADownloadIsPausedAndContinues() async throws {
        let data = noise(400_000)
        let file = hubFile(data)
        let server = try TestServer { request, number in
            var response = file.answer(request)
            if number == 1 { response.pause = 0.02 }
            return response
        }
        let downloads = try manager(server)
        var end: DownloadEvent?
        for try await event in await downloads.download(try source()) {
            if case let .progress(received, _) = event, received > 0 {
                Task { await downloads.pause("owner/model") }
            }
            end = event
        }
        XCTAssertEqual(end, .paused)
        let unfinished = await downloads.unfinished()
        XCTAssertEqual(unfinished.map(\.isRunning), [false])
        let kept = try XCTUnwrap(unfinished.first?.received)
        XCTAssertTrue((1..<400_000).contains(kept), "\(kept)")
        await downloads.restore()
        let afterwards = await downloads.unfinished()
        XCTAssertEqual(afterwards.map(\.isRunning), [false], "who pauses waits for the user")

        let url = try await finished(downloads.download(source()))
        XCTAssertEqual(try Data(contentsOf: url), data)
        XCTAssertEqual(server.transfers.map(\.rangeStart), [nil, Int(kept)])
    }

    func testADeletedDownloadLeavesNothing() async throws {
        let file = hubFile(noise(400_000))
        let server = try TestServer { request, _ in
            var response = file.answer(request)
            response.pause = 0.02
            return response
        }
        let downloads = try manager(server)
        do {
            for try await event in await downloads.download(try source()) {
                if case let .progress(received, _) = event, received > 0 {
                    Task { try await downloads.delete("owner/model") }
                }
            }
            XCTFail("expected an error")
        } catch {
            XCTAssertTrue(error is CancellationError, "\(error)")
        }
        let unfinished = await downloads.unfinished()
        XCTAssertEqual(unfinished, [])
        try await downloads.delete("owner/model")
        XCTAssertEqual(files(), [])
    }

    func testTwoWhoWantOneModelShareADownload() async throws {
        let data = noise(300_000)
        let file = hubFile(data)
        let server = try TestServer { request, _ in
            var response = file.answer(request)
            response.pause = 0.005
            return response
        }
        let downloads = try manager(server)
        let source = try source()
        async let first = finished(downloads.download(source))
        async let second = finished(downloads.download(source))
        let urls = try await [first, second]
        XCTAssertEqual(urls[0], urls[1])
        XCTAssertEqual(server.requests.count, 2)
        XCTAssertEqual(try Data(contentsOf: urls[0]), data)
    }

    func testTwoModelsAtOnce() async throws {
        let data = [noise(300_000, seed: 1), noise(200_000, seed: 2)]
        let files = data.map(hubFile)
        let server = try TestServer { request, _ in files[request.path.contains("first") ? 0 : 1].answer(request) }
        let downloads = try manager(server)
        async let first = finished(downloads.download(ModelSource.hub("owner/first", file: "m.thimble")))
        async let second = finished(downloads.download(ModelSource.hub("owner/second", file: "m.thimble")))
        let urls = try await [first, second]
        XCTAssertEqual(try urls.map { try Data(contentsOf: $0) }, data)
        XCTAssertEqual(self.files(), ["owner--first.thimble", "owner--second.thimble"])
    }

    func testAnotherSourceDoesNotTakeADownloadOver() async throws {
        let server = try TestServer { _, _ in ServerResponse(status: 404) }
        let downloads = try manager(server)
        _ = await failure(await downloads.download(try source("mine")))
        let other = try ModelSource.hub("owner/other", file: "model.thimble", name: "mine")
        let error = await failure(await downloads.download(other))
        XCTAssertEqual(error as? DownloadError, .nameTaken(name: "mine"))
        try await downloads.delete("mine")
        let refused = await failure(await downloads.download(other))
        guard case .refused = refused as? DownloadError else { return XCTFail("\(String(describing: refused))") }
    }

    func testALaunchContinuesWhatWasInProgress() async throws {
        let data = noise(600_000)
        let file = hubFile(data)
        let server = try TestServer { request, number in
            var response = file.answer(request)
            if number == 1, !request.isQuestion { response.closesAfter = 200_000 }
            if number > 1, !request.isQuestion { response.status = 503 }
            return response
        }
        // The first process loses its connection, the server then refuses, and the app ends.
        func firstLaunch() async throws {
            let downloads = try manager(server)
            let error = await failure(await downloads.download(try source()))
            guard case let .interrupted(_, _, kept) = error as? DownloadError else {
                return XCTFail("\(String(describing: error))")
            }
            XCTAssertEqual(kept, 200_000)
        }
        try await firstLaunch()
        server.answer { request, _ in file.answer(request) }
        let downloads = try manager(server)
        await downloads.restore()
        let unfinished = await downloads.unfinished()
        XCTAssertEqual(unfinished.map(\.source), [try source()])
        XCTAssertEqual(unfinished.map(\.isRunning), [true])
        XCTAssertEqual(unfinished.first?.total, 600_000)
        let url = try await finished(downloads.download(source()))
        XCTAssertEqual(try Data(contentsOf: url), data)
        XCTAssertEqual(server.transfers.last?.rangeStart, 200_000)
    }

    func testAPartThatIsCompleteNeedsNoServer() async throws {
        let data = noise(50_000)
        let file = hubFile(data)
        let server = try TestServer { request, _ in file.answer(request) }
        // As the system leaves it when it downloads while the app is gone.
        let remote = RemoteFile(
            address: server.url, storage: server.url, etag: file.etag, bytes: 50_000, sha256: digest(data))
        let place = try DownloadFolder(folder)
        try place.write(DownloadRecord(source: source(), remote: remote))
        try data.write(to: place.part("owner--model"))
        let downloads = try manager(server)
        await downloads.finishBackgroundEvents()
        XCTAssertEqual(files(), ["owner--model.thimble"])
        XCTAssertEqual(server.requests.count, 0)
    }

    func testTheAppsOwnCheck() async throws {
        struct NotAModel: Error {}
        let file = hubFile(noise(50_000))
        let server = try TestServer { request, _ in file.answer(request) }
        let downloads = try manager(server, check: { _ in throw NotAModel() })
        let error = await failure(await downloads.download(try source()))
        XCTAssertTrue(error is NotAModel, "\(String(describing: error))")
        XCTAssertEqual(files(), [".downloads/owner--model.json"], "the file is deleted, what was asked for is not")
    }

    func testThereAreNoBackgroundDownloadsHere() throws {
        #if os(Linux)
        let options = DownloadOptions(carrier: .background(identifier: "models"))
        XCTAssertThrowsError(try ModelDownloads(folder: folder, options: options)) { error in
            guard case .invalidSource = error as? DownloadError else { return XCTFail("\(error)") }
        }
        #endif
    }
}
