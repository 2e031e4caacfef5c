package ai.thimble.app.logic

import org.junit.Assert.assertEquals
import org.junit.Assume.assumeTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import java.nio.file.Files
import java.nio.file.Path

/** The journals of all chats. */
class ChatFolderTest {
    @get:Rule
    val folder = TemporaryFolder()

    @Test
    fun `only chats in which nothing was said are tidied away`() {
        val begin = "{\"begin\":{\"system\":null}}\n"
        write("empty", "")
        write("begun", begin)
        write("open", begin)
        write("said", begin + "{\"user\":\"Hi\"}\n{\"piece\":\"Hel")
        write("cut", begin + "{\"user\":\"H")
        write("other", "not a journal\n")
        ChatFolder(folder.root).tidy("open.chat")
        assertEquals(setOf("open", "said", "cut", "other"), names())
    }

    @Test
    fun `a journal that cannot be read stays`() {
        // Reading it where nothing is mapped is an I/O error, for root, too.
        val unreadable = Path.of("/proc/self/mem")
        assumeTrue("no /proc: skipped", Files.exists(unreadable))
        Files.createSymbolicLink(File(folder.root, "1.chat").toPath(), unreadable)
        val chats = ChatFolder(folder.root)
        chats.tidy(null)
        assertEquals(setOf("1"), names())
        assertEquals(emptyList<SavedChat>(), chats.list())
    }

    private fun write(name: String, text: String) = File(folder.root, "$name.chat").writeText(text)

    private fun names() = folder.root.list().orEmpty().map { it.removeSuffix(".chat") }.toSet()
}
