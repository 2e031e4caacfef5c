package ai.thimble

import ai.thimble.ffi.ApiException
import ai.thimble.ffi.Listener
import ai.thimble.ffi.ListenerException
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.FlowCollector

/** Carries one answer from the engine's thread to the coroutine that collects it. The engine never waits for that. */
internal class Speaker : Listener {
    /** No longer than the answer, whose tokens the options bound. */
    private val events = Channel<Event>(Channel.UNLIMITED)

    @Volatile
    private var over = false

    /** Passes all events on; calls [stop] where the collector leaves before the engine is done. */
    suspend fun passTo(collector: FlowCollector<Event>, stop: () -> Unit) {
        try {
            for (event in events) collector.emit(event)
        } finally {
            events.cancel()
            if (!over) stop()
        }
    }

    override fun onPiece(text: String) = tell(Event.Piece(text))

    override fun onProgress(done: UInt, of: UInt) = tell(Event.Reading(done.toInt(), of.toInt()))

    override fun onEnd(reply: Reply) {
        over = true
        events.trySend(Event.End(reply))
        events.close()
    }

    override fun onError(error: ApiException) {
        over = true
        events.close(error)
    }

    private fun tell(event: Event) {
        if (events.trySend(event).isFailure) throw ListenerException.Failed("nobody collects the answer any more")
    }
}
