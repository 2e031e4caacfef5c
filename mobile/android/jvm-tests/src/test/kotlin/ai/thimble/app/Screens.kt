package ai.thimble.app

import ai.thimble.app.logic.Catalogue
import ai.thimble.app.logic.ChatState
import ai.thimble.app.logic.Device
import ai.thimble.download.Download
import ai.thimble.download.DownloadScheduler
import ai.thimble.download.Downloader
import ai.thimble.download.ModelDownloads
import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.ImageView
import android.widget.TextView
import org.robolectric.Shadows.shadowOf
import java.io.File

/** The app with models that a test scripts; one of them was imported already. */
class FakeApp : ThimbleApp() {
    val library = FakeLibrary()

    override fun device(): Device {
        val files = File(filesDir, "thimble")
        if (!empty) File(files, "models/SmolLM2-135M-Instruct.thimble").apply { parentFile?.mkdirs() }.writeText("a model")
        return Device(files, budget = { 4_000_000_000 }, memory = { 214_000_000 }, open = library::open)
    }

    /** Downloads that run when a test says so. */
    override fun makeDownloads(): ModelDownloads =
        ModelDownloads(File(filesDir, "thimble/models"), scheduler, Downloader(verify = {}, pause = 1))

    override fun catalogue(): Catalogue = catalogue

    val scheduler = HeldScheduler()

    companion object {
        /** Whether the next app has no model. */
        var empty = false

        /** What the next app offers. */
        var catalogue = Catalogue(emptyList())
    }
}

/** Runs nothing by itself. */
class HeldScheduler : DownloadScheduler {
    override fun schedule(download: Download) = Unit

    override fun cancel(name: String) = Unit
}

/** Lets the main thread work until the app is in a state; other threads may have to do their part first. */
fun ThimbleApp.until(condition: (ChatState) -> Boolean): ChatState {
    repeat(WAITS) {
        settle()
        if (condition(viewModel.state.value)) {
            settle()
            return viewModel.state.value
        }
        Thread.sleep(5)
    }
    error("never came: ${viewModel.state.value}")
}

/** Lets the main thread do all that waits. */
fun settle() = shadowOf(Looper.getMainLooper()).idle()

private const val WAITS = 2000

/** What a screen shows, a line for each view that is shown: its kind, its text, what the screen reader says. */
fun tree(view: View, depth: Int = 0): String {
    if (view.visibility != View.VISIBLE) return ""
    val said = view.contentDescription?.let { " says \"$it\"" }.orEmpty()
    val text = (view as? TextView)?.run { text.ifEmpty { hint } }?.let { " \"$it\"" }.orEmpty()
    val box = " ${view.width}x${view.height}"
    val line = "${"  ".repeat(depth)}${view.javaClass.simpleName}$box$text$said\n"
    return line + children(view).joinToString("") { tree(it, depth + 1) }
}

/** All views that are shown. */
fun views(view: View): List<View> {
    if (view.visibility != View.VISIBLE) return emptyList()
    return listOf(view) + children(view).flatMap(::views)
}

private fun children(view: View): List<View> =
    (view as? ViewGroup)?.let { group -> (0 until group.childCount).map(group::getChildAt) }.orEmpty()

/** What can be touched or seen and the screen reader has no words for, or is too small for a finger. */
fun unreachable(root: View): List<String> =
    views(root).filter { view ->
        val image = view is ImageView && view.isImportantForAccessibility && view.contentDescription.isNullOrBlank()
        val touch = 48 * view.resources.displayMetrics.density - 1
        val small = view.isClickable && view.hasOnClickListeners() && (view.width < touch || view.height < touch)
        image || small
    }.map { tree(it) }

/** Draws the screen into the folder of screenshots, with its view tree beside it. */
fun shoot(activity: Activity, name: String) {
    settle()
    val folder = File(System.getProperty("screenshots") ?: "target/screenshots").apply { mkdirs() }
    val root = activity.window.decorView
    val picture = Bitmap.createBitmap(root.width, root.height, Bitmap.Config.ARGB_8888)
    root.draw(Canvas(picture))
    File(folder, "$name.png").outputStream().use { picture.compress(Bitmap.CompressFormat.PNG, 100, it) }
    File(folder, "$name.txt").writeText(tree(root))
}
