import Foundation

/// Why the schema of a Swift type is not known.
public struct SchemaError: Error, Sendable, Equatable, LocalizedError {
    /// The type, and what to do.
    public let reason: String
    /// A sentence for the developer.
    public var errorDescription: String? { reason }

    static func unknown(_ type: Any.Type, _ why: String) -> SchemaError {
        SchemaError(reason: "The schema of \(type) is not known: \(why). Conform it to SchemaDescribed.")
    }
}

extension JSONSchema {
    /// The schema of a Swift type: its own where it is ``SchemaDescribed``, otherwise what its `init(from:)` asks for.
    ///
    /// Known are `Codable` structures, `CaseIterable` enumerations of strings, optionals, lists, dictionaries with string
    /// keys, strings, Booleans, numbers, `Date` (ISO 8601 in UTC), `URL` and `UUID`. Properties that are optional may be missing.
    ///
    /// - Throws: ``SchemaError`` for a type that contains itself, or whose values are not known, such as an enumeration
    ///   with associated values.
    public init(of type: any Decodable.Type) throws {
        if let described = type as? any SchemaDescribed.Type {
            self = described.schema
        } else {
            self = try .derived(from: type)
        }
    }

    /// The schema of a Swift type from what its `init(from:)` asks for, for a ``SchemaDescribed`` type that refines it
    /// through ``with(_:_:)``.
    public static func derived(from type: any Decodable.Type) throws -> JSONSchema {
        func schema<Value: Decodable>(_ type: Value.Type) throws -> JSONSchema {
            try Probe(within: []).examine(type).schema
        }
        return try schema(type)
    }
}

/// Finds the schema of types, and a value of each: `init(from:)` goes on only with values that it accepts.
private struct Probe {
    /// Types that are being examined, outermost first.
    let within: [ObjectIdentifier]

    /// A schema, and a value that has it.
    typealias Sample<Value> = (schema: JSONSchema, value: Value)

    func sample<Value: Decodable>(_ type: Value.Type) throws -> Sample<Value> {
        let found = try examine(type)
        guard let described = type as? any SchemaDescribed.Type else { return found }
        return (described.schema, found.value)
    }

    func examine<Value: Decodable>(_ type: Value.Type) throws -> Sample<Value> {
        if let known = Known.all[ObjectIdentifier(type)], let value = known.value as? Value {
            return (known.schema, value)
        }
        if let list = type as? any (CaseIterable & RawRepresentable).Type, let cases = choices(list, type) {
            return cases
        }
        if let dictionary = type as? any StringDictionary.Type, let value = dictionary.none as? Value {
            return (.dictionary(of: try schema(dictionary.valueType)), value)
        }
        guard type != Data.self else { throw SchemaError.unknown(type, "a model gives no binary data") }
        guard !within.contains(ObjectIdentifier(type)) else {
            throw SchemaError.unknown(type, "it contains itself")
        }
        let record = Record()
        let inner = ProbeDecoder(probe: Probe(within: within + [ObjectIdentifier(type)]), record: record)
        do {
            let value = try type.init(from: inner)
            return (try record.schema(of: type), value)
        } catch let error as SchemaError {
            throw error
        } catch {
            throw SchemaError.unknown(type, "its init(from:) accepts no value of the examination")
        }
    }

    func schema(_ type: any Decodable.Type) throws -> JSONSchema {
        func schema<Value: Decodable>(_ type: Value.Type) throws -> JSONSchema { try sample(type).schema }
        return try schema(type)
    }

    private func choices<List: CaseIterable & RawRepresentable, Value>(
        _ list: List.Type, _ type: Value.Type
    ) -> Sample<Value>? {
        let names = list.allCases.compactMap { $0.rawValue as? String }
        guard !names.isEmpty, names.count == list.allCases.count, let value = list.allCases.first as? Value else {
            return nil
        }
        return (.choices(names), value)
    }
}

/// Types whose JSON is settled.
private struct Known: @unchecked Sendable {
    let schema: JSONSchema
    /// One of the standard library's or Foundation's immutable values.
    let value: Any

