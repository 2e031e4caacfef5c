package ai.thimble

import ai.thimble.ffi.AnswerFormat
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.last

/**
 * An answer that ended before it had the form that was asked for: at the limit of tokens, where the context is full, or
 * because it was stopped. [reply] has its beginning.
 */
class IncompleteAnswerException(val reply: Reply) :
    Exception("the answer ended before it was whole (${reply.finish}, ${reply.tokens} tokens): allow more tokens")

/** Waits for the answer and returns the [Reply] at its end. */
suspend fun Flow<Event>.reply(): Reply = filterIsInstance<Event.End>().last().reply

/**
 * The answer to [text] as JSON that validates against [schema], a JSON Schema of draft 2020-12.
 *
 * @throws IncompleteAnswerException
 * @throws ai.thimble.ffi.ApiException the schema has something that is not supported; nothing was generated
 */
suspend fun Chat.askJson(text: String, schema: String, options: AnswerOptions = AnswerOptions()): String =
    whole(text, AnswerFormat.JsonSchema(schema), options)

/** One of [choices], the one that the model takes for the answer to [text]; fails as [askJson]. */
suspend fun Chat.choose(text: String, choices: List<String>, options: AnswerOptions = AnswerOptions()): String =
    whole(text, AnswerFormat.Choices(choices), options)

/** An answer to [text] that the regular expression [pattern] matches as a whole; fails as [askJson]. */
suspend fun Chat.askMatching(text: String, pattern: String, options: AnswerOptions = AnswerOptions()): String =
    whole(text, AnswerFormat.Regex(pattern), options)

private suspend fun Chat.whole(text: String, format: AnswerFormat, options: AnswerOptions): String {
    val reply = stream(text, options.copy(format = format)).reply()
    if (!reply.complete) throw IncompleteAnswerException(reply)
    return reply.text
}
