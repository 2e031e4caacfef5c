package ai.thimble

import org.junit.Assert.assertTrue
import org.junit.Test

/** The example of the README; `check.sh` compares them. */
class ShortestChat {
    @Test
    fun answers() = soon {
        val pathOfModel = Given.model
        val shown = StringBuilder()

        fun print(piece: String) {
            shown.append(piece)
        }

        // example
        Model.open(pathOfModel).use { model ->
            model.chat().use { chat ->
                chat.send("Write a haiku about the sea.").collect { piece -> print(piece) }
            }
        }
        // end
        assertTrue(shown.isNotEmpty())
    }
}
