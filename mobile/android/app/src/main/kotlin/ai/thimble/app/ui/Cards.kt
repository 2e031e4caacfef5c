package ai.thimble.app.ui

import ai.thimble.app.R
import ai.thimble.app.logic.Importing
import ai.thimble.app.logic.Problem
import android.content.Context
import android.content.res.ColorStateList
import android.view.Gravity
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.ScrollView

/** What went wrong, until it is dismissed. */
internal class ProblemCard(private val context: Context, dismiss: () -> Unit) {
    private val words = context.text(15, R.color.on_warning).apply {
        id = R.id.problem
        accessibilityLiveRegion = View.ACCESSIBILITY_LIVE_REGION_ASSERTIVE
    }

    val root = context.row().apply {
        background = context.rounded(R.color.warning, 16)
        setPaddingRelative(context.dp(16), context.dp(6), context.dp(4), context.dp(6))
        addView(words, linear(0, WRAP_CONTENT, 1f))
        val close = context.iconButton(R.drawable.ic_close, context.getString(R.string.dismiss), R.color.on_warning)
        close.setOnClickListener { dismiss() }
        addView(close, linear(context.dp(TOUCH), context.dp(TOUCH)))
    }

    fun render(problem: Problem?) {
        root.shown = problem != null
        problem?.let { words.say(context.words(it)) }
    }
}

/** A model that is being copied. */
internal class ImportCard(private val context: Context, cancel: () -> Unit) {
    private val words = context.text(15)
    private val bar = ProgressBar(context, null, android.R.attr.progressBarStyleHorizontal).apply {
        id = R.id.import_progress
        max = 100
        progressTintList = ColorStateList.valueOf(context.getColor(R.color.accent))
        indeterminateTintList = ColorStateList.valueOf(context.getColor(R.color.accent))
    }

    val root = context.column().apply {
        background = context.rounded(R.color.surface, 16, R.color.line)
        setPadding(context.dp(16), context.dp(12), context.dp(16), context.dp(4))
        addView(words)
        addView(bar, linear().margins(top = context.dp(6)))
        val button = context.textButton(context.getString(R.string.cancel), filled = false)
        button.id = R.id.import_cancel
        button.background = context.ripple(null)
        button.setOnClickListener { cancel() }
        addView(button, linear(WRAP_CONTENT).apply { gravity = Gravity.END })
    }

    fun render(importing: Importing?) {
        root.shown = importing != null
        if (importing == null) return
        words.say(context.getString(R.string.importing, importing.name))
        val percent = importing.percent
        bar.isIndeterminate = percent == null
        bar.progress = percent ?: 0
        bar.contentDescription = words.text
    }
}

/** What a screen shows in place of messages: a title, a text and what can be done. */
internal class EmptyCard(private val context: Context) {
    private val title = context.heading(24, "").apply { gravity = Gravity.CENTER }
    private val words = context.text(16, R.color.text_secondary).apply {
        gravity = Gravity.CENTER
        setLineSpacing(0f, 1.15f)
    }
    private val mark = ImageView(context).apply {
        setImageResource(R.drawable.ic_launcher_foreground)
        background = context.rounded(R.color.launcher, 24)
        scaleType = ImageView.ScaleType.CENTER
        clipToOutline = true
        importantForAccessibility = View.IMPORTANT_FOR_ACCESSIBILITY_NO
    }
    private val buttons = context.column().apply { gravity = Gravity.CENTER_HORIZONTAL }

    private val column: LinearLayout = context.column().apply {
        gravity = Gravity.CENTER
        setPadding(context.dp(32), context.dp(24), context.dp(32), context.dp(24))
        // A turned phone has no room for it.
        mark.shown = context.resources.configuration.screenHeightDp >= TALL
        addView(mark, linear(context.dp(72), context.dp(72)).margins(bottom = context.dp(20)))
        addView(title)
        addView(words, linear().margins(top = context.dp(8)))
        addView(buttons, linear().margins(top = context.dp(20)))
    }

    /** Scrolls where the font is large and the screen small. */
    val root = ScrollView(context).apply {
        isFillViewport = true
        addView(column)
    }

    /** What is shown now, so that buttons are made only when they change. */
    private var content: List<Any> = emptyList()

    fun render(heading: String, text: String, actions: List<Action>) {
        val next = listOf(heading, text) + actions.map { it.words }
        if (next == content) return
        content = next
        title.say(heading)
        words.say(text)
        buttons.removeAllViews()
        for (action in actions) {
            val button = context.textButton(action.words, action.filled)
            button.id = action.id
            button.setOnClickListener { action.act() }
            buttons.addView(button, linear(WRAP_CONTENT).margins(top = context.dp(10)))
        }
    }

    class Action(val words: String, val filled: Boolean, val id: Int, val act: () -> Unit)

    private companion object {
        const val TALL = 480
    }
}
