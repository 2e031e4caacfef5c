package ai.thimble.app.logic

import ai.thimble.download.ModelSource
import org.json.JSONArray
import org.json.JSONObject

/** A model that the app offers; its length is about that of the file. */
data class Offer(val source: ModelSource, val title: String, val bytes: Long)

/** The models that the app offers to download. */
class Catalogue(val offers: List<Offer>) {
    companion object {
        /**
         * Reads `res/raw/catalogue.json`: the address of a folder on a server and the names of its models, whose files are
         * called as `thimble pull` calls them. Without an address nothing is offered.
         */
        fun parse(text: String): Catalogue {
            val json = JSONObject(text)
            val folder = json.getString("folder").trimEnd('/')
            if (folder.isEmpty()) return Catalogue(emptyList())
            return Catalogue(json.getJSONArray("models").objects().map { offer(folder, it) })
        }

        private fun offer(folder: String, model: JSONObject): Offer {
            val name = model.getString("name")
            val sha256 = model.optString("sha256").ifEmpty { null }
            val file = name.replace("/", "--") + ModelSource.SUFFIX
            return Offer(
                ModelSource(name, "$folder/$file", sha256),
                model.getString("title"),
                model.getLong("bytes"),
            )
        }

        private fun JSONArray.objects(): List<JSONObject> = (0 until length()).map(::getJSONObject)
    }
}
