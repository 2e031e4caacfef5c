package ai.thimble.app

import ai.thimble.app.logic.ChatState
import ai.thimble.app.logic.SavedChat
import ai.thimble.app.ui.ChatsScreen
import android.app.AlertDialog
import android.view.View
import kotlinx.coroutines.launch

/** The saved chats. */
class ChatsActivity : ScreenActivity() {
    private lateinit var screen: ChatsScreen

    override fun build(): View {
        screen = ChatsScreen(this, ::open, ::ask, back = ::finish, new = ::begin)
        return screen.root
    }

    override fun render(state: ChatState) {
        scope.launch { screen.render(viewModel.chats(), state.chat) }
    }

    private fun open(chat: SavedChat) {
        if (chat.name != viewModel.state.value.chat) viewModel.openChat(chat.name)
        finish()
    }

    private fun begin() {
        viewModel.newChat()
        finish()
    }

    private fun ask(chat: SavedChat) {
        AlertDialog.Builder(this)
            .setTitle(R.string.delete_chat_question)
            .setMessage(chat.title)
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.delete) { _, _ -> delete(chat) }
            .show()
    }

    private fun delete(chat: SavedChat) {
        viewModel.deleteChat(chat.name)
        render(viewModel.state.value)
    }
}
