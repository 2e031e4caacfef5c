import Foundation

/// Dates in answers: ISO 8601 in UTC with whole seconds, such as `2025-12-24T18:30:00Z`.
enum SchemaDate {
    static let schema = JSONSchema.string(
        pattern: "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$")

    /// The date of a text that has the pattern. A day that its month lacks is one of the next month, so that every answer
    /// of the form is a date.
    static func date(_ text: String) -> Date? {
        let numbers = text.split { !$0.isASCII || !$0.isNumber }.compactMap { Int($0) }
        guard numbers.count == 6, text.utf8.count == 20, let utc = TimeZone(secondsFromGMT: 0) else { return nil }
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = utc
        return calendar.date(
            from: DateComponents(
                year: numbers[0], month: numbers[1], day: numbers[2], hour: numbers[3], minute: numbers[4],
                second: numbers[5]))
    }

    /// Decodes a date as ``date(_:)``.
    @Sendable
    static func decode(_ decoder: any Decoder) throws -> Date {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let date = date(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "expected a date such as 2025-12-24T18:30:00Z, found \(text)")
        }
        return date
    }
}
