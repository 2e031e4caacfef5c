import Foundation

/// A type that says itself which JSON values it is decoded from. Types without it are examined, see
/// ``JSONSchema/init(of:)``.
public protocol SchemaDescribed: Decodable {
    /// The schema of the values that `init(from:)` accepts.
    static var schema: JSONSchema { get }
}

/// A JSON Schema (draft 2020-12) of answers or of a tool's arguments. A model writes properties in their order here.
public struct JSONSchema: Sendable, Equatable {
    /// A property of an object.
    struct Property: Sendable, Equatable {
        let name: String
        var schema: JSONSchema
        var isRequired: Bool
    }

    /// What a value is.
    indirect enum Kind: Sendable, Equatable {
        /// Keywords with their values in JSON.
        case plain([Keyword])
        case object([Property])
        case dictionary(JSONSchema)
        case array(JSONSchema, [Keyword])
        case either([JSONSchema])
    }

    /// A keyword with its value in JSON.
    struct Keyword: Sendable, Equatable {
        let name: String
        let json: String
    }

    var kind: Kind
    var text: String?

    /// The largest integer that every JSON reader keeps exact (RFC 7493, section 2.2).
    public static let largestInteger = 9_007_199_254_740_991

    // MARK: - Values

    /// Any string, or one with a length in characters, a pattern or a format such as `date-time`.
    public static func string(
        length: ClosedRange<Int>? = nil, pattern: String? = nil, format: String? = nil
    ) -> JSONSchema {
        var keywords = [Keyword(name: "type", json: "\"string\"")]
        if let length {
            keywords.append(Keyword(name: "minLength", json: "\(length.lowerBound)"))
            keywords.append(Keyword(name: "maxLength", json: "\(length.upperBound)"))
        }
        if let pattern { keywords.append(Keyword(name: "pattern", json: quoted(pattern))) }
        if let format { keywords.append(Keyword(name: "format", json: quoted(format))) }
        return JSONSchema(kind: .plain(keywords))
    }

    /// An integer within a range; without one, within ±``largestInteger``.
    public static func integer(in range: ClosedRange<Int> = -largestInteger...largestInteger) -> JSONSchema {
        numeric("integer", "\(range.lowerBound)", "\(range.upperBound)")
    }

    /// A number within a range; without one, within ±``largestInteger``, so that every value fits a `Double`.
    public static func number(
        in range: ClosedRange<Double> = -Double(largestInteger)...Double(largestInteger)
    ) -> JSONSchema {
        // A bound beyond every number is none.
        let bound = { (value: Double) in value.isFinite ? json(value) : json(value < 0 ? -1e300 : 1e300) }
        return numeric("number", bound(range.lowerBound), bound(range.upperBound))
    }

    /// `true` or `false`.
    public static let boolean = JSONSchema(kind: .plain([Keyword(name: "type", json: "\"boolean\"")]))

    /// `null`.
    static let null = JSONSchema(kind: .plain([Keyword(name: "type", json: "\"null\"")]))

    /// One of these strings.
    public static func choices(_ choices: [String]) -> JSONSchema {
        JSONSchema(kind: .plain([Keyword(name: "enum", json: "[\(choices.map(quoted).joined(separator: ","))]")]))
    }

    /// A list, or one with a number of items.
    public static func array(of items: JSONSchema, count: ClosedRange<Int>? = nil) -> JSONSchema {
        let bounds = count.map {
            [Keyword(name: "minItems", json: "\($0.lowerBound)"), Keyword(name: "maxItems", json: "\($0.upperBound)")]
        }
        return JSONSchema(kind: .array(items, bounds ?? []))
    }

    /// An object with these properties in this order, and no others. Those that `optional` names may be missing.
    public static func object(
        _ properties: KeyValuePairs<String, JSONSchema>, optional: Set<String> = []
    ) -> JSONSchema {
        JSONSchema(
            kind: .object(
                properties.map { Property(name: $0.key, schema: $0.value, isRequired: !optional.contains($0.key)) }))
    }

    /// An object with properties of any names.
    public static func dictionary(of values: JSONSchema) -> JSONSchema { JSONSchema(kind: .dictionary(values)) }

    /// A value of one of these kinds.
    public static func either(_ schemas: [JSONSchema]) -> JSONSchema { JSONSchema(kind: .either(schemas)) }

    // MARK: - Changes

    /// The same schema with a sentence about the value.
    public func described(_ text: String) -> JSONSchema {
        var schema = self
        schema.text = text
        return schema
    }

    /// The same object with another schema of one property, for what its Swift type does not tell. A property that the
    /// object lacks is added.
    public func with(_ name: String, _ schema: JSONSchema) -> JSONSchema {
        guard case var .object(properties) = kind else { return self }
        if let index = properties.firstIndex(where: { $0.name == name }) {
            properties[index].schema = schema
        } else {
            properties.append(Property(name: name, schema: schema, isRequired: true))
        }
        return JSONSchema(kind: .object(properties), text: text)
    }

    // MARK: - JSON

    /// The schema as JSON, with properties in their order.
    public var json: String {
        var keywords: [Keyword]
        switch kind {
        case let .plain(given): keywords = given
        case let .object(properties):
            let required = properties.filter(\.isRequired).map { Self.quoted($0.name) }
            let members = properties.map { "\(Self.quoted($0.name)):\($0.schema.json)" }
            keywords = [
                Keyword(name: "type", json: "\"object\""),
                Keyword(name: "properties", json: "{\(members.joined(separator: ","))}"),
                Keyword(name: "required", json: "[\(required.joined(separator: ","))]"),
                Keyword(name: "additionalProperties", json: "false"),
            ]
        case let .dictionary(values):
            keywords = [
                Keyword(name: "type", json: "\"object\""), Keyword(name: "additionalProperties", json: values.json),
            ]
        case let .array(items, bounds):
            keywords = [Keyword(name: "type", json: "\"array\""), Keyword(name: "items", json: items.json)] + bounds
        case let .either(schemas):
            keywords = [Keyword(name: "anyOf", json: "[\(schemas.map(\.json).joined(separator: ","))]")]
        }
        if let text { keywords.append(Keyword(name: "description", json: Self.quoted(text))) }
        return "{\(keywords.map { "\"\($0.name)\":\($0.json)" }.joined(separator: ","))}"
    }

    private static func numeric(_ type: String, _ least: String, _ most: String) -> JSONSchema {
        JSONSchema(
            kind: .plain([
                Keyword(name: "type", json: quoted(type)), Keyword(name: "minimum", json: least),
                Keyword(name: "maximum", json: most),
            ]))
    }

    /// A number in JSON; whole ones without a fraction.
    private static func json(_ value: Double) -> String {
        value.rounded() == value && abs(value) <= Double(largestInteger) ? "\(Int(value))" : "\(value)"
    }

    /// A string in JSON (RFC 8259, section 7).
    static func quoted(_ text: String) -> String {
        var json = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": json += "\\\""
            case "\\": json += "\\\\"
            case "\n": json += "\\n"
            case "\r": json += "\\r"
            case "\t": json += "\\t"
            case _ where scalar.value < 0x20: json += String(format: "\\u%04x", scalar.value)
            default: json.unicodeScalars.append(scalar)
            }
        }
        return json + "\""
    }
}
