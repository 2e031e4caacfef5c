//! What libraries write to stderr on their own.

/// Does `work` while what anything else writes to stderr is kept back, and returns that beside the result: drivers and
/// their loaders report there what they tried on the way, in lines that look like errors and are none.
///
/// Where stderr cannot be redirected, it stays as it is.
#[cfg(unix)]
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> (T, String) {
    use std::io::{Read, Seek, SeekFrom};
    let redirected = || {
        let file = tempfile::tempfile().ok()?;
        let stderr = nix::unistd::dup(std::io::stderr()).ok()?;
        nix::unistd::dup2_stderr(&file).ok()?;
        Some((file, stderr))
    };
    let kept = redirected();
    let done = work();
    let mut text = Vec::new();
    if let Some((mut file, stderr)) = kept {
        // If this failed, there would be nowhere to tell it.
        let _ = nix::unistd::dup2_stderr(stderr);
        let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut text));
    }
    (done, String::from_utf8_lossy(&text).into_owned())
}

/// Does `work`; elsewhere drivers have their own places for what they report.
#[cfg(not(unix))]
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> (T, String) {
    (work(), String::new())
}

#[cfg(all(test, unix))]
mod tests {
    use super::aside;
    use std::process::Command;

    #[test]
    fn what_others_write_is_kept_back_and_only_while_it_works() {
        let say = |text: &str| Command::new("sh").args(["-c", &format!("echo {text} >&2")]).status().is_ok();
        let (done, said) = aside(|| say("noise"));
        assert!(done && said.contains("noise"), "{said}");
        assert_eq!(aside(|| 7).0, 7);
        let (_, said) = aside(|| ());
        assert!(!said.contains("noise"), "{said}");
    }
}
