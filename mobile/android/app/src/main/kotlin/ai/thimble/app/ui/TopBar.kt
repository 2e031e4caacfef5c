package ai.thimble.app.ui

import ai.thimble.app.R
import android.content.Context
import android.text.TextUtils
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.LinearLayout
import android.widget.TextView

/** The row at the top of a screen: a button, a title with a line under it, more buttons. */
internal class TopBar(private val context: Context) {
    private val end = context.row()
    private val start = context.row()

    val title: TextView = context.heading(18, "").apply {
        id = R.id.title
        maxLines = 1
        ellipsize = TextUtils.TruncateAt.END
    }

    val subtitle: TextView = context.text(13, R.color.text_secondary).apply {
        maxLines = 1
        ellipsize = TextUtils.TruncateAt.END
        shown = false
    }

    val root: LinearLayout = context.row().apply {
        minimumHeight = context.dp(56)
        setPadding(context.dp(8), context.dp(4), context.dp(8), context.dp(4))
        addView(start, linear(WRAP_CONTENT))
        val words = context.column().apply {
            addView(title)
            addView(subtitle)
        }
        addView(words, linear(0, WRAP_CONTENT, 1f).margins(start = context.dp(8), end = context.dp(8)))
        addView(end, linear(WRAP_CONTENT))
    }

    fun atStart(icon: Int, description: Int, id: Int, act: () -> Unit) = add(start, icon, description, id, act)

    fun atEnd(icon: Int, description: Int, id: Int, act: () -> Unit) = add(end, icon, description, id, act)

    private fun add(row: LinearLayout, icon: Int, description: Int, id: Int, act: () -> Unit): View {
        val button = context.iconButton(icon, context.getString(description))
        button.id = id
        button.setOnClickListener { act() }
        row.addView(button, linear(context.dp(TOUCH), context.dp(TOUCH)))
        return button
    }
}
