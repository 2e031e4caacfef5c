package ai.thimble.app.ui

import ai.thimble.app.R
import ai.thimble.app.logic.SavedChat
import android.content.Context
import android.text.TextUtils
import android.text.format.DateUtils
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.LinearLayout
import android.widget.ScrollView

/** The saved chats, the latest first. */
internal class ChatsScreen(
    private val context: Context,
    private val open: (SavedChat) -> Unit,
    private val delete: (SavedChat) -> Unit,
    back: () -> Unit,
    new: () -> Unit,
) {
    private val list = context.column().apply { setPadding(context.dp(8), 0, context.dp(8), context.dp(16)) }
    private val none = context.text(16, R.color.text_secondary).apply {
        text = context.getString(R.string.no_chats)
        setPadding(context.dp(16), context.dp(24), context.dp(16), context.dp(24))
    }

    val root: LinearLayout = context.column().apply {
        setBackgroundColor(context.getColor(R.color.background))
        keepClearOfBars()
        val bar = TopBar(context)
        bar.title.text = context.getString(R.string.chats)
        bar.atStart(R.drawable.ic_back, R.string.back, View.NO_ID, back)
        bar.atEnd(R.drawable.ic_new, R.string.new_chat, R.id.new_chat, new)
        addView(bar.root)
        addView(ScrollView(context).apply { addView(list) }, linear(height = 0, weight = 1f))
    }

    fun render(chats: List<SavedChat>, current: String?) {
        list.removeAllViews()
        if (chats.isEmpty()) list.addView(none)
        chats.forEach { list.addView(row(it, it.name == current)) }
    }

    private fun since(time: Long): CharSequence {
        val now = System.currentTimeMillis()
        if (now - time < DateUtils.MINUTE_IN_MILLIS) return context.getString(R.string.just_now)
        return DateUtils.getRelativeTimeSpanString(time, now, DateUtils.MINUTE_IN_MILLIS)
    }

    private fun row(chat: SavedChat, current: Boolean): View {
        val title = context.text(16).apply {
            text = chat.title
            maxLines = 2
            ellipsize = TextUtils.TruncateAt.END
        }
        val date = context.text(13, R.color.text_secondary).apply {
            text = since(chat.changed)
        }
        val words = context.column().apply {
            addView(title)
            addView(date, linear().margins(top = context.dp(2)))
        }
        val remove = context.iconButton(
            R.drawable.ic_delete,
            context.getString(R.string.delete_chat, chat.title),
            R.color.text_secondary,
        )
        remove.setOnClickListener { delete(chat) }
        return context.row().apply {
            background = context.ripple(if (current) context.rounded(R.color.bubble, 16) else null)
            isSelected = current
            isClickable = true
            isFocusable = true
            minimumHeight = context.dp(64)
            setPaddingRelative(context.dp(16), context.dp(8), context.dp(4), context.dp(8))
            setOnClickListener { open(chat) }
            accessibilityDelegate = ButtonRole
            addView(words, linear(0, WRAP_CONTENT, 1f))
            addView(remove, linear(context.dp(TOUCH), context.dp(TOUCH)))
        }
    }
}
