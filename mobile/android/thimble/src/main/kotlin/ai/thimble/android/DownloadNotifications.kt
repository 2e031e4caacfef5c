package ai.thimble.android

import ai.thimble.download.Download
import ai.thimble.download.DownloadState
import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.content.Context

/** What the notification area shows of downloads, from Android 14 on. */
object DownloadNotifications {
    /** The notification of a download. Put an own one here in `Application.onCreate`, in the app's languages. */
    @Volatile
    var make: (Context, Download) -> Notification = ::standard

    private const val CHANNEL = "thimble.downloads"
    private const val PERCENT = 100

    private fun standard(context: Context, download: Download): Notification {
        val manager = checkNotNull(context.getSystemService(NotificationManager::class.java))
        manager.createNotificationChannel(
            NotificationChannel(CHANNEL, "Downloads", NotificationManager.IMPORTANCE_LOW),
        )
        val state = download.state
        val whole = (state as? DownloadState.Running)?.of?.takeIf { it > 0 }
        val percent = if (state is DownloadState.Running && whole != null) (state.done * PERCENT / whole).toInt() else 0
        return Notification.Builder(context, CHANNEL)
            .setSmallIcon(android.R.drawable.stat_sys_download)
            .setContentTitle(download.source.name)
            .setProgress(PERCENT, percent, whole == null)
            .setOnlyAlertOnce(true)
            .setOngoing(true)
            .build()
    }
}
