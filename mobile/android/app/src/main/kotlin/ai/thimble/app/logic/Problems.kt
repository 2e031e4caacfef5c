package ai.thimble.app.logic

import ai.thimble.ThimbleException

/** What a person is told of an error. */
internal fun problem(error: Throwable): Problem =
    when (error) {
        is ThimbleException.NotFound -> Problem.NotFound
        is ThimbleException.NotAModel -> Problem.NotAModel
        is ThimbleException.Damaged -> Problem.Damaged
        is ThimbleException.TooLarge -> Problem.TooLarge(error.needed.toLong(), error.budget.toLong())
        is ThimbleException.ContextFull -> Problem.TooLong
        is ThimbleException.Other -> Problem.Other(error.reason)
        is NoSpaceException -> Problem.NoSpace(error.needed, error.free)
        else -> Problem.Other(error.message ?: error.javaClass.simpleName)
    }
