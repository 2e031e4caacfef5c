package ai.thimble

import ai.thimble.ffi.ApiException
import ai.thimble.ffi.Listener
import ai.thimble.ffi.ListenerException
import kotlinx.coroutines.Job
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.FlowCollector

/**
 * Carries one answer from the worker's thread to the coroutine that collects it. The worker never waits for that.
 *
 * [left] is called with this once the worker has finished the answer.
 */
internal class EventListener(private val left: (EventListener) -> Unit = {}) : Listener {
    /** Bounded by the answer, whose tokens the options limit. */
    private val events = Channel<Event>(Channel.UNLIMITED)
    private val over = Job()

    /** Passes all events on; calls [stop] if the collector leaves before the worker is done. */
    suspend fun passTo(collector: FlowCollector<Event>, stop: () -> Unit) {
        try {
            for (event in events) collector.emit(event)
        } finally {
            events.cancel()
            if (over.isActive) stop()
        }
    }

    /** Returns once the worker has finished or abandoned the answer. */
    suspend fun join() = over.join()

    override fun onPiece(text: String) = pass(Event.Piece(text))

    override fun onReasoning(text: String) = pass(Event.Reasoning(text))

    override fun onProgress(done: UInt, of: UInt) = pass(Event.Reading(done.toInt(), of.toInt()))

    override fun onEnd(reply: Reply) {
        events.trySend(Event.End(reply))
        end()
    }

    override fun onError(error: ApiException) = end(error)

    /** Nothing follows. */
    fun end(error: Throwable? = null) {
        events.close(error)
        left(this)
        over.complete()
    }

    /** A listener that fails stops its own answer and no other. */
    private fun pass(event: Event) {
        if (events.trySend(event).isFailure) throw ListenerException.Failed("nobody collects the answer any more")
    }
}
