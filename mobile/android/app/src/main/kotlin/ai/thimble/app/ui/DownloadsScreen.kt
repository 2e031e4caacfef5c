package ai.thimble.app.ui

import ai.thimble.app.R
import ai.thimble.app.logic.DownloadRow
import ai.thimble.app.logic.DownloadStatus
import ai.thimble.app.logic.DownloadsState
import ai.thimble.app.logic.DownloadsViewModel
import ai.thimble.download.DownloadState
import android.content.Context
import android.content.res.ColorStateList
import android.text.InputType
import android.util.TypedValue
import android.view.Gravity
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.view.inputmethod.EditorInfo
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.ScrollView

/** Where the downloads lead. */
internal interface DownloadsExits {
    fun back()

    fun pickModel()

    fun use(row: DownloadRow)

    fun delete(row: DownloadRow)
}

/** Models to download, with how far they are. */
internal class DownloadsScreen(
    private val context: Context,
    private val viewModel: DownloadsViewModel,
    private val exits: DownloadsExits,
) {
    private val controls = Controls(context)
    private val list = context.column()
    private val rows = mutableMapOf<String, ModelRow>()
    private val offers = controls.section(R.string.section_offers) { addView(list) }

    private val address = EditText(context).apply {
        id = R.id.address
        hint = context.getString(R.string.address_hint)
        setTextSize(TypedValue.COMPLEX_UNIT_SP, 16f)
        setTextColor(context.getColor(R.color.text))
        setHintTextColor(context.getColor(R.color.text_secondary))
        background = context.rounded(R.color.background, 12, R.color.line)
        setPadding(context.dp(14), context.dp(12), context.dp(14), context.dp(12))
        minHeight = context.dp(TOUCH)
        inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_VARIATION_URI
        imeOptions = EditorInfo.IME_ACTION_GO
        setOnEditorActionListener { _, action, _ -> (action == EditorInfo.IME_ACTION_GO).also { if (it) submit() } }
    }
    private val wrong = context.text(13, R.color.on_warning).apply {
        id = R.id.bad_address
        setText(R.string.bad_address)
        accessibilityLiveRegion = View.ACCESSIBILITY_LIVE_REGION_POLITE
        shown = false
    }

    val root: LinearLayout = context.column().apply {
        setBackgroundColor(context.getColor(R.color.background))
        keepClearOfBars()
        val bar = TopBar(context)
        bar.title.text = context.getString(R.string.downloads)
        bar.atStart(R.drawable.ic_back, R.string.back, View.NO_ID, exits::back)
        addView(bar.root)
        addView(ScrollView(context).apply { addView(content()) }, linear(height = 0, weight = 1f))
    }

    private fun content(): LinearLayout = context.column().apply {
        setPadding(context.dp(12), 0, context.dp(12), context.dp(24))
        addView(offers)
        addView(
            controls.section(R.string.section_network) {
                val on = viewModel.state.value.wifiOnly
                addView(controls.toggle(R.string.wifi_only, R.string.wifi_only_text, on, viewModel::setWifiOnly))
            },
        )
        addView(
            controls.section(R.string.section_elsewhere) {
                addView(address, linear().margins(top = context.dp(8)))
                addView(wrong, linear().margins(start = context.dp(4), top = context.dp(6)))
                val go = context.textButton(context.getString(R.string.download), filled = false)
                go.id = R.id.download_address
                go.setOnClickListener { submit() }
                addView(go, linear(WRAP_CONTENT).margins(top = context.dp(8)))
                val pick = context.textButton(context.getString(R.string.import_model), filled = false)
                pick.id = R.id.import_model
                pick.setOnClickListener { exits.pickModel() }
                addView(pick, linear(WRAP_CONTENT).margins(top = context.dp(8), bottom = context.dp(8)))
            },
        )
    }

    private fun submit() {
        if (viewModel.download(address.text.toString())) address.text.clear()
    }

    fun render(state: DownloadsState) {
        offers.shown = state.models.isNotEmpty()
        wrong.shown = state.badAddress
        val names = state.models.map { it.source.name }
        if (names != rows.keys.toList()) {
            list.removeAllViews()
            rows.clear()
            names.forEach { name -> rows[name] = ModelRow().also { list.addView(it.root) } }
        }
        state.models.forEach { rows.getValue(it.source.name).render(it) }
    }

    /** A model with what can be done about it. Its views stay while bytes arrive. */
    private inner class ModelRow {
        private val title = context.text(16)
        private val words = context.text(13, R.color.text_secondary)
        private val buttons = context.row()
        private val bar = ProgressBar(context, null, android.R.attr.progressBarStyleHorizontal).apply {
            max = PERCENT
            progressTintList = ColorStateList.valueOf(context.getColor(R.color.accent))
            indeterminateTintList = ColorStateList.valueOf(context.getColor(R.color.accent))
        }
        private var offered: List<Button> = emptyList()

        val root: LinearLayout = context.column().apply {
            minimumHeight = context.dp(64)
            gravity = Gravity.CENTER_VERTICAL
            setPadding(0, context.dp(6), 0, context.dp(6))
            val texts = context.column().apply {
                addView(title)
                addView(words, linear().margins(top = context.dp(2)))
            }
            val line = context.row().apply {
                addView(texts, linear(0, WRAP_CONTENT, 1f))
                addView(buttons, linear(WRAP_CONTENT))
            }
            addView(line)
            addView(bar, linear())
        }

        fun render(row: DownloadRow) {
            title.say(row.title)
            words.say(context.words(row))
            val state = (row.status as? DownloadStatus.Coming)?.state
            bar.shown = state is DownloadState.Running || state is DownloadState.Checking || state is DownloadState.Paused
            val share = share(row)
            bar.isIndeterminate = share == null
            bar.progress = share ?: 0
            bar.contentDescription = words.text
            val next = Button.of(row.status)
            if (next == offered) return
            offered = next
            buttons.removeAllViews()
            next.forEach { buttons.addView(make(it, row), linear(WRAP_CONTENT, context.dp(TOUCH))) }
        }

        private fun make(button: Button, row: DownloadRow): View {
            val act = { act(button, row) }
            if (button == Button.USE) {
                val use = context.textButton(context.getString(R.string.use), filled = false)
                use.setOnClickListener { act() }
                return use
            }
            val color = if (button == Button.DELETE) R.color.text_secondary else R.color.accent
            val view = context.iconButton(button.icon, context.getString(button.words, row.title), color)
            view.setOnClickListener { act() }
            return view
        }

        private fun act(button: Button, row: DownloadRow) =
            when (button) {
                Button.DOWNLOAD, Button.RESUME, Button.RETRY -> viewModel.download(row.source)
                Button.PAUSE -> viewModel.pause(row)
                Button.DELETE -> exits.delete(row)
                Button.USE -> exits.use(row)
            }
    }

    private enum class Button(val icon: Int, val words: Int) {
        DOWNLOAD(R.drawable.ic_download, R.string.download_model),
        PAUSE(R.drawable.ic_pause, R.string.pause_download),
        RESUME(R.drawable.ic_resume, R.string.resume_download),
        RETRY(R.drawable.ic_retry, R.string.retry_download),
        USE(0, R.string.use),
        DELETE(R.drawable.ic_delete, R.string.delete_model);

        companion object {
            fun of(status: DownloadStatus): List<Button> =
                when (status) {
                    DownloadStatus.Offered -> listOf(DOWNLOAD)
                    is DownloadStatus.Here -> if (status.used) listOf(DELETE) else listOf(USE, DELETE)
                    is DownloadStatus.Coming -> when (status.state) {
                        is DownloadState.Paused -> listOf(RESUME, DELETE)
                        is DownloadState.Failed -> listOf(RETRY, DELETE)
                        else -> listOf(PAUSE, DELETE)
                    }
                }
        }
    }

    private companion object {
        const val PERCENT = 100
    }
}
