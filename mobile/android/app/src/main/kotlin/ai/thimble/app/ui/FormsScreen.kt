package ai.thimble.app.ui

import ai.thimble.app.R
import ai.thimble.app.logic.ContactForm
import ai.thimble.app.logic.EventForm
import ai.thimble.app.logic.Form
import ai.thimble.app.logic.FormKind
import ai.thimble.app.logic.FormsState
import ai.thimble.app.logic.FormsViewModel
import android.content.Context
import android.content.res.ColorStateList
import android.text.InputType
import android.util.TypedValue
import android.view.Gravity
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.ScrollView

/** Where the forms lead. */
internal interface FormsExits {
    fun back()

    /** Saves the fields of a form, in their order. */
    fun save(kind: FormKind, fields: List<String>)

    fun copy(text: String)
}

/** A text, and the form that the model fills in from it, to be corrected and saved. */
internal class FormsScreen(
    private val context: Context,
    private val viewModel: FormsViewModel,
    private val exits: FormsExits,
) {
    private val controls = Controls(context)
    private val problem = ProblemCard(context, viewModel::dismiss)
    private val source = field(R.string.form_text_hint).apply {
        id = R.id.form_text
        minLines = LEAST_LINES
        maxLines = MOST_LINES
        gravity = Gravity.TOP or Gravity.START
    }
    private val kinds = RadioGroup(context).apply {
        orientation = RadioGroup.HORIZONTAL
        FormKind.entries.forEach { kind -> addView(choice(kind)) }
        setOnCheckedChangeListener { _, id -> FormKind.entries.firstOrNull { buttonId(it) == id }?.let(viewModel::choose) }
    }
    private val fill = context.textButton(context.getString(R.string.form_fill), filled = true).apply {
        id = R.id.form_fill
        setOnClickListener { viewModel.fill(source.text.toString()) }
    }
    private val busy = ProgressBar(context).apply {
        indeterminateTintList = ColorStateList.valueOf(context.getColor(R.color.accent))
        contentDescription = context.getString(R.string.form_working)
        shown = false
    }
    private val fields = context.column()
    private val save = context.textButton("", filled = true).apply {
        id = R.id.form_save
        setOnClickListener { exits.save(shownKind, values()) }
    }
    private val result = controls.section(R.string.form_result) {
        addView(fields)
        val copy = context.textButton(context.getString(R.string.form_copy), filled = false)
        copy.setOnClickListener { exits.copy(asText()) }
        val row = context.row().apply {
            addView(save, linear(WRAP_CONTENT))
            addView(copy, linear(WRAP_CONTENT).margins(start = context.dp(8)))
        }
        addView(row, linear().margins(top = context.dp(12), bottom = context.dp(8)))
    }

    private var shownKind = FormKind.EVENT
    private var shownForm: Form? = null
    private val inputs = mutableListOf<Pair<String, EditText>>()

    val root: LinearLayout = context.column().apply {
        setBackgroundColor(context.getColor(R.color.background))
        keepClearOfBars()
        val bar = TopBar(context)
        bar.title.text = context.getString(R.string.forms)
        bar.atStart(R.drawable.ic_back, R.string.back, View.NO_ID, exits::back)
        addView(bar.root)
        val side = context.dp(12)
        addView(problem.root, linear().margins(start = side, end = side, bottom = context.dp(8)))
        addView(ScrollView(context).apply { addView(content()) }, linear(height = 0, weight = 1f))
    }

    private fun content(): LinearLayout = context.column().apply {
        setPadding(context.dp(12), 0, context.dp(12), context.dp(24))
        addView(
            controls.section(R.string.form_source) {
                addView(source, linear().margins(top = context.dp(8)))
                addView(kinds, linear().margins(top = context.dp(4)))
                val row = context.row().apply {
                    addView(fill, linear(WRAP_CONTENT))
                    addView(busy, linear(context.dp(TOUCH), context.dp(32)).margins(start = context.dp(12)))
                }
                addView(row, linear().margins(top = context.dp(4), bottom = context.dp(8)))
            },
        )
        addView(result)
    }

    private fun choice(kind: FormKind): RadioButton = RadioButton(context).apply {
        id = buttonId(kind)
        setText(
            when (kind) {
                FormKind.EVENT -> R.string.form_event
                FormKind.CONTACT -> R.string.form_contact
            },
        )
        setTextSize(TypedValue.COMPLEX_UNIT_SP, 16f)
        setTextColor(context.getColor(R.color.text))
        minHeight = context.dp(TOUCH)
        setPaddingRelative(context.dp(8), 0, context.dp(24), 0)
    }

    private fun buttonId(kind: FormKind): Int =
        when (kind) {
            FormKind.EVENT -> R.id.form_event
            FormKind.CONTACT -> R.id.form_contact
        }

    /** Puts a text into the field unless something is there. */
    fun offer(text: String) {
        if (source.text.isBlank()) source.setText(text)
    }

    fun render(state: FormsState) {
        problem.render(state.problem)
        shownKind = state.kind
        kinds.check(buttonId(state.kind))
        busy.shown = state.working
        fill.isEnabled = !state.working
        fill.alpha = if (state.working) FADED else 1f
        result.shown = state.form != null
        if (state.form === shownForm) return
        shownForm = state.form
        save.setText(if (state.kind == FormKind.EVENT) R.string.form_save_event else R.string.form_save_contact)
        fields.removeAllViews()
        inputs.clear()
        state.form?.let(::fieldsOf).orEmpty().forEach { (name, value) -> addField(context.getString(name), value.orEmpty()) }
    }

    private fun fieldsOf(form: Form): List<Pair<Int, String?>> =
        when (form) {
            is EventForm -> listOf(
                R.string.field_title to form.title, R.string.field_date to form.date,
                R.string.field_time to form.time, R.string.field_place to form.place,
            )
            is ContactForm -> listOf(
                R.string.field_name to form.name, R.string.field_phone to form.phone,
                R.string.field_email to form.email, R.string.field_company to form.company,
            )
        }

    private fun addField(name: String, value: String) {
        val input = field(R.string.field_empty).apply {
            // The screen is made anew with the state's values.
            isSaveEnabled = false
            id = View.generateViewId()
            setText(value)
        }
        val label = context.text(13, R.color.text_secondary).apply {
            text = name
            labelFor = input.id
        }
        fields.addView(label, linear().margins(start = context.dp(4), top = context.dp(10), bottom = context.dp(4)))
        fields.addView(input)
        inputs += name to input
    }

    private fun values(): List<String> = inputs.map { (_, input) -> input.text.toString().trim() }

    private fun asText(): String =
        inputs.map { (name, input) -> "$name: ${input.text.trim()}" }.filterNot { it.endsWith(": ") }.joinToString("\n")

    private fun field(hintText: Int): EditText = EditText(context).apply {
        setHint(hintText)
        setTextSize(TypedValue.COMPLEX_UNIT_SP, 16f)
        setTextColor(context.getColor(R.color.text))
        setHintTextColor(context.getColor(R.color.text_secondary))
        background = context.rounded(R.color.background, 12, R.color.line)
        setPadding(context.dp(14), context.dp(12), context.dp(14), context.dp(12))
        minHeight = context.dp(TOUCH)
        inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_FLAG_MULTI_LINE or
            InputType.TYPE_TEXT_FLAG_CAP_SENTENCES
    }

    private companion object {
        const val LEAST_LINES = 4
        const val MOST_LINES = 10
        const val FADED = 0.5f
    }
}
