package ai.thimble.app.ui

import ai.thimble.app.R
import android.content.Context
import android.content.res.ColorStateList
import android.graphics.Color
import android.graphics.Typeface
import android.graphics.drawable.Drawable
import android.graphics.drawable.GradientDrawable
import android.graphics.drawable.RippleDrawable
import android.os.Build
import android.text.TextUtils
import android.util.TypedValue
import android.view.Gravity
import android.view.View
import android.view.ViewGroup
import android.view.WindowInsets
import android.view.accessibility.AccessibilityNodeInfo
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.ImageButton
import android.widget.LinearLayout
import android.widget.TextView

/** Pixels of so many density-independent ones. */
internal fun Context.dp(value: Int): Int = (value * resources.displayMetrics.density + 0.5f).toInt()

/** The least side of what can be touched, in density-independent pixels. */
internal const val TOUCH = 48

internal fun Context.column(): LinearLayout = LinearLayout(this).apply { orientation = LinearLayout.VERTICAL }

internal fun Context.row(): LinearLayout =
    LinearLayout(this).apply {
        orientation = LinearLayout.HORIZONTAL
        gravity = Gravity.CENTER_VERTICAL
    }

/** Text in scalable pixels: it grows with the person's choice of font size. */
internal fun Context.text(sp: Int, color: Int = R.color.text): TextView =
    TextView(this).apply {
        setTextSize(TypedValue.COMPLEX_UNIT_SP, sp.toFloat())
        setTextColor(getColor(color))
    }

private val medium: Typeface get() = Typeface.create("sans-serif-medium", Typeface.NORMAL)

/** A heading, for the eye and for the screen reader. */
internal fun Context.heading(sp: Int, words: CharSequence): TextView =
    text(sp).apply {
        text = words
        typeface = medium
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) isAccessibilityHeading = true
    }

/** A button that is an icon, with what the screen reader calls it. */
internal fun Context.iconButton(icon: Int, description: CharSequence, color: Int = R.color.text): ImageButton =
    ImageButton(this).apply {
        setImageResource(icon)
        imageTintList = ColorStateList.valueOf(getColor(color))
        contentDescription = description
        tooltipText = description
        background = ripple(null, circle = true)
        minimumWidth = dp(TOUCH)
        minimumHeight = dp(TOUCH)
    }

/** A text button; filled ones stand out. */
internal fun Context.textButton(words: CharSequence, filled: Boolean): TextView =
    text(15, if (filled) R.color.on_accent else R.color.accent).apply {
        text = words
        typeface = medium
        gravity = Gravity.CENTER
        isClickable = true
        isFocusable = true
        minHeight = dp(TOUCH)
        setPadding(dp(20), dp(10), dp(20), dp(10))
        background = ripple(if (filled) rounded(R.color.accent, 24) else rounded(R.color.background, 24, R.color.line))
        accessibilityDelegate = ButtonRole
    }

/** Text that the screen reader calls a button. */
internal object ButtonRole : View.AccessibilityDelegate() {
    override fun onInitializeAccessibilityNodeInfo(host: View, info: AccessibilityNodeInfo) {
        super.onInitializeAccessibilityNodeInfo(host, info)
        info.className = "android.widget.Button"
    }
}

/** A filled shape with round corners, and an outline where [line] is given. */
internal fun Context.rounded(color: Int, radius: Int, line: Int? = null): GradientDrawable =
    GradientDrawable().apply {
        setColor(getColor(color))
        cornerRadius = dp(radius).toFloat()
        line?.let { setStroke(dp(1), getColor(it)) }
    }

/** What is touched answers. */
internal fun Context.ripple(content: Drawable?, circle: Boolean = false): Drawable {
    val mask = GradientDrawable().apply {
        setColor(Color.WHITE)
        if (circle) shape = GradientDrawable.OVAL
        if (!circle) cornerRadius = dp(16).toFloat()
    }
    return RippleDrawable(ColorStateList.valueOf(getColor(R.color.line)), content, mask)
}

internal fun linear(width: Int = MATCH_PARENT, height: Int = WRAP_CONTENT, weight: Float = 0f) =
    LinearLayout.LayoutParams(width, height, weight)

internal fun LinearLayout.LayoutParams.margins(start: Int = 0, top: Int = 0, end: Int = 0, bottom: Int = 0) =
    apply {
        marginStart = start
        topMargin = top
        marginEnd = end
        bottomMargin = bottom
    }

/** Shown, or gone with its place. */
internal var View.shown: Boolean
    get() = visibility == View.VISIBLE
    set(value) {
        visibility = if (value) View.VISIBLE else View.GONE
    }

/** Changes the text only where it is another, so that the screen reader says nothing twice. */
internal fun TextView.say(words: CharSequence) {
    if (!TextUtils.equals(text, words)) text = words
}

/** Keeps a screen's content clear of the bars and the keyboard, and no wider than is read well. */
internal fun ViewGroup.keepClearOfBars() {
    val spare = context.dp(((resources.configuration.screenWidthDp - WIDEST) / 2).coerceAtLeast(0))
    setPadding(spare, 0, spare, 0)
    setOnApplyWindowInsetsListener { view, insets ->
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
            val types = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout() or WindowInsets.Type.ime()
            val clear = insets.getInsets(types)
            view.setPadding(maxOf(spare, clear.left), clear.top, maxOf(spare, clear.right), clear.bottom)
        } else {
            @Suppress("DEPRECATION") // Systems before Android 11 have nothing else.
            insets.run {
                val left = maxOf(spare, systemWindowInsetLeft)
                val right = maxOf(spare, systemWindowInsetRight)
                view.setPadding(left, systemWindowInsetTop, right, systemWindowInsetBottom)
            }
        }
        insets
    }
}

/** Width of a column of text, in density-independent pixels. */
private const val WIDEST = 720
