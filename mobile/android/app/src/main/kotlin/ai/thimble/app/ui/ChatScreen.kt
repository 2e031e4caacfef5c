package ai.thimble.app.ui

import ai.thimble.app.R
import ai.thimble.app.logic.ChatState
import ai.thimble.app.logic.ChatViewModel
import ai.thimble.app.logic.ModelState
import android.content.Context
import android.view.Gravity
import android.view.View
import android.widget.FrameLayout

/** Where the chat screen leads. */
internal interface ChatExits {
    fun openChats()

    fun openSettings()

    fun openDownloads()

    fun openForms()

    fun pickModel()
}

/** The conversation with what is needed around it. */
internal class ChatScreen(
    private val context: Context,
    private val viewModel: ChatViewModel,
    private val exits: ChatExits,
) {
    private val bar = TopBar(context)
    private val new = bar.atEnd(R.drawable.ic_new, R.string.new_chat, R.id.new_chat, viewModel::newChat)

    private val forms = bar.atEnd(R.drawable.ic_form, R.string.forms, R.id.open_forms, exits::openForms)

    init {
        bar.atStart(R.drawable.ic_chats, R.string.chats, R.id.open_chats, exits::openChats)
        bar.atEnd(R.drawable.ic_settings, R.string.settings, R.id.open_settings, exits::openSettings)
    }

    private val problem = ProblemCard(context, viewModel::dismiss)
    private val importing = ImportCard(context, viewModel::cancelImport)
    private val messages = MessageList(context, viewModel::retry)
    private val empty = EmptyCard(context)
    private val composer = Composer(context, viewModel::send, viewModel::stop)
    private val figures = context.text(12, R.color.text_secondary).apply {
        id = R.id.figures
        gravity = Gravity.CENTER
    }

    val root = context.column().apply {
        setBackgroundColor(context.getColor(R.color.background))
        keepClearOfBars()
        val side = context.dp(12)
        addView(bar.root)
        addView(problem.root, linear().margins(start = side, end = side, bottom = context.dp(8)))
        val middle = FrameLayout(context).apply {
            addView(messages.root)
            addView(empty.root)
        }
        addView(middle, linear(height = 0, weight = 1f))
        addView(importing.root, linear().margins(start = side, end = side, bottom = context.dp(8)))
        addView(composer.root, linear().margins(start = side, end = side, bottom = context.dp(4)))
        addView(figures, linear().margins(start = side, end = side, bottom = context.dp(6)))
    }

    fun render(state: ChatState) {
        renderBar(state)
        problem.render(state.problem)
        importing.render(state.importing)
        renderMiddle(state)
        composer.render(state)
        composer.root.shown = state.model is ModelState.Ready || state.model is ModelState.Opening
        state.unsent?.let {
            composer.offer(it)
            viewModel.takeUnsent()
        }
        figures.visibility = if (state.figures == null) View.INVISIBLE else View.VISIBLE
        state.figures?.let {
            figures.say(context.words(it, spoken = false))
            figures.contentDescription = context.words(it, spoken = true)
        }
    }

    private fun renderBar(state: ChatState) {
        val first = state.messages.firstOrNull()?.text?.lineSequence()?.first()
        bar.title.say(first ?: context.getString(R.string.app_name))
        val model = state.model
        new.shown = model is ModelState.Ready
        forms.shown = model is ModelState.Ready
        bar.subtitle.shown = model is ModelState.Ready || model is ModelState.Opening
        when (model) {
            is ModelState.Ready -> bar.subtitle.say(model.info.name)
            is ModelState.Opening -> bar.subtitle.say(context.getString(R.string.opening, modelName(model.name)))
            else -> Unit
        }
    }

    private fun renderMiddle(state: ChatState) {
        val talk = state.messages.isNotEmpty() || state.answer != null
        messages.root.shown = talk
        empty.root.shown = !talk
        messages.render(state)
        if (talk) return
        when (val model = state.model) {
            ModelState.None -> renderPick(R.string.no_model_title, context.getString(R.string.no_model_text), state)
            is ModelState.Failed -> renderPick(R.string.no_model_title, context.words(model.problem), state)
            else -> empty.render(
                context.getString(R.string.empty_title),
                context.getString(R.string.empty_text),
                context.resources.getStringArray(R.array.suggestions).map { words ->
                    EmptyCard.Action(words, filled = false, View.NO_ID) { viewModel.send(words) }
                },
            )
        }
    }

    private fun renderPick(title: Int, words: String, state: ChatState) {
        val download = EmptyCard.Action(
            context.getString(R.string.download_one),
            filled = true,
            R.id.open_downloads,
            exits::openDownloads,
        )
        val pick = EmptyCard.Action(
            context.getString(R.string.import_model),
            filled = false,
            R.id.import_model,
            exits::pickModel,
        )
        val actions = if (state.importing == null) listOf(download, pick) else emptyList()
        empty.render(context.getString(title), words, actions)
    }
}
