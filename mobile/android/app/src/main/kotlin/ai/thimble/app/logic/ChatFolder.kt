package ai.thimble.app.logic

import org.json.JSONException
import org.json.JSONObject
import java.io.File
import java.io.IOException

/** A chat that can be opened again. */
data class SavedChat(
    /** Of its journal. */
    val name: String,
    /** The first message. */
    val title: String,
    /** Time of the last message, in milliseconds since 1970. */
    val changed: Long,
)

/** The journals of all chats. */
class ChatFolder(private val folder: File, private val now: () -> Long = System::currentTimeMillis) {
    init {
        folder.made()
    }

    /** Chats that are not empty, the latest first. */
    fun list(): List<SavedChat> =
        journals().mapNotNull { file -> title(file)?.let { SavedChat(file.name, it, file.lastModified()) } }
            .sortedByDescending { it.changed }

    /** Where the chat of this name is. */
    fun file(name: String): File = File(folder, name)

    /** A name that no chat has had. */
    fun fresh(): String =
        generateSequence(now()) { it + 1 }.map { "$it$SUFFIX" }.first { !file(it).exists() }

    /** Deletes a chat, if it exists. */
    fun delete(name: String) {
        file(name).delete()
    }

    /** Deletes empty chats, except for the one that is open. What cannot be read or understood stays. */
    fun tidy(open: String?) {
        journals().filter { it.name != open && isEmpty(it) }.forEach { it.delete() }
    }

    /** Whether a chat has no messages. */
    fun isEmpty(name: String): Boolean = file(name).let { it.isFile && isEmpty(it) }

    private fun isEmpty(file: File): Boolean =
        try {
            file.useLines { lines -> lines.all { it.startsWith(BEGIN) && isJson(it) } }
        } catch (_: IOException) {
            false
        }

    private fun isJson(line: String): Boolean =
        try {
            JSONObject(line)
            true
        } catch (_: JSONException) {
            false
        }

    private fun journals(): List<File> =
        folder.listFiles { file -> file.isFile && file.name.endsWith(SUFFIX) }.orEmpty().toList()

    /** The first message of a journal, whose lines are JSON objects with one key: `{"user":"..."}`. */
    private fun title(file: File): String? =
        runCatching {
            file.useLines { lines -> lines.firstNotNullOfOrNull(::message) }
        }.getOrNull()

    private fun message(line: String): String? =
        try {
            if (line.startsWith("{\"user\"")) JSONObject(line).getString("user").trim().take(LONGEST_TITLE) else null
        } catch (_: JSONException) {
            // The last line of an app that was killed.
            null
        }

    private companion object {
        const val SUFFIX = ".chat"
        const val BEGIN = "{\"begin\":"
        const val LONGEST_TITLE = 120
    }
}
