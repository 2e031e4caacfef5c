import Foundation
#if canImport(Darwin)
// Declares the task's port as a variable, which nobody changes.
@preconcurrency import Darwin
#endif
#if os(iOS)
import os
#endif

/// Figures of the app's memory.
public enum Memory {
    /// Bytes that count towards the app's limit on iOS; resident bytes on Linux.
    public static func used() -> UInt64? {
        #if canImport(Darwin)
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<integer_t>.size)
        let result = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        return result == KERN_SUCCESS ? info.phys_footprint : nil
        #else
        guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        let kilobytes = line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { UInt64($0) }
        return kilobytes.map { $0 * 1024 }
        #endif
    }

    /// Bytes that a model may take before the system ends the app: what iOS still grants, or half of the device's
    /// memory.
    public static func budget() -> UInt64 {
        #if os(iOS)
        let free = UInt64(os_proc_available_memory())
        if free > 0 { return free }
        #endif
        return ProcessInfo.processInfo.physicalMemory / 2
    }
}
