package ai.thimble.app

import ai.thimble.app.logic.ChatState
import ai.thimble.app.ui.ChatExits
import ai.thimble.app.ui.ChatScreen
import android.content.Intent
import android.view.View

/** The conversation. */
class ChatActivity : ScreenActivity(), ChatExits {
    private lateinit var screen: ChatScreen

    override fun build(): View {
        screen = ChatScreen(this, viewModel, this)
        return screen.root
    }

    override fun render(state: ChatState) = screen.render(state)

    override fun openChats() = startActivity(Intent(this, ChatsActivity::class.java))

    override fun openDownloads() = startActivity(Intent(this, DownloadsActivity::class.java))

    override fun openForms() = startActivity(Intent(this, FormsActivity::class.java))

    override fun openSettings() = startActivity(Intent(this, SettingsActivity::class.java))
}
