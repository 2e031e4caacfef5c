package ai.thimble.app

import ai.thimble.app.logic.ChatState
import ai.thimble.app.logic.SavedModel
import ai.thimble.app.ui.SettingsExits
import ai.thimble.app.ui.SettingsScreen
import ai.thimble.app.ui.modelName
import android.app.AlertDialog
import android.content.Intent
import android.view.View

/** Models and settings. */
class SettingsActivity : ScreenActivity(), SettingsExits {
    private lateinit var screen: SettingsScreen

    override fun build(): View {
        screen = SettingsScreen(this, viewModel, this, Runtime.getRuntime().availableProcessors())
        return screen.root
    }

    override fun render(state: ChatState) = screen.render(state)

    override fun onStop() {
        screen.leave()
        super.onStop()
    }

    override fun back() = finish()

    override fun openDownloads() = startActivity(Intent(this, DownloadsActivity::class.java))

    override fun deleteModel(model: SavedModel) {
        AlertDialog.Builder(this)
            .setTitle(R.string.delete_model_question)
            .setMessage(modelName(model.name))
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.delete) { _, _ -> viewModel.deleteModel(model.name) }
            .show()
    }
}
