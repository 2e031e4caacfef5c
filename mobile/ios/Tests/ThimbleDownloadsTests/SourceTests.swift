import Foundation
@testable import ThimbleDownloads
import XCTest

/// Names, addresses and checksums.
final class SourceTests: XCTestCase {
    func testAddressesOfTheHub() throws {
        let endpoint = DownloadOptions.defaultEndpoint
        let source = try ModelSource.hub("owner/model", file: "a b/c.thimble", revision: "refs/pr/1")
        XCTAssertEqual(source.name, "owner/model")
        XCTAssertEqual(source.stem, "owner--model")
        XCTAssertEqual(
            source.address(endpoint: endpoint)?.absoluteString,
            "https://huggingface.co/owner/model/resolve/refs%2Fpr%2F1/a%20b/c.thimble")
        let mirror = try XCTUnwrap(URL(string: "http://mirror:8080/"))
        XCTAssertEqual(
            source.address(endpoint: mirror, commit: "abc")?.absoluteString,
            "http://mirror:8080/owner/model/resolve/abc/a%20b/c.thimble")
    }

    func testWhatCannotBeASourceIsRefused() throws {
        let digest = String(repeating: "a", count: 64)
        let web = try XCTUnwrap(URL(string: "https://example.org/m.thimble"))
        let calls: [() throws -> ModelSource] = [
            { try .hub("model", file: "m.thimble") }, { try .hub("a/b/c", file: "m.thimble") },
            { try .hub("../b", file: "m.thimble") }, { try .hub("a/b", file: "../m.thimble") },
            { try .hub("a/b", file: "/m.thimble") }, { try .hub("a/b", file: "m.gguf") },
            { try .hub("a/b", file: "m.thimble", revision: "") }, { try .hub("a/b", file: "m.thimble", name: "../x") },
            { try .hub("a/b", file: "m.thimble", name: "") }, { try .hub("a/b", file: "m.thimble", sha256: "abc") },
            { try .url(URL(fileURLWithPath: "/m.thimble"), sha256: digest) }, { try .url(web, sha256: "") },
        ]
        for (number, call) in calls.enumerated() {
            XCTAssertThrowsError(try call(), "call \(number)") { error in
                guard case .invalidSource = error as? DownloadError else { return XCTFail("\(number): \(error)") }
            }
        }
        XCTAssertEqual(try ModelSource.url(web, sha256: digest).name, "m")
    }

    func testTheTokenIsForOneOrigin() throws {
        let hub = DownloadOptions.defaultEndpoint
        func same(_ text: String) -> Bool { URL(string: text).map { isSameOrigin(hub, $0) } ?? false }
        for url in ["https://huggingface.co/a", "https://HuggingFace.co:443/a?b"] { XCTAssertTrue(same(url), url) }
        for url in [
            "http://huggingface.co/a", "https://huggingface.co:444/a", "https://cdn.huggingface.co/a",
            "https://huggingface.co.example.org/a", "https://huggingface.co@example.org/a", "//huggingface.co/a",
        ] {
            XCTAssertFalse(same(url), url)
        }
        let plain = try XCTUnwrap(URL(string: "http://mirror"))
        XCTAssertTrue(isSameOrigin(plain, try XCTUnwrap(URL(string: "https://mirror/a"))))
        XCTAssertFalse(isSameOrigin(plain, try XCTUnwrap(URL(string: "https://mirror:8/a"))))
    }

    /// The examples of FIPS 180-4, and lengths around a block's.
    func testTheDigestIsThatOfTheStandard() async throws {
        XCTAssertEqual(
            digest(Data("abc".utf8)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        XCTAssertEqual(digest(Data()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertEqual(
            digest(Data("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8)),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
        for length in [55, 56, 63, 64, 65, 1000] {
            let data = Data(repeating: UInt8(ascii: "a"), count: length)
            var inPieces = SHA256()
            for byte in data { inPieces.update(data: Data([byte])) }
            XCTAssertEqual(inPieces.finalize().map { String(format: "%02x", $0) }.joined(), digest(data))
        }
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("thimble-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: file) }
        // A million letters: the third example.
        try Data(repeating: UInt8(ascii: "a"), count: 1_000_000).write(to: file)
        let found = try await sha256(of: file)
        XCTAssertEqual(found, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }

    func testErrorsAreSentences() {
        XCTAssertEqual(
            DownloadError.noRoom(needed: 200_000_001, free: 100_999_999).localizedDescription,
            "The model takes 201 MB more of storage, and 100 MB are free: delete something and try again.")
        XCTAssertEqual(
            DownloadError.unreachable(host: "huggingface.co", reason: "offline").localizedDescription,
            "huggingface.co cannot be reached (offline). Try again later.")
    }
}
