package ai.thimble

import ai.thimble.ffi.Listener
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow

/** A text that the model continues. Every member may be called from any thread, at any time. */
interface Completion {
    /**
     * The continuation, piece by piece. The flow is cold: each collection starts again. Cancelling it, or throwing out
     * of it, stops the work.
     */
    fun text(): Flow<String> = stream().pieces()

    /** Like [text], with the progress of reading and the [Reply] at the end. */
    fun stream(): Flow<Event>

    /** Stops the work; its flow completes with [Finish.CANCELLED]. */
    fun cancel()

    /** Pauses, for an app that goes to the background. */
    fun pause()

    /** Ends a pause. */
    fun resume()

    /** Works with half the threads while the device is hot or its battery low. */
    fun savePower(save: Boolean)
}

internal class NativeCompletion(private val begin: (Listener) -> ai.thimble.ffi.Completion) : Completion {
    /** Work in progress; also the lock of this class. */
    private val works = mutableSetOf<ai.thimble.ffi.Completion>()
    private var paused = false
    private var saving = false

    override fun stream(): Flow<Event> = flow {
        val listener = EventListener()
        val work = begin(listener)
        // Closing the object stops the work.
        work.use {
            synchronized(works) {
                works += work
                if (paused) work.pause()
                if (saving) work.savePower(true)
            }
            try {
                listener.passTo(this, work::cancel)
            } finally {
                synchronized(works) { works -= work }
            }
        }
    }

    override fun cancel() = synchronized(works) { works.forEach { it.cancel() } }

    override fun pause() = synchronized(works) {
        paused = true
        works.forEach { it.pause() }
    }

    override fun resume() = synchronized(works) {
        paused = false
        works.forEach { it.resume() }
    }

    override fun savePower(save: Boolean) = synchronized(works) {
        saving = save
        works.forEach { it.savePower(save) }
    }
}
