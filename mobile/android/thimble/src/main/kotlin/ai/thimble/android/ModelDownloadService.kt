package ai.thimble.android

import ai.thimble.download.Download
import ai.thimble.download.ModelDownloads
import android.app.job.JobParameters
import android.app.job.JobService
import android.os.Build
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.conflate
import kotlinx.coroutines.flow.distinctUntilChanged
import kotlinx.coroutines.flow.mapNotNull
import kotlinx.coroutines.launch
import java.io.File
import java.net.HttpURLConnection
import java.net.URL
import java.util.concurrent.ConcurrentHashMap

/**
 * Runs the downloads of [modelDownloads] for the system's JobScheduler. An app that downloads has in its manifest:
 *
 *     <service
 *         android:name="ai.thimble.android.ModelDownloadService"
 *         android:exported="false"
 *         android:permission="android.permission.BIND_JOB_SERVICE" />
 */
class ModelDownloadService : JobService() {
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)

    /** By the job's number. */
    private val running = ConcurrentHashMap<Int, Running>()

    /** A job in progress. */
    private class Running(val downloads: ModelDownloads, val name: String, @Volatile var parameters: JobParameters) {
        var work: Job? = null

        /** Its download as it is now. */
        fun find(all: List<Download>): Download? = all.firstOrNull { it.source.name == name }

        /** On the network that the system chose for the job. */
        fun open(url: URL): HttpURLConnection {
            val network = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) parameters.network else null
            return (network?.openConnection(url) ?: url.openConnection()) as HttpURLConnection
        }
    }

    override fun onStartJob(parameters: JobParameters): Boolean {
        val folder = parameters.extras.getString(JobDownloadScheduler.FOLDER) ?: return false
        val name = parameters.extras.getString(JobDownloadScheduler.NAME) ?: return false
        val job = Running(modelDownloads(this, File(folder)), name, parameters)
        val download = job.find(job.downloads.downloads.value) ?: return false
        running[parameters.jobId] = job
        // The system requires it within seconds.
        notify(job, download)
        job.work = scope.launch {
            val shown = launch { follow(job) }
            val again = job.downloads.run(name, job::open)
            shown.cancel()
            running.remove(parameters.jobId, job)
            jobFinished(job.parameters, again)
        }
        return true
    }

    override fun onStopJob(parameters: JobParameters): Boolean {
        val job = running.remove(parameters.jobId) ?: return false
        job.work?.cancel()
        val byPerson = Build.VERSION.SDK_INT >= Build.VERSION_CODES.S &&
            parameters.stopReason == JobParameters.STOP_REASON_USER
        if (byPerson) job.downloads.pause(job.name)
        return !byPerson
    }

    override fun onNetworkChanged(parameters: JobParameters) {
        // The connection on the old network breaks; the next one is on this.
        running[parameters.jobId]?.parameters = parameters
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }

    private suspend fun follow(job: Running) =
        job.downloads.downloads.mapNotNull(job::find).distinctUntilChanged().conflate().collect {
            notify(job, it)
            delay(NOTIFICATION_PAUSE)
        }

    private fun notify(job: Running, download: Download) {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.UPSIDE_DOWN_CAKE || !job.parameters.isUserInitiatedJob) return
        val notification = DownloadNotifications.make(this, download)
        setNotification(job.parameters, job.parameters.jobId, notification, JOB_END_NOTIFICATION_POLICY_REMOVE)
    }

    private companion object {
        /** Milliseconds; the system drops those of apps that change them more often. */
        const val NOTIFICATION_PAUSE = 500L
    }
}