    static let all: [ObjectIdentifier: Known] = {
        func exact(_ bits: Int, signed: Bool) -> JSONSchema {
            let most = bits >= 54 ? JSONSchema.largestInteger : 1 << bits - 1
            return .integer(in: (signed ? -most : 0)...most)
        }
        var all: [ObjectIdentifier: Known] = [
            ObjectIdentifier(Bool.self): Known(schema: .boolean, value: false),
            ObjectIdentifier(String.self): Known(schema: .string(), value: ""),
            ObjectIdentifier(Double.self): Known(schema: .number(), value: 0.0),
            ObjectIdentifier(Float.self): Known(schema: .number(), value: Float(0)),
            ObjectIdentifier(Decimal.self): Known(schema: .number(), value: Decimal(0)),
            ObjectIdentifier(Date.self): Known(schema: SchemaDate.schema, value: Date(timeIntervalSince1970: 0)),
            ObjectIdentifier(UUID.self): Known(schema: .string(format: "uuid"), value: UUID()),
        ]
        let integers: [(Any.Type, Int, Bool, Any)] = [
            (Int.self, 63, true, 0), (Int8.self, 7, true, Int8(0)), (Int16.self, 15, true, Int16(0)),
            (Int32.self, 31, true, Int32(0)), (Int64.self, 63, true, Int64(0)), (UInt.self, 64, false, UInt(0)),
            (UInt8.self, 8, false, UInt8(0)), (UInt16.self, 16, false, UInt16(0)),
            (UInt32.self, 32, false, UInt32(0)), (UInt64.self, 64, false, UInt64(0)),
        ]
        for (type, bits, signed, value) in integers {
            all[ObjectIdentifier(type)] = Known(schema: exact(bits, signed: signed), value: value)
        }
        if let url = URL(string: "https://example.org") {
            all[ObjectIdentifier(URL.self)] = Known(schema: .string(format: "uri"), value: url)
        }
        return all
    }()
}

/// A dictionary with string keys, whose keys no `init(from:)` tells.
private protocol StringDictionary {
    static var valueType: any Decodable.Type { get }
    static var none: Self { get }
}

extension Dictionary: StringDictionary where Key == String, Value: Decodable {
    static var valueType: any Decodable.Type { Value.self }
    static var none: [Key: Value] { [:] }
}

/// What an `init(from:)` has asked for.
private final class Record {
    private var properties: [JSONSchema.Property] = []
    private var optional: Set<String> = []
    private var items: JSONSchema?
    private var single: JSONSchema?
    private var mayBeNull = false
    private var isObject = false

    func openObject() { isObject = true }
    func mayLack(_ name: String) { optional.insert(name) }
    func allowNull() { mayBeNull = true }
    func note(item: JSONSchema) { items = items ?? item }
    func note(single schema: JSONSchema) { single = schema }

    func note(_ name: String, _ schema: JSONSchema) {
        guard !properties.contains(where: { $0.name == name }) else { return }
        properties.append(JSONSchema.Property(name: name, schema: schema, isRequired: !optional.contains(name)))
    }

    func schema(of type: Any.Type) throws -> JSONSchema {
        if isObject { return JSONSchema(kind: .object(properties)) }
        if let items { return .array(of: items) }
        guard let single else { throw SchemaError.unknown(type, "its init(from:) asks for nothing") }
        return mayBeNull ? .either([single, .null]) : single
    }
}

/// A decoder without input: it records what is asked for, and gives a value of it.
private struct ProbeDecoder: Decoder {
    let probe: Probe
    let record: Record
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedDecodingContainer<Key> {
        record.openObject()
        return KeyedDecodingContainer(KeyedProbe<Key>(decoder: self))
    }

    func unkeyedContainer() -> any UnkeyedDecodingContainer { UnkeyedProbe(decoder: self) }

    func singleValueContainer() -> any SingleValueDecodingContainer { self }

    fileprivate var unsupported: SchemaError {
        SchemaError(
            reason: "Nested containers and super decoders are not examined: conform the type to SchemaDescribed.")
    }
}

extension ProbeDecoder: SingleValueDecodingContainer {
    func decodeNil() -> Bool {
        record.allowNull()
        return false
    }

    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        let sample = try probe.sample(type)
        record.note(single: sample.schema)
        return sample.value
    }
}

private struct KeyedProbe<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let decoder: ProbeDecoder
    var codingPath: [any CodingKey] { [] }
    var allKeys: [Key] { [] }

    func contains(_ key: Key) -> Bool { true }

    // Asked only where a property may be missing.
    func decodeNil(forKey key: Key) -> Bool {
        decoder.record.mayLack(key.stringValue)
        return false
    }

    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
        let sample = try decoder.probe.sample(type)
        decoder.record.note(key.stringValue, sample.schema)
        return sample.value
    }

    func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<Nested> { throw decoder.unsupported }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer { throw decoder.unsupported }

    func superDecoder() throws -> any Decoder { throw decoder.unsupported }

    func superDecoder(forKey key: Key) throws -> any Decoder { throw decoder.unsupported }
}

private struct UnkeyedProbe: UnkeyedDecodingContainer {
    let decoder: ProbeDecoder
    private(set) var currentIndex = 0
    var codingPath: [any CodingKey] { [] }
    var count: Int? { 1 }
    var isAtEnd: Bool { currentIndex > 0 }

    init(decoder: ProbeDecoder) { self.decoder = decoder }

    mutating func decodeNil() -> Bool { false }

    mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        let sample = try decoder.probe.sample(type)
        decoder.record.note(item: sample.schema)
        currentIndex += 1
        return sample.value
    }

    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type
    ) throws -> KeyedDecodingContainer<Nested> { throw decoder.unsupported }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { throw decoder.unsupported }

    mutating func superDecoder() throws -> any Decoder { throw decoder.unsupported }
}
