package ai.thimble.app.ui

import ai.thimble.app.R
import ai.thimble.app.logic.Figures
import ai.thimble.app.logic.Problem
import android.content.Context
import android.text.format.Formatter
import java.util.Locale

/** The sentence for a problem. */
internal fun Context.words(problem: Problem): String =
    when (problem) {
        Problem.NotFound -> getString(R.string.problem_not_found)
        Problem.NotAModel -> getString(R.string.problem_not_a_model)
        Problem.Damaged -> getString(R.string.problem_damaged)
        Problem.DamagedChat -> getString(R.string.problem_damaged_chat)
        Problem.TooLong -> getString(R.string.problem_too_long)
        is Problem.TooLarge -> getString(R.string.problem_too_large, bytes(problem.needed), bytes(problem.budget))
        is Problem.NoSpace -> getString(R.string.problem_no_space, bytes(problem.needed), bytes(problem.free))
        Problem.NoModel -> getString(R.string.problem_no_model)
        Problem.NotFilled -> getString(R.string.problem_not_filled)
        Problem.Offline -> getString(R.string.problem_offline)
        is Problem.Refused ->
            getString(if (problem.status == 404) R.string.problem_no_file else R.string.problem_refused, problem.status)
        is Problem.Other -> getString(R.string.problem_other, problem.message)
    }

internal fun Context.bytes(count: Long): String = Formatter.formatShortFileSize(this, count)

/** The line of figures, to be read or, [spoken], to be heard. */
internal fun Context.words(figures: Figures, spoken: Boolean): String {
    val speed = String.format(Locale.getDefault(), "%.1f", figures.tokensPerSecond)
    return getString(if (spoken) R.string.figures_spoken else R.string.figures, speed, bytes(figures.memoryBytes))
}

/** The name of a model without what every model's file ends in. */
internal fun modelName(file: String): String = file.removeSuffix(".thimble")
