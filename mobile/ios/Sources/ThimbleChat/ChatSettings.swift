import Foundation
import Thimble

/// What the user may choose.
public struct ChatSettings: Codable, Sendable, Equatable {
    /// When to work with fewer threads.
    public enum PowerSaver: String, Codable, Sendable, CaseIterable {
        /// While the device is hot or in low-power mode.
        case automatic
        /// Always.
        case on
        /// Never.
        case off
    }

    /// 0 always takes the likeliest token; higher is more varied.
    public var temperature = 0.2
    /// Instructions in front of a new chat; none where empty.
    public var systemPrompt = ""
    /// Longest answer in tokens.
    public var maxTokens = 1024
    /// When to work with fewer threads.
    public var powerSaver = PowerSaver.automatic
    /// Keys and values as bytes: half the memory.
    public var smallCache = false
    /// The name of the model; if it is missing, the one imported last is used.
    public internal(set) var model: String?

    /// Temperatures to choose from.
    public static let temperatures = 0.0...1.5
    /// Lengths to choose from, in tokens.
    public static let lengths = [128, 256, 512, 1024, 2048]

    /// As they are at first.
    public init() {}

    /// How to open a model, in at most so many bytes.
    func modelOptions(budget: UInt64?) -> ModelOptions {
        ModelOptions(budgetBytes: budget, kvCache: smallCache ? .q8 : .f16)
    }

    /// How to begin a chat.
    var chatOptions: ChatOptions {
        let temperature = min(max(temperature, Self.temperatures.lowerBound), Self.temperatures.upperBound)
        let trimmed = systemPrompt.trimmingCharacters(in: .whitespacesAndNewlines)
        return ChatOptions(
            system: trimmed.isEmpty ? nil : trimmed,
            sampling: Sampling(temperature: Float(temperature)),
            maxTokens: UInt32(clamping: max(maxTokens, 1))
        )
    }

    /// Whether to spare power under such conditions.
    func savesPower(_ conditions: DeviceConditions) -> Bool {
        switch powerSaver {
        case .automatic: return conditions.shouldSavePower
        case .on: return true
        case .off: return false
        }
    }

    /// Settings from a file; the defaults if it is missing or cannot be read.
    static func read(_ url: URL) -> ChatSettings {
        guard let data = try? Data(contentsOf: url) else { return ChatSettings() }
        return (try? JSONDecoder().decode(ChatSettings.self, from: data)) ?? ChatSettings()
    }

    /// Writes the file, atomically.
    func write(_ url: URL) throws {
        try JSONEncoder().encode(self).write(to: url, options: .atomic)
    }
}
