import Foundation
#if canImport(Darwin)
import Darwin
#endif

/// Conditions under which work should spare the device.
public struct DeviceConditions: Sendable, Equatable {
    /// The device is so hot that the system slows it down.
    public var isHot: Bool
    /// Low-power mode is on.
    public var isLowOnPower: Bool

    /// Conditions as given.
    public init(isHot: Bool = false, isLowOnPower: Bool = false) {
        self.isHot = isHot
        self.isLowOnPower = isLowOnPower
    }

    /// Whether to work with fewer threads.
    public var shouldSavePower: Bool { isHot || isLowOnPower }

    /// The current conditions; good ones where the system reports none (Linux).
    public static var current: DeviceConditions {
        #if canImport(Darwin)
        let process = ProcessInfo.processInfo
        let isHot = process.thermalState == .serious || process.thermalState == .critical
        return DeviceConditions(isHot: isHot, isLowOnPower: process.isLowPowerModeEnabled)
        #else
        return DeviceConditions()
        #endif
    }
}

/// A change of the device's state.
public enum DeviceEvent: Sendable, Equatable {
    /// It has become hot or low on power, or has recovered.
    case conditions(DeviceConditions)
    /// Memory is short, or this app uses too much of it.
    case memoryIsShort
}

/// Passes the system's notices to chats: heat, low-power mode, short memory.
///
/// On Apple's systems it receives them by itself. ``report(_:)`` is for those that only the app receives, such as
/// `UIApplication.didReceiveMemoryWarningNotification`, and for tests.
public final class DeviceMonitor: @unchecked Sendable {
    /// Receives an event and returns whether it wants the next one.
    public typealias Observer = @Sendable (DeviceEvent) -> Bool

    /// Guards the properties below.
    private let lock = NSLock()
    private var observers: [Int: Observer] = [:]
    private var observed = 0
    private var latest = DeviceConditions.current
    private var stopListening: [() -> Void] = []

    /// Starts a monitor, which listens until it is released.
    public init() {
        #if canImport(Darwin)
        let center = NotificationCenter.default
        for name in [ProcessInfo.thermalStateDidChangeNotification, .NSProcessInfoPowerStateDidChange] {
            let token = center.addObserver(forName: name, object: nil, queue: nil) { [weak self] _ in
                self?.report(.conditions(.current))
            }
            stopListening.append { center.removeObserver(token) }
        }
        let pressure = DispatchSource.makeMemoryPressureSource(eventMask: [.warning, .critical], queue: .global())
        pressure.setEventHandler { [weak self] in self?.report(.memoryIsShort) }
        pressure.activate()
        stopListening.append { pressure.cancel() }
        #endif
    }

    deinit {
        for stop in stopListening { stop() }
    }

    /// The conditions reported last.
    public var conditions: DeviceConditions { locked { latest } }

    /// From now on makes `chat` work with fewer threads under bad conditions and give memory back when it is short: at
    /// once if it is idle or paused, otherwise after its answer. The monitor does not keep the chat alive.
    public func watch(_ chat: Chat) {
        observe { [weak chat] event in
            guard let chat else { return false }
            switch event {
            case let .conditions(conditions): chat.savePower(conditions.shouldSavePower)
            case .memoryIsShort: chat.freeMemory()
            }
            return true
        }
    }

    /// Passes `observer` the current conditions and every later event, while it returns `true`.
    public func observe(_ observer: @escaping Observer) {
        guard observer(.conditions(conditions)) else { return }
        locked {
            observed += 1
            observers[observed] = observer
        }
    }

    /// Passes an event to all observers.
    public func report(_ event: DeviceEvent) {
        let observers = locked {
            if case let .conditions(conditions) = event { latest = conditions }
            return self.observers
        }
        for (number, observer) in observers where !observer(event) {
            locked { self.observers[number] = nil }
        }
    }

    private func locked<Value>(_ work: () -> Value) -> Value {
        lock.lock()
        defer { lock.unlock() }
        return work()
    }
}
