package ai.thimble.app.ui

import android.graphics.Paint
import android.graphics.Typeface
import android.text.SpannableStringBuilder
import android.text.Spanned
import android.text.style.LeadingMarginSpan
import android.text.style.RelativeSizeSpan
import android.text.style.StyleSpan
import android.text.style.TypefaceSpan
import kotlin.math.roundToInt

/**
 * What small models write of Markdown: headings, bold, code and list items, for text that is painted with [paint].
 * Everything else, and what has not ended yet, is shown as it is.
 */
internal fun markdown(source: String, paint: Paint): CharSequence {
    val out = SpannableStringBuilder()
    var code = false
    for (line in source.trimEnd().lineSequence()) {
        if (line.trimStart().startsWith("```")) {
            code = !code
            continue
        }
        if (out.isNotEmpty()) out.append('\n')
        val from = out.length
        val heading = HEADING.matchEntire(line)
        val item = ITEM.matchEntire(line)
        when {
            code -> out.append(line).also { out.span(TypefaceSpan("monospace"), from) }
            heading != null -> {
                out.inline(heading.groupValues[1])
                out.span(StyleSpan(Typeface.BOLD), from)
            }
            item != null -> {
                val (mark, text) = item.destructured
                val head = if (mark.first().isDigit()) "$mark " else "•  "
                out.append(head)
                out.inline(text)
                // What does not fit on the line stands below the words, not below the number.
                out.span(LeadingMarginSpan.Standard(0, paint.measureText(head).roundToInt()), from)
            }
            else -> out.inline(line)
        }
    }
    return out
}

private fun SpannableStringBuilder.inline(text: String) {
    var rest = 0
    for (match in INLINE.findAll(text)) {
        append(text, rest, match.range.first)
        val from = length
        append(match.groupValues[1].ifEmpty { match.groupValues[2] })
        if (match.groupValues[1].isNotEmpty()) {
            span(StyleSpan(Typeface.BOLD), from)
        } else {
            span(TypefaceSpan("monospace"), from)
            span(RelativeSizeSpan(CODE_SIZE), from)
        }
        rest = match.range.last + 1
    }
    append(text, rest, text.length)
}

private fun SpannableStringBuilder.span(what: Any, from: Int) =
    setSpan(what, from, length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)

private val HEADING = Regex("#{1,6} +(.*)")
private val ITEM = Regex(" {0,3}([-*+]|\\d{1,3}[.)]) +(.*)")
private val INLINE = Regex("\\*\\*([^*]+)\\*\\*|`([^`]+)`")
private const val CODE_SIZE = 0.94f
