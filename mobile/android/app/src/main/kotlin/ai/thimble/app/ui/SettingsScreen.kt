package ai.thimble.app.ui

import ai.thimble.app.R
import ai.thimble.app.logic.ChatState
import ai.thimble.app.logic.ChatViewModel
import ai.thimble.app.logic.SavedModel
import ai.thimble.app.logic.Settings
import android.content.Context
import android.text.InputType
import android.view.Gravity
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.RadioButton
import android.widget.ScrollView
import java.util.Locale
import kotlin.math.roundToInt

/** Where the settings lead. */
internal interface SettingsExits {
    fun back()

    fun openDownloads()

    fun deleteModel(model: SavedModel)
}

/** Models and settings. What is moved or ticked is taken over at once, what is written when the screen is left. */
internal class SettingsScreen(
    private val context: Context,
    private val viewModel: ChatViewModel,
    private val exits: SettingsExits,
    cores: Int,
) {
    private val controls = Controls(context)
    private val models = context.column()
    private val problem = ProblemCard(context, viewModel::dismiss)
    private val importing = ImportCard(context, viewModel::cancelImport)
    private var shownModels: Pair<List<SavedModel>, String>? = null
    private val start = viewModel.state.value.settings

    private val system = EditText(context).apply {
        id = R.id.system_prompt
        hint = context.getString(R.string.system_prompt_hint)
        textSize = 16f
        setTextColor(context.getColor(R.color.text))
        setHintTextColor(context.getColor(R.color.text_secondary))
        background = context.rounded(R.color.background, 12, R.color.line)
        setPadding(context.dp(14), context.dp(12), context.dp(14), context.dp(12))
        gravity = Gravity.TOP or Gravity.START
        minLines = 2
        inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_FLAG_MULTI_LINE or
            InputType.TYPE_TEXT_FLAG_CAP_SENTENCES
        setText(start.system)
    }

    private val add = context.textButton(context.getString(R.string.add_model), filled = false).apply {
        id = R.id.open_downloads
        setOnClickListener { exits.openDownloads() }
    }

    val root: LinearLayout = context.column().apply {
        setBackgroundColor(context.getColor(R.color.background))
        keepClearOfBars()
        val bar = TopBar(context)
        bar.title.text = context.getString(R.string.settings)
        bar.atStart(R.drawable.ic_back, R.string.back, View.NO_ID, exits::back)
        addView(bar.root)
        val side = context.dp(12)
        addView(problem.root, linear().margins(start = side, end = side, bottom = context.dp(8)))
        addView(ScrollView(context).apply { addView(content(cores)) }, linear(height = 0, weight = 1f))
    }

    private fun content(cores: Int): LinearLayout =
        context.column().apply {
            setPadding(context.dp(12), 0, context.dp(12), context.dp(24))
            addView(
                controls.section(R.string.section_model) {
                    addView(models)
                    addView(importing.root, linear().margins(top = context.dp(8)))
                    addView(add, linear(WRAP_CONTENT).margins(top = context.dp(8), bottom = context.dp(4)))
                },
            )
            addView(controls.section(R.string.section_answers) { answers() })
            addView(controls.section(R.string.section_device) { device(cores) })
            val about = context.text(13, R.color.text_secondary)
            about.setText(R.string.about)
            addView(about, linear().margins(start = context.dp(16), top = context.dp(20), end = context.dp(16)))
        }

    private fun LinearLayout.answers() {
        val warmth = (start.temperature * STEPS_PER_DEGREE).roundToInt()
        addView(
            controls.slider(
                Slider(R.string.temperature, R.id.temperature, WARMEST, warmth) {
                    if (it == 0) context.getString(R.string.temperature_none) else decimal(it / STEPS_PER_DEGREE)
                },
            ) { change { copy(temperature = it / STEPS_PER_DEGREE) } },
        )
        val longest = LENGTHS.indexOfFirst { it >= start.maxTokens }.takeIf { it >= 0 } ?: LENGTHS.lastIndex
        addView(
            controls.slider(
                Slider(R.string.max_tokens, View.NO_ID, LENGTHS.lastIndex, longest) {
                    context.getString(R.string.tokens, LENGTHS[it])
                },
            ) { change { copy(maxTokens = LENGTHS[it]) } },
        )
        val label = context.text(16)
        label.setText(R.string.system_prompt)
        label.labelFor = system.id
        addView(label, linear().margins(top = context.dp(12)))
        addView(system, linear().margins(top = context.dp(8), bottom = context.dp(8)))
    }

    private fun LinearLayout.device(cores: Int) {
        addView(
            controls.slider(
                Slider(R.string.threads, View.NO_ID, cores, start.threads.coerceAtMost(cores)) {
                    context.getString(if (it == 0) R.string.threads_auto else R.string.threads_some, it)
                },
            ) { change { copy(threads = it) } },
        )
        addView(
            controls.toggle(R.string.saver, R.string.saver_text, start.saver) { change { copy(saver = it) } },
        )
        addView(
            controls.toggle(R.string.small_cache, R.string.small_cache_text, start.smallCache) {
                change { copy(smallCache = it) }
            },
        )
    }

    fun render(state: ChatState) {
        problem.render(state.problem)
        importing.render(state.importing)
        add.shown = state.importing == null
        val list = viewModel.models() to state.settings.model
        if (list == shownModels) return
        shownModels = list
        models.removeAllViews()
        list.first.forEach { models.addView(modelRow(it, it.name == list.second)) }
    }

    /** Takes over what was written. */
    fun leave() = change { copy(system = this@SettingsScreen.system.text.toString().trim()) }

    private fun change(next: Settings.() -> Settings) = viewModel.changeSettings(viewModel.state.value.settings.next())

    private fun modelRow(model: SavedModel, current: Boolean): View {
        val choose = RadioButton(context).apply {
            text = controls.twoLines(modelName(model.name), context.bytes(model.bytes))
            textSize = 16f
            setTextColor(context.getColor(R.color.text))
            isChecked = current
            minHeight = context.dp(TOUCH)
            setPaddingRelative(context.dp(8), context.dp(6), 0, context.dp(6))
            setOnClickListener { viewModel.chooseModel(model.name) }
        }
        val remove = context.iconButton(
            R.drawable.ic_delete,
            context.getString(R.string.delete_model, modelName(model.name)),
            R.color.text_secondary,
        )
        remove.setOnClickListener { exits.deleteModel(model) }
        return context.row().apply {
            addView(choose, linear(0, WRAP_CONTENT, 1f))
            addView(remove, linear(context.dp(TOUCH), context.dp(TOUCH)))
        }
    }

    private fun decimal(value: Float): String = String.format(Locale.getDefault(), "%.1f", value)

    private companion object {
        const val STEPS_PER_DEGREE = 10f
        const val WARMEST = 15
        val LENGTHS = listOf(64, 128, 256, 512, 1024, 2048)
    }
}
