import Foundation
import ThimbleDownloads

/// A model that the app offers to download.
public struct Offer: Sendable, Equatable {
    /// Where it lies.
    public let source: ModelSource
    /// What the screen calls it.
    public let title: String
    /// About the bytes of its file.
    public let bytes: Int64
}

/// The models that the app offers to download.
public struct Catalogue: Sendable, Equatable {
    /// The offers, in the order of the screen.
    public let offers: [Offer]

    /// Nothing to offer.
    public static let empty = Catalogue(offers: [])

    init(offers: [Offer]) { self.offers = offers }

    /// Reads `catalogue.json`: the address of a folder on a server, and its models with their SHA-256. The files are called
    /// as `thimble pull` calls them. Without an address nothing is offered.
    ///
    /// - Throws: A `DecodingError`, or ``ThimbleDownloads/DownloadError`` for an invalid address or checksum.
    public init(_ json: Data) throws {
        struct Entry: Decodable {
            let name: String
            let title: String
            let bytes: Int64
            let sha256: String
        }
        struct File: Decodable {
            let folder: String
            let models: [Entry]
        }
        let file = try JSONDecoder().decode(File.self, from: json)
        guard !file.folder.isEmpty else {
            offers = []
            return
        }
        offers = try file.models.map { entry in
            let stem = entry.name.replacingOccurrences(of: "/", with: "--")
            guard let folder = URL(string: file.folder) else {
                throw DownloadError.invalidSource(reason: "expected the address of a folder, found \"\(file.folder)\"")
            }
            let url = folder.appendingPathComponent("\(stem).thimble")
            return Offer(
                source: try .url(url, sha256: entry.sha256, name: entry.name), title: entry.title, bytes: entry.bytes)
        }
    }
}
