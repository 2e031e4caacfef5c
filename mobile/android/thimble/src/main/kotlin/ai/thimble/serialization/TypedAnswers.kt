/*
 * What needs kotlinx.serialization, which the library compiles against and an app brings itself: an app that uses nothing
 * of this package does not ship it.
 */
package ai.thimble.serialization

import ai.thimble.AnswerOptions
import ai.thimble.Chat
import ai.thimble.Tool
import ai.thimble.ToolDefinition
import ai.thimble.askJson
import kotlinx.serialization.KSerializer
import kotlinx.serialization.json.Json
import kotlinx.serialization.serializer

/**
 * The answer to [text] as a value of [T], a class with `@Serializable`.
 *
 * @throws ai.thimble.IncompleteAnswerException the limit of tokens ended it, or it was stopped
 */
suspend inline fun <reified T> Chat.ask(
    text: String,
    options: AnswerOptions = AnswerOptions(),
    json: Json = Json,
): T = ask(serializer<T>(), text, options, json)

/** Like [ask] with a type, for a serializer that is known only when the app runs. */
suspend fun <T> Chat.ask(
    serializer: KSerializer<T>,
    text: String,
    options: AnswerOptions = AnswerOptions(),
    json: Json = Json,
): T = json.decodeFromString(serializer, askJson(text, jsonSchema(serializer.descriptor, json), options))

/** A tool whose arguments are a class with `@Serializable`. The model reads [description], which says when to call it. */
inline fun <reified A> tool(
    name: String,
    description: String,
    json: Json = Json,
    noinline run: suspend (A) -> String,
): Tool {
    val arguments = serializer<A>()
    val definition = ToolDefinition(name, description, jsonSchema(arguments.descriptor, json))
    return Tool(definition) { run(json.decodeFromString(arguments, it)) }
}
