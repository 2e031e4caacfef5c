package ai.thimble.download

import java.net.URI

/**
 * A model file on a server.
 *
 * @throws IllegalArgumentException a name, address or checksum that is none
 */
data class ModelSource(
    /** As `thimble list` shows it: of the catalogue, such as `smollm2-135m-instruct`, or of a repository, `owner/name`. */
    val name: String,
    /** Address of the `.thimble` file, http or https. */
    val url: String,
    /** SHA-256 of the file in hexadecimal. Without it the one that a hub announces counts, where it does. */
    val sha256: String? = null,
) {
    init {
        require(SAFE_NAME.matches(name) && name.length <= LONGEST_NAME) {
            "expected the name of a model, such as smollm2-135m-instruct or owner/name, found \"$name\""
        }
        val address = runCatching { URI(url) }.getOrNull()
        require(address?.scheme?.lowercase() in SCHEMES && !address?.host.isNullOrEmpty()) {
            "expected an address that begins with https://, found \"$url\""
        }
        require(sha256 == null || SHA256.matches(sha256)) {
            "expected a SHA-256 of 64 hexadecimal digits, found \"$sha256\""
        }
    }

    /** Name of the model's file, the same as `thimble pull` gives it. */
    val fileName: String get() = fileName(name)

    companion object {
        /** The address of the Hugging Face hub. */
        const val HUB = "https://huggingface.co"

        /** What a model's file name ends in. */
        const val SUFFIX = ".thimble"

        private const val LONGEST_NAME = 120
        private val SCHEMES = setOf("http", "https")
        private val SAFE_NAME = Regex("[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?")
        internal val SHA256 = Regex("[0-9a-fA-F]{64}")

        /**
         * A file of a repository on a hub, at a [revision]: a branch, a tag or, so that it never changes, a commit.
         *
         * @throws IllegalArgumentException as the constructor
         */
        fun hub(
            repository: String,
            file: String,
            name: String = repository,
            revision: String = "main",
            sha256: String? = null,
            endpoint: String = HUB,
        ): ModelSource {
            val at = escape(revision).replace("/", "%2F")
            return ModelSource(name, "${endpoint.trimEnd('/')}/${escape(repository)}/resolve/$at/${escape(file)}", sha256)
        }

        /** Names of repositories have no `--`, so two models never share a file. */
        internal fun fileName(name: String): String = name.replace("/", "--") + SUFFIX

        /** Percent-encodes all but slashes and what RFC 3986, 2.3, leaves as it is. */
        private fun escape(text: String): String =
            text.toByteArray().joinToString("") { byte ->
                val char = Char(byte.toInt() and 0xff)
                if (char.code < 128 && (char.isLetterOrDigit() || char in "-_.~/")) "$char" else "%%%02X".format(byte)
            }
    }
}
