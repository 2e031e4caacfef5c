package ai.thimble.app.ui

import ai.thimble.app.DownloadsActivity
import ai.thimble.app.R
import ai.thimble.app.logic.DownloadRow
import ai.thimble.app.logic.DownloadStatus
import ai.thimble.app.logic.problem
import ai.thimble.download.Download
import ai.thimble.download.DownloadState
import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.content.Context
import android.content.Intent

/** The line under a model's name. */
internal fun Context.words(row: DownloadRow): String =
    when (val status = row.status) {
        DownloadStatus.Offered -> row.bytes?.let(::bytes).orEmpty()
        is DownloadStatus.Here ->
            getString(if (status.used) R.string.model_used else R.string.model_here, bytes(row.bytes ?: 0))
        is DownloadStatus.Coming -> words(status.state, row.bytes)
    }

private fun Context.words(state: DownloadState, about: Long?): String =
    when (state) {
        is DownloadState.Waiting -> getString(R.string.download_waiting)
        is DownloadState.Running -> amount(state.done, state.of)
        DownloadState.Checking -> getString(R.string.download_checking)
        is DownloadState.Paused -> getString(R.string.download_paused, amount(state.done, about))
        is DownloadState.Failed -> words(problem(state.error))
        is DownloadState.Finished -> ""
    }

private fun Context.amount(done: Long, of: Long?): String =
    if (of == null) bytes(done) else getString(R.string.download_amount, bytes(done), bytes(of))

/** How much has arrived, from 0 to 100; `null` where that is unknown. */
internal fun share(row: DownloadRow): Int? {
    val state = (row.status as? DownloadStatus.Coming)?.state
    val (done, of) = when (state) {
        is DownloadState.Running -> state.done to state.of
        is DownloadState.Paused -> state.done to row.bytes
        else -> return null
    }
    return of?.takeIf { it > 0 }?.let { (done * PERCENT / it).toInt().coerceIn(0, PERCENT) }
}

/** What the notification area shows while a model is downloaded. Touching it opens the screen of downloads. */
internal fun downloadNotification(context: Context, download: Download): Notification {
    val manager = checkNotNull(context.getSystemService(NotificationManager::class.java))
    val name = context.getString(R.string.downloads)
    manager.createNotificationChannel(NotificationChannel(CHANNEL, name, NotificationManager.IMPORTANCE_LOW))
    val running = download.state as? DownloadState.Running
    val of = running?.of?.takeIf { it > 0 }
    val open = Intent(context, DownloadsActivity::class.java).addFlags(Intent.FLAG_ACTIVITY_NEW_TASK)
    val percent = if (running != null && of != null) (running.done * PERCENT / of).toInt() else 0
    return Notification.Builder(context, CHANNEL)
        .setSmallIcon(R.drawable.ic_download)
        .setContentTitle(download.source.name)
        .setContentText(context.words(download.state, of))
        .setProgress(PERCENT, percent, of == null)
        .setContentIntent(PendingIntent.getActivity(context, 0, open, PendingIntent.FLAG_IMMUTABLE))
        .setOnlyAlertOnce(true)
        .setOngoing(true)
        .build()
}

private const val CHANNEL = "downloads"
private const val PERCENT = 100
