import Foundation

/// The storage of the device.
public enum Storage {
    /// Bytes that the system has on the volume of `url` for something the user asks for; nil where it does not say.
    public static func freeBytes(at url: URL) -> Int64? {
        #if canImport(Darwin)
        let values = try? url.resourceValues(forKeys: [.volumeAvailableCapacityForImportantUsageKey])
        // A volume that does not know reports zero, too.
        return values?.volumeAvailableCapacityForImportantUsage.flatMap { $0 > 0 ? $0 : nil }
        #else
        let attributes = try? FileManager.default.attributesOfFileSystem(forPath: url.path)
        return (attributes?[.systemFreeSize] as? NSNumber)?.int64Value
        #endif
    }

    /// Keeps a file or folder out of backups: a model can be had again, and is too large for one.
    public static func excludeFromBackup(_ url: URL) {
        #if canImport(Darwin)
        var url = url
        var values = URLResourceValues()
        values.isExcludedFromBackup = true
        try? url.setResourceValues(values)
        #endif
    }

    /// Bytes of a file; 0 where there is none.
    static func bytes(of url: URL) -> Int64 {
        let attributes = try? FileManager.default.attributesOfItem(atPath: url.path)
        return (attributes?[.size] as? NSNumber)?.int64Value ?? 0
    }
}
