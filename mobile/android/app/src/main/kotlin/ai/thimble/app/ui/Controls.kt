package ai.thimble.app.ui

import ai.thimble.app.R
import android.content.Context
import android.content.res.ColorStateList
import android.text.SpannableStringBuilder
import android.text.Spanned
import android.text.style.ForegroundColorSpan
import android.text.style.RelativeSizeSpan
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.LinearLayout
import android.widget.SeekBar
import android.widget.Switch

/** A slider from 0 to [most], with a name and words for each of its values. */
internal class Slider(val name: Int, val id: Int, val most: Int, val value: Int, val words: (Int) -> String)

/** What settings are made of. */
internal class Controls(private val context: Context) {
    /** Settings that belong together, on a card. */
    fun section(name: Int, fill: LinearLayout.() -> Unit): View =
        context.column().apply {
            val title = context.heading(14, context.getString(name))
            title.setTextColor(context.getColor(R.color.accent))
            addView(title, linear().margins(start = context.dp(16), top = context.dp(20), bottom = context.dp(8)))
            val card = context.column().apply {
                background = context.rounded(R.color.surface, 20, R.color.line)
                setPadding(context.dp(16), context.dp(8), context.dp(16), context.dp(8))
                fill()
            }
            addView(card)
        }

    /** Calls [change] while it is moved by hand. */
    fun slider(slider: Slider, change: (Int) -> Unit): View {
        val name = context.text(16)
        name.setText(slider.name)
        val value = context.text(14, R.color.text_secondary)
        val bar = SeekBar(context).apply {
            id = slider.id
            max = slider.most
            progress = slider.value
            minimumHeight = context.dp(TOUCH)
            progressTintList = ColorStateList.valueOf(context.getColor(R.color.accent))
            thumbTintList = progressTintList
            contentDescription = context.getString(slider.name)
        }

        fun tell(step: Int) {
            value.say(slider.words(step))
            if (android.os.Build.VERSION.SDK_INT >= android.os.Build.VERSION_CODES.R) bar.stateDescription = value.text
        }
        tell(slider.value)
        bar.setOnSeekBarChangeListener(object : SeekBar.OnSeekBarChangeListener {
            override fun onProgressChanged(bar: SeekBar, progress: Int, fromUser: Boolean) {
                tell(progress)
                if (fromUser && !bar.isPressed) change(progress)
            }

            override fun onStartTrackingTouch(bar: SeekBar) = Unit

            override fun onStopTrackingTouch(bar: SeekBar) = change(bar.progress)
        })
        return context.column().apply {
            setPadding(0, context.dp(8), 0, 0)
            addView(name)
            addView(value, linear().margins(top = context.dp(2)))
            addView(bar, linear())
        }
    }

    /** A switch with a line that says what it does. */
    fun toggle(name: Int, explanation: Int, on: Boolean, change: (Boolean) -> Unit): View =
        Switch(context).apply {
            text = twoLines(context.getString(name), context.getString(explanation))
            textSize = 16f
            setTextColor(context.getColor(R.color.text))
            isChecked = on
            minHeight = context.dp(TOUCH)
            setPadding(0, context.dp(10), 0, context.dp(10))
            setOnCheckedChangeListener { _, checked -> change(checked) }
        }

    /** A line with a smaller one under it. */
    fun twoLines(first: CharSequence, second: CharSequence): CharSequence =
        SpannableStringBuilder(first).append('\n').also { text ->
            val from = text.length
            text.append(second)
            text.setSpan(RelativeSizeSpan(SMALLER), from, text.length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
            val color = ForegroundColorSpan(context.getColor(R.color.text_secondary))
            text.setSpan(color, from, text.length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
        }

    private companion object {
        const val SMALLER = 0.84f
    }
}
