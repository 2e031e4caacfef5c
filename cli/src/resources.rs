//! Memory that this process has used.

/// The peak of resident memory in bytes; `None` where the platform does not report it.
#[cfg(target_os = "linux")]
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    // Not getrusage: its figure survives exec, so a large parent would show through.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The peak of resident memory in bytes; `None` where the platform does not report it.
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let peak = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
    // Apple counts bytes, the other systems kibibytes.
    Some(if cfg!(target_vendor = "apple") { peak } else { peak * 1024 })
}

/// The peak of resident memory in bytes; `None` where the platform does not report it.
#[cfg(not(unix))]
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn touched_memory_shows() {
        let before = super::peak_resident_bytes().unwrap();
        let block = vec![1u8; 64 << 20];
        std::hint::black_box(&block);
        let after = super::peak_resident_bytes().unwrap();
        assert!(after >= before.max(64 << 20), "{before} {after}");
    }
}
