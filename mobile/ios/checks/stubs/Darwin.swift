// Stand-in for Apple's module of this name, for `check.sh`: what the package uses between `#if canImport(Darwin)` and
// `#else`, as Apple documents it, without any body. With it that code is compiled on Linux too.

import Dispatch
import Foundation
import FoundationNetworking

func absent<Value>() -> Value { fatalError("a stand-in") }

// Of Foundation on Apple's systems.
extension ProcessInfo {
    public enum ThermalState: Int, Sendable { case nominal, fair, serious, critical }
    public var thermalState: ThermalState { absent() }
    public var isLowPowerModeEnabled: Bool { absent() }
    public static var thermalStateDidChangeNotification: NSNotification.Name { absent() }
}
extension NSNotification.Name {
    public static var NSProcessInfoPowerStateDidChange: NSNotification.Name { absent() }
}
extension URL {
    public func startAccessingSecurityScopedResource() -> Bool { absent() }
    public func stopAccessingSecurityScopedResource() {}
}
extension URLResourceKey {
    public static var volumeAvailableCapacityForImportantUsageKey: URLResourceKey { absent() }
}
extension URLResourceValues {
    public var volumeAvailableCapacityForImportantUsage: Int64? { absent() }
}
extension URLSessionConfiguration {
    public static func background(withIdentifier identifier: String) -> URLSessionConfiguration { absent() }
    public var sessionSendsLaunchEvents: Bool {
        get { absent() }
        set {}
    }
    public var allowsExpensiveNetworkAccess: Bool {
        get { absent() }
        set {}
    }
    public var allowsConstrainedNetworkAccess: Bool {
        get { absent() }
        set {}
    }
}
extension URLSession {
    public var allTasks: [URLSessionTask] { get async { absent() } }
}
public let NSURLSessionDownloadTaskResumeData = "NSURLSessionDownloadTaskResumeData"
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result { try body() }

// Of Dispatch.
public protocol DispatchSourceMemoryPressure: DispatchSourceProtocol {}
extension DispatchSource {
    public struct MemoryPressureEvent: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let warning = MemoryPressureEvent(rawValue: 2)
        public static let critical = MemoryPressureEvent(rawValue: 4)
    }
    public class func makeMemoryPressureSource(
        eventMask: MemoryPressureEvent, queue: DispatchQueue? = nil
    ) -> any DispatchSourceMemoryPressure { absent() }
}

// Of the kernel.
public typealias integer_t = Int32
public typealias natural_t = UInt32
public typealias kern_return_t = Int32
public typealias mach_port_t = UInt32
public typealias task_flavor_t = natural_t
public typealias mach_msg_type_number_t = natural_t
public typealias task_info_t = UnsafeMutablePointer<integer_t>
public struct task_vm_info_data_t {
    public init() {}
    public var phys_footprint: UInt64 { absent() }
}
public let TASK_VM_INFO: Int32 = 22
public let KERN_SUCCESS: Int32 = 0
public var mach_task_self_: mach_port_t = 0
public func task_info(
    _ target: mach_port_t, _ flavor: task_flavor_t, _ out: task_info_t!,
    _ count: UnsafeMutablePointer<mach_msg_type_number_t>!
) -> kern_return_t { absent() }
