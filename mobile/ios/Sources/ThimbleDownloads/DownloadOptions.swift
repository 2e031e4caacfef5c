import Foundation

/// How models are downloaded.
public struct DownloadOptions: Sendable {
    /// What carries the bytes.
    public enum Carrier: Sendable, Equatable {
        /// A session of this process: the download pauses when the system suspends the app.
        case foreground
        /// The system's own session with an identifier that no other session of the app has: downloads continue while
        /// the app is suspended or gone. On Apple's systems only.
        case background(identifier: String)
    }

    /// What carries the bytes.
    public var carrier: Carrier
    /// Whether a model may be downloaded over cellular and other metered networks. The question for a file's size, about
    /// a kilobyte, always may.
    public var allowsCellular: Bool
    /// Whether the system may wait for power and Wi-Fi (background only).
    public var isDiscretionary: Bool
    /// The hub's address.
    public var endpoint: URL
    /// An access token of the hub's, for private and gated repositories. It is sent to the hub only, and never stored.
    public var token: String?
    /// The pause before the first retry, in nanoseconds; it doubles with each one. Tests have less time.
    var retryPause: UInt64 = 200_000_000

    /// The default address of the Hugging Face hub.
    public static let defaultEndpoint = URL(string: "https://huggingface.co") ?? URL(fileURLWithPath: "/")

    /// Downloads over Wi-Fi only.
    public init(
        carrier: Carrier = .foreground, allowsCellular: Bool = false, isDiscretionary: Bool = false,
        endpoint: URL = DownloadOptions.defaultEndpoint, token: String? = nil
    ) {
        self.carrier = carrier
        self.allowsCellular = allowsCellular
        self.isDiscretionary = isDiscretionary
        self.endpoint = endpoint
        self.token = token
    }
}

/// What happens while a model is downloaded: progress, and then one end.
public enum DownloadEvent: Sendable, Equatable {
    /// Bytes on the disk, and bytes of the whole file.
    case progress(received: Int64, total: Int64)
    /// All bytes are there, and their checksum is computed.
    case checking
    /// The model is in place; the end of the stream.
    case finished(URL)
    /// ``ModelDownloads/pause(_:)`` stopped it and kept its bytes; the end of the stream.
    case paused
}

/// A download that is not complete.
public struct UnfinishedDownload: Sendable, Equatable, Identifiable {
    /// What is downloaded.
    public let source: ModelSource
    /// Bytes on the disk.
    public let received: Int64
    /// Bytes of the whole file, once they are known.
    public let total: Int64?
    /// Whether it is in progress now.
    public let isRunning: Bool
    /// The model's name.
    public var id: String { source.name }

    /// A download as given.
    public init(source: ModelSource, received: Int64, total: Int64?, isRunning: Bool) {
        self.source = source
        self.received = received
        self.total = total
        self.isRunning = isRunning
    }
}
