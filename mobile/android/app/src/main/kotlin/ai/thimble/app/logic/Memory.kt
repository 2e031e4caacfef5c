package ai.thimble.app.logic

import java.io.File

/** The process's resident bytes, from the kernel's count of its pages; 0 where there is no count. */
fun residentBytes(): Long =
    runCatching {
        File("/proc/self/status").useLines { lines ->
            lines.first { it.startsWith("VmRSS:") }.filter(Char::isDigit).toLong() * KIBIBYTE
        }
    }.getOrDefault(0)

private const val KIBIBYTE = 1024
