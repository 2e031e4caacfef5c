package ai.thimble.app

import ai.thimble.app.logic.ChatState
import ai.thimble.app.logic.ChatViewModel
import ai.thimble.app.logic.Source
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.provider.OpenableColumns
import android.view.View
import android.view.WindowInsetsController
import android.widget.Toast
import java.io.FileNotFoundException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch

/** A screen on the view model's state: it draws the state while it is seen, and keeps nothing of its own. */
abstract class ScreenActivity : Activity() {
    protected val app: ThimbleApp get() = application as ThimbleApp
    protected val viewModel: ChatViewModel get() = app.viewModel

    /** Ends with the screen. */
    protected val scope = CoroutineScope(SupervisorJob() + Dispatchers.Main.immediate)
    private var drawing: Job? = null

    /** Makes the views. */
    protected abstract fun build(): View

    /** Shows the state of the chat. */
    protected open fun render(state: ChatState) = Unit

    /** Shows states while the screen is seen. A flow of states leaves out those that a slow screen has missed. */
    protected open suspend fun follow() {
        viewModel.state.collect(::render)
    }

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(build())
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
            window.setDecorFitsSystemWindows(false)
            val light = if (resources.getBoolean(R.bool.light)) BAR_ICONS else 0
            window.insetsController?.setSystemBarsAppearance(light, BAR_ICONS)
        }
    }

    override fun onStart() {
        super.onStart()
        drawing = scope.launch { follow() }
    }

    override fun onStop() {
        drawing?.cancel()
        super.onStop()
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }

    /** Lets the person choose a model with the system's file picker. */
    fun pickModel() {
        val pick = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*")
        try {
            @Suppress("DEPRECATION") // The other way is in androidx.
            startActivityForResult(pick, PICK_MODEL)
        } catch (_: ActivityNotFoundException) {
            Toast.makeText(this, R.string.no_picker, Toast.LENGTH_LONG).show()
        }
    }

    @Deprecated("The other way is in androidx")
    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val uri = data?.data
        if (request == PICK_MODEL && result == RESULT_OK && uri != null) viewModel.importModel(source(uri))
    }

    private fun source(uri: Uri): Source {
        var name = uri.lastPathSegment ?: "model"
        var bytes: Long? = null
        contentResolver.query(uri, arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE), null, null, null)?.use {
            if (it.moveToFirst()) {
                name = it.getString(0) ?: name
                bytes = if (it.isNull(1)) null else it.getLong(1)
            }
        }
        val resolver = applicationContext.contentResolver
        return Source(name, bytes) { resolver.openInputStream(uri) ?: throw FileNotFoundException(name) }
    }

    private companion object {
        const val PICK_MODEL = 1
        const val BAR_ICONS = WindowInsetsController.APPEARANCE_LIGHT_STATUS_BARS or
            WindowInsetsController.APPEARANCE_LIGHT_NAVIGATION_BARS
    }
}
