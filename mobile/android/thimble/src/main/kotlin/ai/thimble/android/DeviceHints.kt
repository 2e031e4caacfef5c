package ai.thimble.android

import android.content.BroadcastReceiver
import android.content.ComponentCallbacks2
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.content.res.Configuration
import android.os.Build
import android.os.PowerManager

/**
 * Passes the device's state of heat, battery and memory to a chat, until it is closed:
 *
 *     val hints = DeviceHints(context, chat::savePower, chat::freeMemory) // and hints.close() with the chat
 *
 * [savePower] is called when its argument changes, [freeMemory] when the system is about to end processes; both on the
 * main thread.
 */
class DeviceHints(
    context: Context,
    private val savePower: (Boolean) -> Unit,
    private val freeMemory: () -> Unit,
) : AutoCloseable {
    private val context = context.applicationContext
    private val power: PowerManager = checkNotNull(this.context.getSystemService(PowerManager::class.java))
    private var saving = false
    private var hot = false
    private var listensToHeat = false

    private val trim = object : ComponentCallbacks2 {
        override fun onTrimMemory(level: Int) {
            if (frees(level)) freeMemory()
        }

        override fun onConfigurationChanged(configuration: Configuration) = Unit

        @Deprecated("Called by systems before Android 14")
        override fun onLowMemory() = freeMemory()
    }

    private val battery = object : BroadcastReceiver() {
        override fun onReceive(context: Context, intent: Intent) = look()
    }

    /** An [PowerManager.OnThermalStatusChangedListener], which systems before Android 10 do not know. */
    private val heat: Any? =
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) {
            null
        } else {
            PowerManager.OnThermalStatusChangedListener { status ->
                hot = status >= PowerManager.THERMAL_STATUS_MODERATE
                look()
            }
        }

    init {
        this.context.registerComponentCallbacks(trim)
        this.context.registerReceiver(battery, IntentFilter(PowerManager.ACTION_POWER_SAVE_MODE_CHANGED))
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) listenToHeat()
        look()
    }

    private fun listenToHeat() {
        try {
            // Calls back at once with the current status.
            power.addThermalStatusListener(context.mainExecutor, heat as PowerManager.OnThermalStatusChangedListener)
            listensToHeat = true
        } catch (_: RuntimeException) {
            // The device does not measure it.
        }
    }

    private fun look() {
        val save = hot || power.isPowerSaveMode
        if (save == saving) return
        saving = save
        savePower(save)
    }

    override fun close() {
        context.unregisterComponentCallbacks(trim)
        context.unregisterReceiver(battery)
        if (listensToHeat && Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            power.removeThermalStatusListener(heat as PowerManager.OnThermalStatusChangedListener)
        }
    }

    companion object {
        /** Whether a level of `onTrimMemory` says that the process may be ended soon. */
        fun frees(level: Int): Boolean =
            @Suppress("DEPRECATION") // Systems before Android 14 send it.
            level == ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL || level >= ComponentCallbacks2.TRIM_MEMORY_BACKGROUND
    }
}
