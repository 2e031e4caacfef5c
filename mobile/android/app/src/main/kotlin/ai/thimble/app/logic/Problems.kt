package ai.thimble.app.logic

import ai.thimble.download.DownloadException
import ai.thimble.ffi.ApiException

/** What the user is told of an error. */
internal fun problem(error: Throwable): Problem =
    when (error) {
        is ApiException.NotFound -> Problem.NotFound
        is ApiException.NotAModel -> Problem.NotAModel
        is ApiException.Damaged -> Problem.Damaged
        is ApiException.TooLarge -> Problem.TooLarge(error.needed.toLong(), error.budget.toLong())
        is ApiException.ContextFull -> Problem.TooLong
        is ApiException.Other -> Problem.Other(error.reason)
        is NoSpaceException -> Problem.NoSpace(error.needed, error.free)
        is DownloadException.NoSpace -> Problem.NoSpace(error.needed, error.free)
        is DownloadException.Unreachable, is DownloadException.Interrupted -> Problem.Offline
        is DownloadException.Refused -> Problem.Refused(error.status)
        is DownloadException.Damaged -> Problem.Damaged
        is DownloadException.NotAModel -> Problem.NotAModel
        else -> Problem.Other(error.message ?: error.javaClass.simpleName)
    }

/** What the user is told when a chat cannot be opened: its journal is damaged then, not the model. */
internal fun chatProblem(error: Throwable): Problem =
    if (error is ApiException.Damaged) Problem.DamagedChat else problem(error)
