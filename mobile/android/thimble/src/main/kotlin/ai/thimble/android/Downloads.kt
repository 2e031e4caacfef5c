package ai.thimble.android

import ai.thimble.download.AllowedNetwork
import ai.thimble.download.Download
import ai.thimble.download.DownloadScheduler
import ai.thimble.download.ModelDownloads
import android.Manifest
import android.app.job.JobInfo
import android.app.job.JobScheduler
import android.content.ComponentName
import android.content.Context
import android.content.pm.PackageManager
import android.os.Build
import android.os.PersistableBundle
import java.io.File

/**
 * The downloads of a folder, one object for each in a process. They go on in the background as jobs of the system:
 * from Android 14 on as user-initiated data transfers, which may last for hours, before that in turns of ten minutes.
 *
 * The app's manifest needs the permissions INTERNET, ACCESS_NETWORK_STATE and RUN_USER_INITIATED_JOBS, and the service
 * [ModelDownloadService]. Ask for this in `Application.onCreate`: it schedules what a restarted system has forgotten.
 */
fun modelDownloads(
    context: Context,
    folder: File = File(context.filesDir, "thimble/models"),
): ModelDownloads = synchronized(all) {
    all.getOrPut(folder.canonicalPath) {
        ModelDownloads(folder, JobDownloadScheduler(context.applicationContext, folder))
    }
}

private val all = mutableMapOf<String, ModelDownloads>()

/** A job for each download. */
internal class JobDownloadScheduler(private val context: Context, private val folder: File) : DownloadScheduler {
    private val jobs = checkNotNull(context.getSystemService(JobScheduler::class.java))

    override fun schedule(download: Download) {
        val network = networkType(download.network)
        val pending = jobs.getPendingJob(id(download.source.name))
        @Suppress("DEPRECATION") // Systems before Android 9 have nothing else.
        if (pending?.networkType == network) return
        if (mayTransfer() && begin(job(download.source.name, network).transfer())) return
        jobs.schedule(job(download.source.name, network).build())
    }

    override fun cancel(name: String) = jobs.cancel(id(name))

    /** Of jobs of an app, which may have others: a hash of the model's path, in the upper half of the numbers. */
    private fun id(name: String): Int = File(folder, name).path.hashCode() or (1 shl 30) and Int.MAX_VALUE

    private fun networkType(network: AllowedNetwork): Int =
        when (network) {
            AllowedNetwork.UNMETERED -> JobInfo.NETWORK_TYPE_UNMETERED
            AllowedNetwork.ANY -> JobInfo.NETWORK_TYPE_ANY
        }

    private fun job(name: String, network: Int): JobInfo.Builder =
        JobInfo.Builder(id(name), ComponentName(context, ModelDownloadService::class.java))
            .setRequiredNetworkType(network)
            .setExtras(
                PersistableBundle().apply {
                    putString(FOLDER, folder.path)
                    putString(NAME, name)
                },
            )

    private fun JobInfo.Builder.transfer(): JobInfo.Builder =
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.UPSIDE_DOWN_CAKE) this else setUserInitiated(true)

    private fun mayTransfer(): Boolean =
        Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE &&
            context.checkSelfPermission(Manifest.permission.RUN_USER_INITIATED_JOBS) == PackageManager.PERMISSION_GRANTED

    /** The system refuses a user-initiated job of an app that nobody sees. */
    private fun begin(job: JobInfo.Builder): Boolean =
        try {
            jobs.schedule(job.build()) == JobScheduler.RESULT_SUCCESS
        } catch (_: IllegalStateException) {
            false
        } catch (_: SecurityException) {
            false
        }

    companion object {
        const val FOLDER = "folder"
        const val NAME = "name"
    }
}
