package ai.thimble.app

import ai.thimble.android.DeviceHints
import ai.thimble.android.DownloadNotifications
import ai.thimble.android.modelDownloads
import ai.thimble.app.logic.Catalogue
import ai.thimble.app.logic.ChatViewModel
import ai.thimble.app.logic.Device
import ai.thimble.app.logic.DownloadsViewModel
import ai.thimble.app.logic.FormsViewModel
import ai.thimble.app.ui.downloadNotification
import ai.thimble.download.ModelDownloads
import android.app.Activity
import android.app.ActivityManager
import android.app.Application
import android.os.Bundle
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import java.io.File

/** The process: it holds the view model, which outlives every screen. */
open class ThimbleApp : Application() {
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Main.immediate)

    /** The one view model. */
    val viewModel: ChatViewModel by lazy { ChatViewModel(device(), scope) }

    /** The downloads themselves. */
    val modelDownloads: ModelDownloads by lazy(::makeDownloads)

    /** Models to download. */
    val downloads: DownloadsViewModel by lazy { DownloadsViewModel(modelDownloads, catalogue(), viewModel, scope) }

    /** Forms to fill in. */
    val forms: FormsViewModel by lazy { FormsViewModel(viewModel::begin, scope) }

    private lateinit var hints: DeviceHints

    override fun onCreate() {
        super.onCreate()
        hints = DeviceHints(this, { viewModel.savePower(it) }, { viewModel.freeMemory() })
        registerActivityLifecycleCallbacks(Foreground { viewModel })
        DownloadNotifications.make = ::downloadNotification
        // Continues what was on its way before the system was started anew.
        modelDownloads
    }

    /** What the view model runs on; tests put their own in its place. */
    protected open fun device(): Device =
        Device(files = File(filesDir, "thimble"), caches = File(cacheDir, "thimble"), budget = ::budget)

    /** Where downloads go: the folder of the models. */
    protected open fun makeDownloads(): ModelDownloads = modelDownloads(this, File(filesDir, "thimble/models"))

    /** What is offered to be downloaded. */
    protected open fun catalogue(): Catalogue =
        Catalogue.parse(resources.openRawResource(R.raw.catalogue).use { it.readBytes().decodeToString() })

    /** Half of the phone's memory: beyond that the system ends other apps, and then this one. */
    private fun budget(): Long? {
        val memory = ActivityManager.MemoryInfo()
        getSystemService(ActivityManager::class.java)?.getMemoryInfo(memory)
        return memory.totalMem.takeIf { it > 0 }?.div(2)
    }
}

/** Lets answers wait while no screen of the app is seen. A screen that is being turned is seen. */
private class Foreground(private val viewModel: () -> ChatViewModel) : Application.ActivityLifecycleCallbacks {
    private var started = 0

    override fun onActivityStarted(activity: Activity) {
        if (started++ == 0) viewModel().resume()
    }

    override fun onActivityStopped(activity: Activity) {
        if (--started == 0 && !activity.isChangingConfigurations) viewModel().pause()
    }

    override fun onActivityCreated(activity: Activity, state: Bundle?) = Unit

    override fun onActivityResumed(activity: Activity) = Unit

    override fun onActivityPaused(activity: Activity) = Unit

    override fun onActivitySaveInstanceState(activity: Activity, state: Bundle) = Unit

    override fun onActivityDestroyed(activity: Activity) = Unit
}
