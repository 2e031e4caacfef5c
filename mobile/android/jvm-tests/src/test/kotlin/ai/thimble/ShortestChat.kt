package ai.thimble

import org.junit.Assert.assertTrue
import org.junit.Test

/** The example of the README, which is compared with it. */
class ShortestChat {
    @Test
    fun answers() = soon {
        val pathOfModel = Given.model
        val shown = StringBuilder()

        fun print(piece: String) {
            shown.append(piece)
        }

        Model.open(pathOfModel).use { model ->
            model.chat().use { chat ->
                chat.send("Write a haiku about the sea.").collect { piece -> print(piece) }
            }
        }
        assertTrue(shown.isNotEmpty())
    }
}
