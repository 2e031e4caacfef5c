package ai.thimble.app

import ai.thimble.app.logic.DownloadRow
import ai.thimble.app.logic.DownloadStatus
import ai.thimble.app.ui.DownloadsExits
import ai.thimble.app.ui.DownloadsScreen
import android.app.AlertDialog
import android.content.Intent
import android.view.View

/** Models to download. */
class DownloadsActivity : ScreenActivity(), DownloadsExits {
    private lateinit var screen: DownloadsScreen

    override fun build(): View {
        screen = DownloadsScreen(this, app.downloads, this)
        return screen.root
    }

    override suspend fun follow() {
        app.downloads.state.collect(screen::render)
    }

    override fun back() = finish()

    /** The screen below shows how far the copy is. */
    @Deprecated("The other way is in androidx")
    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        @Suppress("DEPRECATION") // As above.
        super.onActivityResult(request, result, data)
        if (result == RESULT_OK) finish()
    }

    override fun use(row: DownloadRow) {
        app.downloads.use(row)
        finish()
    }

    override fun delete(row: DownloadRow) {
        val question = if (row.status is DownloadStatus.Here) R.string.delete_model_question else R.string.stop_download_question
        AlertDialog.Builder(this)
            .setTitle(question)
            .setMessage(row.title)
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.delete) { _, _ -> app.downloads.delete(row) }
            .show()
    }
}
