// Stand-in for Apple's module of this name, for `check.sh`: what the package uses of it, as Apple documents it, without
// any body.

import Foundation

public struct SHA256Digest: Sequence, Sendable {
    public func makeIterator() -> Array<UInt8>.Iterator { fatalError("a stand-in") }
}
public struct SHA256: Sendable {
    public init() {}
    public mutating func update<Bytes: DataProtocol>(data: Bytes) {}
    public func finalize() -> SHA256Digest { fatalError("a stand-in") }
}
