import Foundation
@testable import Thimble
import XCTest

/// Schemas of Swift types.
final class SchemaTests: XCTestCase {
    private struct Weather: Codable, Equatable {
        enum Sky: String, Codable, CaseIterable { case clear, cloudy, rain }
        struct Wind: Codable, Equatable {
            let speed: Double
            let fromNorth: Bool
        }

        let city: String
        let sky: Sky
        let days: [Int8]
        let wind: Wind?
        let notes: [String: String]?
    }

    func testAStructureIsExamined() throws {
        let schema = try JSONSchema(of: Weather.self)
        let number = "-9007199254740991,\"maximum\":9007199254740991"
        XCTAssertEqual(
            schema.json,
            """
            {"type":"object","properties":{"city":{"type":"string"},"sky":{"enum":["clear","cloudy","rain"]},\
            "days":{"type":"array","items":{"type":"integer","minimum":-127,"maximum":127}},\
            "wind":{"type":"object","properties":{"speed":{"type":"number","minimum":\(number)},\
            "fromNorth":{"type":"boolean"}},"required":["speed","fromNorth"],"additionalProperties":false},\
            "notes":{"type":"object","additionalProperties":{"type":"string"}}},\
            "required":["city","sky","days"],"additionalProperties":false}
            """)
        XCTAssertNotNil(try? JSONSerialization.jsonObject(with: Data(schema.json.utf8)))
    }

    func testTypesOfFoundation() throws {
        struct Entry: Decodable {
            let day: Date
            let link: URL
            let id: UUID
            let price: Decimal
            let count: UInt
            let maybe: [Int32?]
        }
        let json = try JSONSchema(of: Entry.self).json
        for part in [
            "\"day\":{\"type\":\"string\",\"pattern\":\"^[0-9]{4}-(0[1-9]|1[0-2])-",
            "\"link\":{\"type\":\"string\",\"format\":\"uri\"}",
            "\"id\":{\"type\":\"string\",\"format\":\"uuid\"}",
            "\"price\":{\"type\":\"number\"",
            "\"count\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":9007199254740991}",
            "\"anyOf\":[{\"type\":\"integer\",\"minimum\":-2147483647,\"maximum\":2147483647},{\"type\":\"null\"}]",
        ] {
            XCTAssertTrue(json.contains(part), "\(part) in \(json)")
        }
    }

    private func seconds(_ text: String) throws -> Double {
        try decoded([Date].self, from: "[\"\(text)\"]").reduce(0) { $0 + $1.timeIntervalSince1970 }
    }

    func testEveryDateOfTheFormIsDecoded() throws {
        XCTAssertEqual(try seconds("1970-01-02T03:04:05Z"), 97445)
        XCTAssertEqual(try seconds("2024-02-29T00:00:00Z"), 1_709_164_800)
        XCTAssertEqual(try seconds("2023-02-31T00:00:00Z"), try seconds("2023-03-03T00:00:00Z"))
        XCTAssertNoThrow(try seconds("0000-01-01T00:00:00Z"))
        XCTAssertThrowsError(try seconds("tomorrow"))
    }

    func testKeysAreThoseOfTheJSON() throws {
        struct Person: Decodable {
            enum CodingKeys: String, CodingKey {
                case name
                case yearOfBirth = "born"
            }
            let name: String
            let yearOfBirth: Int
        }
        let json = try JSONSchema(of: Person.self).json
        XCTAssertTrue(json.contains("\"required\":[\"name\",\"born\"]"), json)
    }

    func testATypeMaySayMoreThanItsProperties() throws {
        struct Forecast: SchemaDescribed {
            let city: String
            let days: Int
            static var schema: JSONSchema {
                .object(["city": .string(length: 1...40).described("A city."), "days": .integer(in: 1...14)])
            }
        }
        struct Trip: Decodable {
            let there: Forecast
        }
        let own = """
            {"type":"object","properties":{"city":{"type":"string","minLength":1,"maxLength":40,"description":"A city."},\
            "days":{"type":"integer","minimum":1,"maximum":14}},"required":["city","days"],"additionalProperties":false}
            """
        XCTAssertEqual(try JSONSchema(of: Forecast.self).json, own)
        XCTAssertTrue(try JSONSchema(of: Trip.self).json.contains("\"there\":\(own)"))
        let refined = try JSONSchema.derived(from: Forecast.self).with("days", .integer(in: 1...14))
        let days = "\"days\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":14}"
        XCTAssertTrue(refined.json.contains(days), refined.json)
    }

    func testSchemasByHand() {
        let schema = JSONSchema.object(
            [
                "tags": .array(of: .choices(["a", "b\"\n"]), count: 0...3),
                "size": .either([.number(in: 0...1.5), .boolean]),
            ],
            optional: ["size"])
        XCTAssertEqual(
            schema.json,
            """
            {"type":"object","properties":{"tags":{"type":"array","items":{"enum":["a","b\\"\\n"]},"minItems":0,\
            "maxItems":3},"size":{"anyOf":[{"type":"number","minimum":0,"maximum":1.5},{"type":"boolean"}]}},\
            "required":["tags"],"additionalProperties":false}
            """)
    }

    func testWhatHasNoSchemaIsRefusedByName() {
        struct Node: Decodable { let children: [Node] }
        struct Picture: Decodable { let bytes: Data }
        enum Unit: String, Decodable { case metre, foot }
        enum Shape: Decodable { case circle(radius: Double), square(side: Double) }
        final class Parent: Decodable {
            required init(from decoder: any Decoder) throws {
                _ = try decoder.container(keyedBy: Key.self).superDecoder()
            }
            enum Key: CodingKey { case a }
        }
        let types: [(any Decodable.Type, String)] = [
            (Node.self, "contains itself"), (Picture.self, "binary data"), (Unit.self, "Unit"), (Shape.self, "Shape"),
            (Parent.self, "super decoders"),
        ]
        for (type, word) in types {
            XCTAssertThrowsError(try JSONSchema(of: type)) { error in
                XCTAssertTrue((error as? SchemaError)?.reason.contains(word) == true, "\(type): \(error)")
            }
        }
    }
}
