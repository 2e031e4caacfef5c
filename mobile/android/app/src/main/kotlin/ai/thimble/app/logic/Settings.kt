package ai.thimble.app.logic

import ai.thimble.ChatOptions
import ai.thimble.KvCache
import ai.thimble.ModelOptions
import ai.thimble.Sampling
import java.io.File
import java.util.Properties

/** What the person chose; everything has a value that is good for most. */
data class Settings(
    /** 0 always takes the likeliest token. */
    val temperature: Float = 0.2f,
    /** Longest answer in tokens. */
    val maxTokens: Int = 512,
    /** System prompt of chats that begin from now on; none where empty. */
    val system: String = "",
    /** 0: as many as the system grants. */
    val threads: Int = 0,
    /** Half the threads, always. */
    val saver: Boolean = false,
    /** The KV cache in bytes in place of half precision. */
    val smallCache: Boolean = false,
    /** Downloads wait for a network that costs nothing by the byte. */
    val wifiOnly: Boolean = true,
    /** Name of the model's file; none where empty. */
    val model: String = "",
    /** Name of the journal that was open last; none where empty. */
    val chat: String = "",
) {
    /** For a model with at most [budget] bytes. */
    fun modelOptions(budget: Long?): ModelOptions =
        ModelOptions(
            budgetBytes = budget?.toULong(),
            threads = threads.takeIf { it > 0 }?.toUInt(),
            kvCache = if (smallCache) KvCache.Q8 else KvCache.F16,
        )

    /** For a chat with [journal], whose [keysAndValues] are kept while the app is away. */
    fun chatOptions(journal: File, keysAndValues: File): ChatOptions =
        ChatOptions(
            system = system.trim().ifEmpty { null },
            sampling = Sampling(temperature = temperature),
            maxTokens = maxTokens.toUInt(),
            journal = journal.path,
            kvFile = keysAndValues.path,
        )

    /** Whether a model that was opened for [other] will do. */
    fun sameModel(other: Settings): Boolean =
        model == other.model && threads == other.threads && smallCache == other.smallCache

    /** Whether a chat that was opened for [other] will do, with the same model. */
    fun sameChat(other: Settings): Boolean =
        chat == other.chat && temperature == other.temperature && maxTokens == other.maxTokens && system == other.system
}

/** The settings in a file; one that is missing or unreadable is as none. */
class SettingsFile(private val file: File) {
    fun read(): Settings {
        val text = Properties()
        runCatching { file.reader().use(text::load) }
        val standard = Settings()

        fun <T : Comparable<T>> number(key: String, parse: (String) -> T?, range: ClosedRange<T>, otherwise: T): T =
            text.getProperty(key)?.let(parse)?.takeIf { it in range } ?: otherwise
        return Settings(
            temperature = number("temperature", String::toFloatOrNull, 0f..2f, standard.temperature),
            maxTokens = number("maxTokens", String::toIntOrNull, 1..MOST_TOKENS, standard.maxTokens),
            system = text.getProperty("system", standard.system),
            threads = number("threads", String::toIntOrNull, 0..MOST_THREADS, standard.threads),
            saver = text.getProperty("saver").toBoolean(),
            smallCache = text.getProperty("smallCache").toBoolean(),
            wifiOnly = text.getProperty("wifiOnly", "${standard.wifiOnly}").toBoolean(),
            model = text.getProperty("model", standard.model),
            chat = text.getProperty("chat", standard.chat),
        )
    }

    /** Writes all settings, atomically. */
    fun write(settings: Settings) {
        val text = Properties()
        text["temperature"] = settings.temperature.toString()
        text["maxTokens"] = settings.maxTokens.toString()
        text["system"] = settings.system
        text["threads"] = settings.threads.toString()
        text["saver"] = settings.saver.toString()
        text["smallCache"] = settings.smallCache.toString()
        text["wifiOnly"] = settings.wifiOnly.toString()
        text["model"] = settings.model
        text["chat"] = settings.chat
        file.writeWhole { stream -> text.store(stream.writer(), null) }
    }

    companion object {
        const val MOST_TOKENS = 4096
        const val MOST_THREADS = 64
    }
}
