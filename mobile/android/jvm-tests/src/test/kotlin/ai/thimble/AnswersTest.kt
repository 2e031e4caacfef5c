package ai.thimble

import ai.thimble.ffi.ApiException
import ai.thimble.ffi.ToolChoice
import ai.thimble.serialization.ask
import ai.thimble.serialization.tool
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.toList
import kotlinx.serialization.Serializable
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import kotlin.math.abs

/** Answers of a given shape, embeddings and probabilities, with the native library. The examples of the documents are here. */
class AnswersTest {
    @Serializable
    enum class Sky { CLEAR, CLOUDY, RAIN }

    @Serializable
    data class Weather(val sky: Sky, val degrees: Int, val windy: Boolean)

    @Serializable
    data class Place(val city: String)

    private val report = "Rain all day in Bergen, 9 degrees, hardly any wind."

    @Test
    fun `an answer is a value of a class`() = chat { chat ->
        val weather = chat.ask<Weather>("What does this report say? $report")
        println("${weather.degrees} degrees, ${weather.sky}")
        assertTrue("$weather", weather.sky in Sky.entries)
    }

    @Test
    fun `whatever the model draws, it can be decoded`() = soon {
        Model.open(Given.model).use { model ->
            val options = ChatOptions(sampling = Sampling(temperature = 1f), maxTokens = 64u)
            repeat(5) { round ->
                model.chat(options).use { chat -> chat.ask<Weather>("Round $round: $report") }
            }
        }
    }

    @Test
    fun `a choice, a pattern, a schema`() = chat { chat ->
        val mood = chat.choose("Is this friendly? \"Thank you so much!\"", listOf("friendly", "neutral", "rude"))
        assertTrue(mood, mood in listOf("friendly", "neutral", "rude"))
        val time = chat.askMatching("When does it start? \"At half past nine.\"", "[0-2][0-9]:[0-5][0-9]")
        assertTrue(time, Regex("[0-2][0-9]:[0-5][0-9]").matches(time))
        val schema = """{"type":"object","properties":{"age":{"type":"integer","minimum":0,"maximum":150}},"required":["age"]}"""
        val json = JSONObject(chat.askJson("How old is Ann? \"Ann is 34.\"", schema))
        assertTrue("$json", json.getInt("age") in 0..150)
    }

    @Test
    fun `the limit of tokens ends an answer before it is whole`() = chat { chat ->
        val options = AnswerOptions(maxTokens = 4u)
        val error = runCatching { chat.ask<Weather>(report, options) }.exceptionOrNull()
        val reply = (error as IncompleteAnswerException).reply
        assertEquals(Finish.LENGTH, reply.finish)
        assertTrue("its beginning: ${reply.text}", reply.text.startsWith("{") && reply.text.length < 30)
    }

    @Test
    fun `a schema that is not supported is refused before anything is generated`() = chat { chat ->
        val error = runCatching { chat.askJson("Hi", """{"type":"array","uniqueItems":true}""") }.exceptionOrNull()
        assertTrue("$error", error is ApiException.Other && "uniqueItems" in error.reason)
        assertTrue(chat.history.isEmpty())
    }

    @Test
    fun `a chat begins with the app's own messages, and an answer stops at a text`() = soon {
        Model.open(Given.model).use { model ->
            val before = listOf(Message(true, "I am Ann."), Message(false, "Hello Ann!"))
            val options = Given.options().copy(messages = before)
            model.chat(options).use { chat ->
                assertEquals(before, chat.history)
                val whole = chat.send(HELLO).text()
                val stop = whole.substring(whole.length / 2, whole.length / 2 + 1)
                model.chat(options.copy(stop = listOf(stop))).use { other ->
                    assertEquals(whole.substringBefore(stop), other.send(HELLO).text())
                }
            }
        }
    }

    @Test
    fun `texts as vectors`() = soon {
        Model.open(Given.model).use { model ->
            val (cat, kitten, same) = model.embed(listOf("A cat sleeps.", "A kitten naps.", "A cat sleeps."))
            fun similarity(one: FloatArray, other: FloatArray) = one.indices.sumOf { (one[it] * other[it]).toDouble() }
            assertEquals(1.0, similarity(cat, same), 1e-5)
            assertTrue(similarity(cat, kitten) < 1)
        }
    }

    @Test
    fun `probabilities of a text, and its tokens back to text`() = soon {
        Model.open(Given.model).use { model ->
            val scored = model.logProbabilities("The capital of France is", " Paris.", alternatives = 3)
            assertEquals(" Paris.", scored.joinToString("") { it.text })
            for (token in scored) {
                assertTrue("$token", token.logProbability <= 0 && token.alternatives.size == 3)
                assertTrue("$token", token.alternatives.all { it.logProbability <= 0 })
            }
            assertEquals("Hello, world", model.detokenize(model.tokens("Hello, world")))
            val wrong = runCatching { model.detokenize(listOf(-1)) }.exceptionOrNull()
            assertTrue("$wrong", wrong is ApiException.Other)
            val reply = model.chat(Given.options()).use { chat ->
                chat.stream(HELLO, AnswerOptions(logProbabilities = 0u)).reply()
            }
            assertTrue("${reply.tokens}", abs(reply.tokens.toInt() - reply.logProbabilities.size) <= 1)
        }
    }

    @Serializable
    data class Report(val sky: Sky)

    @Test
    fun `a call that is required names a tool and has valid arguments`() = soon {
        Model.open(Given.model).use { model ->
            val seen = mutableListOf<Sky>()
            val note = tool<Report>("note", "Notes the weather.") { seen += it.sky; "noted" }
            val options = ChatOptions(tools = listOf(note.definition), sampling = Sampling(temperature = 1f), maxTokens = 200u)
            model.chat(options).use { chat ->
                val required = AnswerOptions(toolChoice = ToolChoice.Named("note"))
                val calls = chat.streamWithTools("It rains.", listOf(note), required, mostRounds = 1).filterIsInstance<Event.Call>()
                assertEquals(calls.toList().map { it.call.name }, seen.map { "note" })
                assertTrue("$seen", seen.isNotEmpty())
            }
        }
    }

    @Test
    fun `the app runs the tools that the model calls`() = soon {
        Model.open(Given.model).use { model ->
            val weather = tool<Place>("weather", "The weather of a city, now.") { place -> "9 degrees in ${place.city}" }
            val options = ChatOptions(tools = listOf(weather.definition), maxTokens = 32u)
            model.chat(options).use { chat ->
                val answer = chat.streamWithTools("Do I need a coat in Bergen?", listOf(weather))
                answer.collect { event ->
                    if (event is Event.Call) println("looking at the weather: ${event.call.arguments}")
                    if (event is Event.Piece) print(event.text)
                }
            }
        }
    }
}
