import Foundation
@testable import ThimbleDownloads
import XCTest

/// A download, as the README shows it: `check.sh` compares the two.
final class ReadmeTests: DownloadTestCase {
    func testADownload() async throws {
        let file = hubFile(noise(300_000))
        let server = try TestServer { request, _ in file.answer(request) }
        let modelsFolder = folder
        let options = DownloadOptions(endpoint: server.url)
        var shown: [String] = []
        func show(_ text: String) { shown.append(text) }
        // README begin
        let downloads = try ModelDownloads(folder: modelsFolder, options: options)
        await downloads.restore()
        let source = try ModelSource.hub("owner/model", file: "model.thimble")
        for try await event in await downloads.download(source) {
            switch event {
            case let .progress(received, total): show("\(received) of \(total) bytes")
            case .checking: show("comparing the checksum")
            case .paused: show("paused")
            case let .finished(url): show("the model is at \(url.path)")
            }
        }
        // README end
        XCTAssertEqual(shown.last, "the model is at \(folder.path)/owner--model.thimble")
    }
}
