package ai.thimble

import ai.thimble.ffi.ToolChoice
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.FlowCollector
import kotlinx.coroutines.flow.flow

/**
 * A function of the app that a model may call. [definition] goes into [ChatOptions.tools]; [run] gets the arguments as a
 * JSON object that validates against the definition's schema, and returns what the model reads.
 */
class Tool(val definition: ToolDefinition, val run: suspend (arguments: String) -> String)

/**
 * The answer to [text], with the calls of tools that the model makes on the way: each is an [Event.Call], then it runs, then
 * the model goes on with what it returned. [tools] are those of the chat's [ChatOptions.tools].
 *
 * A tool that throws tells the model its message. Calls that [options] require are made in the first round; after it the
 * model decides. After [mostRounds] rounds of calls the answer ends with the calls that are left in [Reply.toolCalls].
 */
fun Chat.streamWithTools(
    text: String,
    tools: List<Tool>,
    options: AnswerOptions = AnswerOptions(),
    mostRounds: Int = 8,
): Flow<Event> = flow {
    var reply = passOn(stream(text, options))
    val later = if (options.toolChoice == ToolChoice.Disabled) options else options.copy(toolChoice = null)
    var rounds = 0
    while (reply.toolCalls.isNotEmpty() && rounds++ < mostRounds) {
        val results = reply.toolCalls.map { call ->
            emit(Event.Call(call))
            ToolResult(call.id, tools.call(call))
        }
        reply = passOn(sendToolResults(results, later))
    }
    emit(Event.End(reply))
}

/** Emits all but the end, which it returns. */
private suspend fun FlowCollector<Event>.passOn(events: Flow<Event>): Reply {
    var reply: Reply? = null
    events.collect { event -> if (event is Event.End) reply = event.reply else emit(event) }
    return checkNotNull(reply) { "an answer ended without a reply" }
}

private suspend fun List<Tool>.call(call: ToolCall): String {
    val tool = firstOrNull { it.definition.name == call.name } ?: return "error: there is no tool ${call.name}"
    return try {
        tool.run(call.arguments)
    } catch (error: CancellationException) {
        throw error
    } catch (error: Exception) {
        "error: ${error.message ?: error.javaClass.simpleName}"
    }
}
