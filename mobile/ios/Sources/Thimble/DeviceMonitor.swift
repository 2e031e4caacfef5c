import Foundation
#if canImport(Darwin)
import Darwin
#endif

/// What the device asks of work that can take its time.
public struct DeviceConditions: Sendable, Equatable {
    /// The device is so hot that the system slows it down.
    public var isHot: Bool
    /// The user has asked to spare the battery.
    public var isLowOnPower: Bool

    /// Conditions as given.
    public init(isHot: Bool = false, isLowOnPower: Bool = false) {
        self.isHot = isHot
        self.isLowOnPower = isLowOnPower
    }

    /// Whether to work with fewer threads.
    public var shouldSavePower: Bool { isHot || isLowOnPower }

    /// What the system says now; good conditions where it says nothing (Linux).
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

/// What happens to the device.
public enum DeviceEvent: Sendable, Equatable {
    /// It has become hot or low on power, or is so no more.
    case conditions(DeviceConditions)
    /// Other apps need memory, or this one has too much of it.
    case memoryIsShort
}

/// Tells chats what the system tells the app: heat, low-power mode, and that memory is short.
///
/// On Apple's systems it hears that by itself. ``report(_:)`` is for what only the app hears, such as
/// `UIApplication.didReceiveMemoryWarningNotification`, and for tests.
public final class DeviceMonitor: @unchecked Sendable {
    /// Hears an event; whether it wants to hear the next one.
    public typealias Observer = @Sendable (DeviceEvent) -> Bool

    /// Guards what follows.
    private let lock = NSLock()
    private var observers: [Int: Observer] = [:]
    private var observed = 0
    private var latest = DeviceConditions.current
    private var stopListening: [() -> Void] = []

    /// A monitor that listens until it is let go of.
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

    /// The conditions that were reported last.
    public var conditions: DeviceConditions { locked { latest } }

    /// Lets `chat` work with fewer threads under bad conditions, from now on, and give memory back when it is short:
    /// at once where it is not answering or paused, otherwise after its answer. The monitor does not keep the chat alive.
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

    /// Tells `observer` the conditions now, and every event from now on, for as long as it says `true`.
    public func observe(_ observer: @escaping Observer) {
        guard observer(.conditions(conditions)) else { return }
        locked {
            observed += 1
            observers[observed] = observer
        }
    }

    /// Tells everyone.
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
