package ai.thimble.app

import ai.thimble.android.DeviceHints
import ai.thimble.app.logic.ChatViewModel
import ai.thimble.app.logic.Device
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

    private lateinit var hints: DeviceHints

    override fun onCreate() {
        super.onCreate()
        hints = DeviceHints(this, { viewModel.savePower(it) }, { viewModel.freeMemory() })
        registerActivityLifecycleCallbacks(Foreground { viewModel })
    }

    /** What the view model runs on; tests put their own in its place. */
    protected open fun device(): Device =
        Device(files = File(filesDir, "thimble"), caches = File(cacheDir, "thimble"), budget = ::budget)

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
