package ai.thimble.serialization

import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.descriptors.PolymorphicKind
import kotlinx.serialization.descriptors.PrimitiveKind
import kotlinx.serialization.descriptors.SerialDescriptor
import kotlinx.serialization.descriptors.SerialKind
import kotlinx.serialization.descriptors.StructureKind
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.add
import kotlinx.serialization.json.addJsonObject
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put
import kotlinx.serialization.json.putJsonArray

/**
 * The JSON Schema, draft 2020-12, of what [json] decodes by [descriptor]. Whatever validates can be decoded: integers keep
 * the bounds of their type, those of `Long` and `ULong` within 2^53, floating-point numbers within 10^15; properties
 * with a default may be missing, others may not.
 *
 * @throws IllegalArgumentException a type whose form is known only when it is decoded, or a map with keys that are no text
 */
fun jsonSchema(descriptor: SerialDescriptor, json: Json = Json): String = SchemaWriter(json).document(descriptor)

@OptIn(ExperimentalSerializationApi::class)
private class SchemaWriter(private val json: Json) {
    /** Classes that contain themselves, by name; `null` while one is written. */
    private val definitions = mutableMapOf<String, JsonObject?>()

    /** Classes that are being written, outermost first. */
    private val open = mutableListOf<String>()

    fun document(descriptor: SerialDescriptor): String {
        val root = schema(descriptor)
        if (definitions.isEmpty()) return "$root"
        val known = definitions.mapValues { (name, body) -> checkNotNull(body) { name } }
        return "${JsonObject(root + ("\$defs" to JsonObject(known)))}"
    }

    private fun schema(descriptor: SerialDescriptor): JsonObject {
        val plain = when {
            descriptor.serialName.removeSuffix("?") in UNSIGNED -> unsigned(descriptor)
            descriptor.isInline -> schema(descriptor.getElementDescriptor(0))
            else -> byKind(descriptor)
        }
        return if (descriptor.isNullable) nullable(plain) else plain
    }

    private fun byKind(descriptor: SerialDescriptor): JsonObject =
        when (descriptor.kind) {
            PrimitiveKind.BOOLEAN -> type("boolean")
            PrimitiveKind.BYTE -> integer(Byte.MIN_VALUE.toLong(), Byte.MAX_VALUE.toLong())
            PrimitiveKind.SHORT -> integer(Short.MIN_VALUE.toLong(), Short.MAX_VALUE.toLong())
            PrimitiveKind.INT -> integer(Int.MIN_VALUE.toLong(), Int.MAX_VALUE.toLong())
            PrimitiveKind.LONG -> integer(-MOST_EXACT, MOST_EXACT)
            PrimitiveKind.FLOAT, PrimitiveKind.DOUBLE -> bounded("number", -MOST_NUMBER, MOST_NUMBER)
            PrimitiveKind.CHAR -> bounded("string", 1, 1, "minLength", "maxLength")
            PrimitiveKind.STRING -> type("string")
            SerialKind.ENUM -> buildJsonObject {
                putJsonArray("enum") { repeat(descriptor.elementsCount) { add(descriptor.getElementName(it)) } }
            }
            StructureKind.LIST -> buildJsonObject {
                put("type", "array")
                put("items", schema(descriptor.getElementDescriptor(0)))
            }
            StructureKind.MAP -> map(descriptor)
            StructureKind.CLASS, StructureKind.OBJECT -> named(descriptor) { properties(descriptor) }
            PolymorphicKind.SEALED -> named(descriptor) { sealed(descriptor) }
            PolymorphicKind.OPEN, SerialKind.CONTEXTUAL -> throw IllegalArgumentException(
                "expected a type whose form is known before it is decoded, found ${descriptor.serialName}; make it sealed",
            )
        }

    private fun map(descriptor: SerialDescriptor): JsonObject {
        val key = descriptor.getElementDescriptor(0)
        require(key.kind == PrimitiveKind.STRING && !key.isNullable) {
            "expected a map with keys of the type String, found ${key.serialName}"
        }
        return buildJsonObject {
            put("type", "object")
            put("additionalProperties", schema(descriptor.getElementDescriptor(1)))
        }
    }

    /** A class by itself, or a reference to it where it is within itself. */
    private fun named(descriptor: SerialDescriptor, write: () -> JsonObject): JsonObject {
        val name = descriptor.serialName.removeSuffix("?")
        val reference = buildJsonObject { put("\$ref", "#/\$defs/${name.replace("~", "~0").replace("/", "~1")}") }
        if (name in definitions) return reference
        if (name in open) {
            definitions[name] = null
            return reference
        }
        open += name
        val body = write()
        open -= name
        if (name !in definitions) return body
        definitions[name] = body
        return reference
    }

    private fun properties(descriptor: SerialDescriptor, tag: Pair<String, String>? = null): JsonObject =
        buildJsonObject {
            val elements = (0 until descriptor.elementsCount)
            put("type", "object")
            val fields = elements.associate { descriptor.getElementName(it) to schema(descriptor.getElementDescriptor(it)) }
            val kind = tag?.let { (key, value) -> mapOf(key to buildJsonObject { put("const", value) }) }.orEmpty()
            put("properties", JsonObject(kind + fields))
            putJsonArray("required") {
                kind.keys.forEach { add(it) }
                elements.filterNot(descriptor::isElementOptional).forEach { add(descriptor.getElementName(it)) }
            }
            put("additionalProperties", false)
        }

    /** One of the subclasses, told apart by the property that kotlinx.serialization writes first. */
    private fun sealed(descriptor: SerialDescriptor): JsonObject {
        val key = json.configuration.classDiscriminator
        val subclasses = descriptor.getElementDescriptor(1)
        return buildJsonObject {
            putJsonArray("anyOf") {
                repeat(subclasses.elementsCount) {
                    add(properties(subclasses.getElementDescriptor(it), key to subclasses.getElementName(it)))
                }
            }
        }
    }

    private fun unsigned(descriptor: SerialDescriptor): JsonObject =
        when (descriptor.serialName.removeSuffix("?")) {
            "kotlin.UByte" -> integer(0, UByte.MAX_VALUE.toLong())
            "kotlin.UShort" -> integer(0, UShort.MAX_VALUE.toLong())
            "kotlin.UInt" -> integer(0, UInt.MAX_VALUE.toLong())
            else -> integer(0, MOST_EXACT)
        }

    private fun nullable(plain: JsonObject): JsonObject = buildJsonObject {
        putJsonArray("anyOf") {
            add(plain)
            addJsonObject { put("type", "null") }
        }
    }

    private fun type(name: String): JsonObject = buildJsonObject { put("type", name) }

    private fun integer(least: Long, most: Long): JsonObject = bounded("integer", least, most)

    private fun bounded(
        type: String,
        least: Number,
        most: Number,
        lower: String = "minimum",
        upper: String = "maximum",
    ): JsonObject = buildJsonObject {
        put("type", type)
        put(lower, least)
        put(upper, most)
    }

    private companion object {
        val UNSIGNED = setOf("kotlin.UByte", "kotlin.UShort", "kotlin.UInt", "kotlin.ULong")

        /** The integers that all JSON parsers keep exactly (RFC 8259, 6). */
        const val MOST_EXACT = (1L shl 53) - 1
        const val MOST_NUMBER = 1_000_000_000_000_000L
    }
}
