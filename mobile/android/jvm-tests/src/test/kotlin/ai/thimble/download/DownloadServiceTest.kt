package ai.thimble.download

import ai.thimble.android.ModelDownloadService
import ai.thimble.android.modelDownloads
import ai.thimble.soon
import android.app.Application
import android.app.job.JobInfo
import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.content.Context
import android.net.Network
import android.os.Bundle
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.map
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import java.io.File
import java.util.UUID

/** Downloads as jobs of the system, on the framework of Android 15. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = Application::class)
class DownloadServiceTest {
    private val context: Context get() = RuntimeEnvironment.getApplication()
    private val jobs get() = checkNotNull(context.getSystemService(JobScheduler::class.java))
    private val folder by lazy { File(context.filesDir, UUID.randomUUID().toString()) }

    @Test
    fun `a download is a job for free networks, and can be let on any`() {
        val downloads = modelDownloads(context, folder)
        assertTrue("one object for a folder", downloads === modelDownloads(context, folder))
        downloads.start(source("http://127.0.0.1:1"))
        val job = jobs.allPendingJobs.single()
        assertEquals(JobInfo.NETWORK_TYPE_UNMETERED, job.networkType)
        assertEquals(ModelDownloadService::class.java.name, job.service.className)
        downloads.resume("small", AllowedNetwork.ANY)
        assertEquals(JobInfo.NETWORK_TYPE_ANY, jobs.allPendingJobs.single().networkType)
        downloads.pause("small")
        assertEquals(emptyList<JobInfo>(), jobs.allPendingJobs)
    }

    @Test
    fun `the example of the documents`() = soon {
        val source = source("http://127.0.0.1:1")
        val downloads = modelDownloads(context)
        downloads.start(source) // over Wi-Fi; AllowedNetwork.ANY also takes the phone's plan
        val shown = downloads.downloads.map { all -> all.joinToString { "${it.source.name}: ${it.state}" } }
        assertEquals("small: Waiting(done=0)", shown.first())
        downloads.delete(source.name)
    }

    @Test
    fun `with the permission it is a transfer that the person asked for`() {
        shadowOf(RuntimeEnvironment.getApplication()).grantPermissions("android.permission.RUN_USER_INITIATED_JOBS")
        val downloads = modelDownloads(context, folder)
        downloads.start(source("http://127.0.0.1:1"))
        assertTrue(jobs.allPendingJobs.single().isUserInitiated)
    }

    @Test
    fun `the service runs it, and tries again what may pass`() = soon {
        FileServer("no model".toByteArray()).use { server ->
            val downloads = modelDownloads(context, folder)
            downloads.start(source(server.address))
            val service = Robolectric.buildService(ModelDownloadService::class.java).create().get()
            assertTrue(service.onStartJob(parameters()))
            while (!shadowOf(service).isJobFinished) delay(5)
            // The server's file is no model, which no second try changes.
            val state = downloads.downloads.value.single().state
            assertTrue("$state", (state as DownloadState.Failed).error is DownloadException.NotAModel)
            assertFalse(shadowOf(service).isRescheduleNeeded)
        }
        val downloads = modelDownloads(context, folder)
        downloads.start(source("http://127.0.0.1:1"))
        val service = Robolectric.buildService(ModelDownloadService::class.java).create().get()
        assertTrue(service.onStartJob(parameters()))
        while (!shadowOf(service).isJobFinished) delay(5)
        assertTrue("nobody listens there", shadowOf(service).isRescheduleNeeded)
        assertEquals(DownloadState.Waiting(0), downloads.downloads.value.single().state)
    }

    @Test
    fun `the system stops it, and has it run again later`() = soon {
        FileServer(ByteArray(10)).use { server ->
            server.instead = { _, _ -> Thread.sleep(300).let { false } }
            val downloads = modelDownloads(context, folder)
            downloads.start(source(server.address))
            val service = Robolectric.buildService(ModelDownloadService::class.java).create().get()
            val parameters = parameters()
            service.onStartJob(parameters)
            assertTrue(service.onStopJob(parameters))
            assertFalse("another is not known", service.onStopJob(parameters))
            while (downloads.downloads.value.single().state !is DownloadState.Waiting) delay(5)
            assertEquals(1, jobs.allPendingJobs.size)
        }
    }

    private fun source(address: String) = ModelSource("small", "$address/small.thimble")

    /** As the system would call the one job that waits. */
    private fun parameters(): JobParameters {
        val job = jobs.allPendingJobs.single()
        val network: Network? = null
        return JobParameters(
            null, null, job.id, job.extras, Bundle(), null, 0, false, false, job.isUserInitiated, null, null, network,
        )
    }
}
