package ai.thimble.app.ui

import ai.thimble.app.R
import ai.thimble.app.logic.ChatState
import android.content.Context
import android.content.res.ColorStateList
import android.text.Editable
import android.text.InputType
import android.text.TextWatcher
import android.util.TypedValue
import android.view.Gravity
import android.view.KeyEvent
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.view.inputmethod.EditorInfo
import android.widget.EditText

/** Where the message is written, with the button that sends it or stops the answer. */
internal class Composer(
    private val context: Context,
    private val send: (String) -> Boolean,
    private val stop: () -> Unit,
) {
    private val draft = EditText(context).apply {
        id = R.id.draft
        hint = context.getString(R.string.message_hint)
        background = null
        setTextSize(TypedValue.COMPLEX_UNIT_SP, 16f)
        setTextColor(context.getColor(R.color.text))
        setHintTextColor(context.getColor(R.color.text_secondary))
        setPaddingRelative(context.dp(18), context.dp(12), context.dp(4), context.dp(12))
        inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_FLAG_MULTI_LINE or
            InputType.TYPE_TEXT_FLAG_CAP_SENTENCES or InputType.TYPE_TEXT_FLAG_AUTO_CORRECT
        imeOptions = EditorInfo.IME_ACTION_SEND or EditorInfo.IME_FLAG_NO_EXTRACT_UI
        maxLines = 6
        minHeight = context.dp(TOUCH)
        setOnEditorActionListener { _, action, _ -> (action == EditorInfo.IME_ACTION_SEND).also { if (it) submit() } }
        setOnKeyListener { _, key, event ->
            // A keyboard's own Enter sends, with Shift it begins a line.
            val enter = key == KeyEvent.KEYCODE_ENTER && !event.isShiftPressed
            if (enter && event.action == KeyEvent.ACTION_DOWN) submit()
            enter
        }
        addTextChangedListener(object : TextWatcher {
            override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit

            override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit

            override fun afterTextChanged(text: Editable) = renderButton()
        })
    }

    private val button = context.iconButton(R.drawable.ic_send, context.getString(R.string.send)).apply {
        id = R.id.send
        setOnClickListener { if (state.answer != null) stop() else submit() }
    }

    private var state = ChatState()

    val root = context.row().apply {
        gravity = Gravity.BOTTOM
        background = context.rounded(R.color.surface, 28, R.color.line)
        setPadding(context.dp(4), context.dp(4), context.dp(4), context.dp(4))
        addView(draft, linear(0, WRAP_CONTENT, 1f))
        addView(button, linear(context.dp(TOUCH), context.dp(TOUCH)))
    }

    fun render(state: ChatState) {
        this.state = state
        renderButton()
    }

    /** Puts words into the field unless something is there. */
    fun offer(words: String) {
        if (draft.text.isNotBlank()) return
        draft.setText(words)
        draft.setSelection(draft.length())
    }

    private fun submit() {
        if (send(draft.text.toString())) draft.text.clear()
    }

    private fun renderButton() {
        val stops = state.answer != null
        button.setImageResource(if (stops) R.drawable.ic_stop else R.drawable.ic_send)
        button.contentDescription = context.getString(if (stops) R.string.stop else R.string.send)
        button.tooltipText = button.contentDescription
        val usable = stops || (state.ready && draft.text.isNotBlank())
        button.isEnabled = usable
        val fill = context.rounded(if (usable) R.color.accent else R.color.line, 24)
        button.background = context.ripple(fill, circle = true)
        button.imageTintList =
            ColorStateList.valueOf(context.getColor(if (usable) R.color.on_accent else R.color.text_secondary))
    }
}
