package ai.thimble.app.ui

import ai.thimble.app.R
import ai.thimble.app.logic.Answering
import ai.thimble.app.logic.ChatState
import ai.thimble.app.logic.ShownMessage
import android.content.ClipData
import android.content.ClipboardManager
import android.content.Context
import android.os.Build
import android.view.Gravity
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.FrameLayout
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import android.widget.Toast

/** The conversation, which follows the answer while the person has not scrolled away from it. */
internal class MessageList(private val context: Context, private val retry: () -> Unit) {
    private val column: LinearLayout = context.column()
    private val rows = mutableListOf<Row>()
    private val answer = answerView().apply { id = R.id.answer }
    private val actions = actions()
    private var answering = false

    /** Whether the end is on the screen, and stays there when something grows: the answer, the keyboard, the draft. */
    private var following = true

    val root = ScrollView(context).apply {
        isFillViewport = true
        isVerticalFadingEdgeEnabled = true
        setFadingEdgeLength(context.dp(24))
        clipToPadding = false
        addView(column)
    }

    private class Row(val message: ShownMessage, val view: View)

    init {
        column.setPadding(context.dp(20), context.dp(8), context.dp(20), context.dp(16))
        val stay = View.OnLayoutChangeListener { _, _, _, _, _, _, _, _, _ ->
            if (following) root.scrollTo(0, column.height)
        }
        column.addOnLayoutChangeListener(stay)
        root.addOnLayoutChangeListener(stay)
        root.setOnScrollChangeListener { _, _, _, _, _ -> following = !root.canScrollVertically(1) }
        column.addView(answer, linear().margins(top = context.dp(12)))
        column.addView(actions, linear().margins(start = context.dp(-12)))
    }

    fun render(state: ChatState) {
        // Who asks wants to see the answer.
        if (state.answer != null && !answering) following = true
        reconcile(state.messages)
        showAnswer(state.answer)
        actions.shown = state.canRetry
        answering = state.answer != null
    }

    /** Keeps the rows that are right already: no view is made anew while an answer grows. */
    private fun reconcile(messages: List<ShownMessage>) {
        val same = rows.zip(messages).takeWhile { (row, message) -> row.message == message }.size
        rows.drop(same).forEach { column.removeView(it.view) }
        rows.subList(same, rows.size).clear()
        for (message in messages.drop(same)) {
            val view = if (message.fromUser) bubble(message.text) else answerView().also { write(it, message.text) }
            column.addView(view, rows.size, placed(message))
            rows += Row(message, view)
        }
        // The screen reader says a new answer once, when it is whole.
        rows.forEachIndexed { index, row ->
            val last = index == rows.lastIndex && !row.message.fromUser && answering
            row.view.accessibilityLiveRegion =
                if (last) View.ACCESSIBILITY_LIVE_REGION_POLITE else View.ACCESSIBILITY_LIVE_REGION_NONE
        }
    }

    private fun showAnswer(answer: Answering?) {
        this.answer.shown = answer != null
        if (answer == null) return
        if (answer.text.isNotEmpty()) {
            this.answer.accessibilityLiveRegion = View.ACCESSIBILITY_LIVE_REGION_NONE
            this.answer.setTextColor(context.getColor(R.color.text))
            write(this.answer, answer.text)
            return
        }
        val words = answer.reading?.let { context.getString(R.string.reading, it) }
        this.answer.accessibilityLiveRegion = View.ACCESSIBILITY_LIVE_REGION_POLITE
        this.answer.setTextColor(context.getColor(R.color.text_secondary))
        this.answer.contentDescription = null
        this.answer.say(words ?: context.getString(R.string.thinking))
    }

    private fun write(view: TextView, words: String) {
        view.text = markdown(words, view.paint)
        view.contentDescription = context.getString(R.string.answer_says, view.text)
    }

    private fun placed(message: ShownMessage): LinearLayout.LayoutParams =
        linear().margins(top = context.dp(if (message.fromUser) 20 else 12))

    private fun answerView(): TextView =
        context.text(16).apply {
            setTextIsSelectable(true)
            setLineSpacing(0f, LINES)
        }

    private fun bubble(words: String): View {
        val text = context.text(16).apply {
            text = words
            contentDescription = context.getString(R.string.you_said, words)
            setTextIsSelectable(true)
            setLineSpacing(0f, LINES)
            background = context.rounded(R.color.bubble, 20)
            setPadding(context.dp(16), context.dp(10), context.dp(16), context.dp(10))
        }
        return FrameLayout(context).apply {
            // Room at the start tells whose words these are.
            setPaddingRelative(context.dp(48), 0, 0, 0)
            addView(text, FrameLayout.LayoutParams(WRAP_CONTENT, WRAP_CONTENT, Gravity.END))
        }
    }

    private fun actions(): View =
        context.row().apply {
            val copy = context.iconButton(R.drawable.ic_copy, context.getString(R.string.copy), R.color.text_secondary)
            copy.setOnClickListener { copy() }
            val again = context.iconButton(R.drawable.ic_retry, context.getString(R.string.retry), R.color.text_secondary)
            again.id = R.id.retry
            again.setOnClickListener { retry() }
            addView(copy, linear(WRAP_CONTENT))
            addView(again, linear(WRAP_CONTENT))
        }

    private fun copy() {
        val words = rows.lastOrNull()?.message?.text ?: return
        val clipboard = context.getSystemService(ClipboardManager::class.java)
        clipboard?.setPrimaryClip(ClipData.newPlainText(context.getString(R.string.app_name), words))
        // Android 13 and later tell it themselves.
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU) {
            Toast.makeText(context, R.string.copied, Toast.LENGTH_SHORT).show()
        }
    }

    private companion object {
        const val LINES = 1.18f
    }
}
