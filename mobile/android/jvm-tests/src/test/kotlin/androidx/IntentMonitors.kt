package androidx.test.internal.runner.intent

import android.content.Intent
import androidx.test.runner.intent.IntentMonitor

@Suppress("unused", "UNUSED_PARAMETER")
class IntentMonitorImpl : IntentMonitor {
    fun signalIntent(intent: Intent) = Unit
}
