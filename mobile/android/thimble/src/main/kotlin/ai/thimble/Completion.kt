package ai.thimble

import ai.thimble.ffi.Listener
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow

/** A text that is continued. Every member may be called from any thread, before the text is collected, too. */
interface Completion {
    /**
     * The continuation, piece by piece. The flow is cold: each collection continues the text anew. Cancelling it, or
     * throwing out of it, stops the work.
     */
    fun text(): Flow<String> = stream().pieces()

    /** As [text], with the progress of reading and the [Reply] at the end. */
    fun stream(): Flow<Event>

    /** Stops the work; its flow completes, with [Finish.CANCELLED]. */
    fun cancel()

    /** Lets the work wait, for an app that goes to the background. */
    fun pause()

    /** Ends a pause. */
    fun resume()

    /** Works with half the threads while the device is hot or its battery low. */
    fun savePower(save: Boolean)
}

internal class EngineCompletion(private val begin: (Listener) -> ai.thimble.ffi.Completion) : Completion {
    /** What is being done; also the lock of this class. */
    private val works = mutableSetOf<ai.thimble.ffi.Completion>()
    private var paused = false
    private var saving = false

    override fun stream(): Flow<Event> = flow {
        val speaker = Speaker()
        val work = begin(speaker)
        // It works for as long as the object is there.
        work.use {
            synchronized(works) {
                works += work
                if (paused) work.pause()
                if (saving) work.savePower(true)
            }
            try {
                speaker.passTo(this, work::cancel)
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
