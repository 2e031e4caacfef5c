package ai.thimble

import ai.thimble.ffi.ToolChoice
import ai.thimble.serialization.tool
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flowOf
import kotlinx.coroutines.flow.toList
import kotlinx.serialization.Serializable
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import java.lang.reflect.Proxy

/** The loop of calls and results, with a chat whose answers are scripted. */
class ToolsTest {
    @Serializable
    data class City(val name: String)

    private val weather = tool<City>("weather", "The weather of a city, now.") { "rain in ${it.name}" }
    private val broken = Tool(ToolDefinition("broken", "Fails.", "{}")) { error("no sensor") }

    @Test
    fun `a tool's arguments are typed, and described by a schema`() = soon {
        assertEquals("weather", weather.definition.name)
        val schema = JSONObject(weather.definition.parameters)
        assertEquals("string", schema.getJSONObject("properties").getJSONObject("name").getString("type"))
        assertEquals("rain in Oslo", weather.run("""{"name":"Oslo"}"""))
    }

    @Test
    fun `calls run, and the model goes on with what they return`() = soon {
        val oslo = ToolCall("1", "weather", """{"name":"Oslo"}""")
        val chat = Scripted(calls(oslo, ToolCall("2", "broken", "{}"), ToolCall("3", "none", "{}")), text("Take a coat."))
        val events = chat.streamWithTools("Do I need a coat?", listOf(weather, broken)).toList()
        assertEquals(
            listOf(ToolResult("1", "rain in Oslo"), ToolResult("2", "error: no sensor"), ToolResult("3", NONE)),
            chat.results.single(),
        )
        assertEquals(Event.Call(oslo), events.first())
        assertEquals(Event.Piece("Take a coat."), events[events.lastIndex - 1])
        assertEquals("Take a coat.", (events.last() as Event.End).reply.text)
        assertEquals("one end", 1, events.count { it is Event.End })
    }

    @Test
    fun `rounds of calls are limited`() = soon {
        val call = ToolCall("1", "weather", """{"name":"Oslo"}""")
        val chat = Scripted(calls(call), calls(call), calls(call), text("never"))
        val end = chat.streamWithTools("Hi", listOf(weather), mostRounds = 2).toList().last() as Event.End
        assertEquals(listOf(call), end.reply.toolCalls)
        assertEquals(2, chat.results.size)
    }

    @Test
    fun `what is required is required once`() = soon {
        val call = ToolCall("1", "weather", """{"name":"Oslo"}""")
        val chat = Scripted(calls(call), text("Rain."))
        val required = AnswerOptions(toolChoice = ToolChoice.Required, maxTokens = 9u)
        assertEquals("Rain.", chat.streamWithTools("Hi", listOf(weather), required).reply().text)
        assertEquals(listOf(required, AnswerOptions(maxTokens = 9u)), chat.asked)
    }

    @Test
    fun `an answer without calls passes through`() = soon {
        val chat = Scripted(text("Hello"))
        assertEquals("Hello", chat.streamWithTools("Hi", listOf(weather)).reply().text)
        assertTrue(chat.results.isEmpty())
    }

    private fun calls(vararg calls: ToolCall): Reply = text("").copy(toolCalls = calls.toList())

    private fun text(text: String) = Reply(text, Finish.STOP, 0u, 0u, 0u, 0.0, 1u, 0.0, complete = true)

    /** Gives one reply after the other. */
    private class Scripted(vararg replies: Reply) : Chat by nothing {
        private val left = ArrayDeque(replies.toList())
        val results = mutableListOf<List<ToolResult>>()
        val asked = mutableListOf<AnswerOptions>()

        override fun stream(text: String, options: AnswerOptions): Flow<Event> {
            asked += options
            val reply = left.removeFirst()
            return flowOf(Event.Piece(reply.text), Event.End(reply)).takeIf { reply.text.isNotEmpty() }
                ?: flowOf(Event.End(reply))
        }

        override fun sendToolResults(results: List<ToolResult>, options: AnswerOptions): Flow<Event> {
            this.results += results
            return stream("", options)
        }
    }

    private companion object {
        const val NONE = "error: there is no tool none"

        /** A chat of which nothing is called. */
        val nothing = Proxy.newProxyInstance(Chat::class.java.classLoader, arrayOf(Chat::class.java)) { _, method, _ ->
            error("${method.name} was not expected")
        } as Chat
    }
}
