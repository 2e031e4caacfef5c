package ai.thimble.serialization

import kotlinx.serialization.Contextual
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import kotlinx.serialization.serializer
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** Schemas of Kotlin's types, and that what validates is decoded. */
class JsonSchemasTest {
    @Serializable
    enum class Sky { CLEAR, @SerialName("half") HALF, CLOUDY }

    @Serializable
    data class Weather(val sky: Sky, val degrees: Short, val wind: Double?, val words: List<String> = emptyList())

    @Serializable
    data class Tree(val value: UByte, val children: List<Tree>, val left: Tree? = null)

    @Serializable
    sealed interface Shape

    @Serializable
    @SerialName("circle")
    data class Circle(val radius: Long) : Shape

    @Serializable
    @SerialName("nothing")
    data object Nothing : Shape

    @JvmInline
    @Serializable
    value class Id(val number: Byte)

    @Serializable
    data class Open(@Contextual val any: java.util.Date)

    @Test
    fun `a class with an enumeration, bounds, a nullable property and a default`() = check<Weather>(
        """{"type":"object","properties":{
            "sky":{"enum":["CLEAR","half","CLOUDY"]},
            "degrees":{"type":"integer","minimum":-32768,"maximum":32767},
            "wind":{"anyOf":[{"type":"number","minimum":-1000000000000000,"maximum":1000000000000000},{"type":"null"}]},
            "words":{"type":"array","items":{"type":"string"}}},
            "required":["sky","degrees","wind"],"additionalProperties":false}""",
        """{"sky":"half","degrees":-3,"wind":null}""" to Weather(Sky.HALF, -3, null),
        """{"sky":"CLEAR","degrees":32767,"wind":2.5,"words":["warm"]}""" to Weather(Sky.CLEAR, 32767, 2.5, listOf("warm")),
    )

    @Test
    fun `a class within itself`() = check<Tree>(
        """{"${"$"}ref":"#/${"$"}defs/$TREE","${"$"}defs":{"$TREE":{"type":"object","properties":{
            "value":{"type":"integer","minimum":0,"maximum":255},
            "children":{"type":"array","items":{"${"$"}ref":"#/${"$"}defs/$TREE"}},
            "left":{"anyOf":[{"${"$"}ref":"#/${"$"}defs/$TREE"},{"type":"null"}]}},
            "required":["value","children"],"additionalProperties":false}}}""",
        """{"value":255,"children":[{"value":0,"children":[]}],"left":null}""" to
            Tree(255u, listOf(Tree(0u, emptyList()))),
    )

    @Test
    fun `sealed types say which they are`() = check<Shape>(
        """{"anyOf":[
            {"type":"object","properties":{"type":{"const":"circle"},
                "radius":{"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991}},
                "required":["type","radius"],"additionalProperties":false},
            {"type":"object","properties":{"type":{"const":"nothing"}},"required":["type"],"additionalProperties":false}]}""",
        """{"type":"circle","radius":9007199254740991}""" to Circle(9_007_199_254_740_991),
        """{"type":"nothing"}""" to Nothing,
    )

    @Test
    fun `maps, lists, single values`() {
        check<Map<String, Int>>(
            """{"type":"object","additionalProperties":{"type":"integer","minimum":-2147483648,"maximum":2147483647}}""",
            """{"a":2147483647}""" to mapOf("a" to Int.MAX_VALUE),
        )
        check<List<Boolean?>>(
            """{"type":"array","items":{"anyOf":[{"type":"boolean"},{"type":"null"}]}}""",
            "[true,null]" to listOf(true, null),
        )
        check<Id>("""{"type":"integer","minimum":-128,"maximum":127}""", "-128" to Id(-128))
        check<Char>("""{"type":"string","minLength":1,"maxLength":1}""", "\"x\"" to 'x')
        check<String>("""{"type":"string"}""", "\"x\"" to "x")
    }

    @Test
    fun `what has no form before it is decoded is refused`() {
        val open = assertThrows(IllegalArgumentException::class.java) { jsonSchema(serializer<Open>().descriptor) }
        assertTrue("$open", "make it sealed" in open.message!!)
        val keys = assertThrows(IllegalArgumentException::class.java) {
            jsonSchema(serializer<Map<Int, String>>().descriptor)
        }
        assertTrue("$keys", "kotlin.Int" in keys.message!!)
    }

    private inline fun <reified T> check(schema: String, vararg values: Pair<String, T>) {
        val written = jsonSchema(serializer<T>().descriptor)
        assertEquals(Json.parseToJsonElement(schema), Json.parseToJsonElement(written))
        for ((text, value) in values) assertEquals(value, Json.decodeFromString<T>(text))
    }

    private companion object {
        const val TREE = "ai.thimble.serialization.JsonSchemasTest.Tree"
    }
}
