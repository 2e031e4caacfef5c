//! What libraries write to stderr on their own.

#[cfg(unix)]
pub(crate) use unix::{aside, own};

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
    use std::sync::{Mutex, PoisonError};

    /// The process's stderr while what is written there is kept back.
    static OURS: Mutex<Option<File>> = Mutex::new(None);

    /// Does `work` while what anything else writes to stderr is kept back, and returns that beside the result: drivers and
    /// their loaders report there what they tried on the way, in lines that look like errors and are none. What is written
    /// through [`own`] is shown. After a panic stderr is itself again and has all of it.
    ///
    /// Where stderr cannot be redirected, it stays as it is.
    pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> (T, String) {
        let kept = Kept::begin();
        let done = work();
        (done, kept.map_or_else(String::new, Kept::end))
    }

    /// Stderr for our own lines, and whether it is a terminal.
    pub(crate) fn own<T>(write: impl FnOnce(&mut dyn Write, bool) -> T) -> T {
        match OURS.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(file) => {
                let terminal = file.is_terminal();
                write(file, terminal)
            }
            None => write(&mut io::stderr(), io::stderr().is_terminal()),
        }
    }

    /// Stderr goes to this file until it is dropped.
    struct Kept(File);

    impl Kept {
        /// `None` where stderr cannot be redirected, or is already.
        fn begin() -> Option<Kept> {
            let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
            if ours.is_some() {
                return None;
            }
            let file = tempfile::tempfile().ok()?;
            let stderr = nix::unistd::dup(io::stderr()).ok()?;
            nix::unistd::dup2_stderr(&file).ok()?;
            *ours = Some(File::from(stderr));
            Some(Kept(file))
        }

        fn end(mut self) -> String {
            self.restore()
        }

        fn restore(&mut self) -> String {
            let Some(stderr) = OURS.lock().unwrap_or_else(PoisonError::into_inner).take() else {
                return String::new();
            };
            let mut text = Vec::new();
            // If this failed, there would be nowhere to tell it.
            let _ = nix::unistd::dup2_stderr(stderr);
            let _ = self.0.seek(SeekFrom::Start(0)).and_then(|_| self.0.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            // After a panic: its message is in there.
            let _ = io::stderr().write_all(self.restore().as_bytes());
        }
    }
}

/// Does `work`; elsewhere drivers have their own places for what they report.
#[cfg(not(unix))]
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> (T, String) {
    (work(), String::new())
}

/// Stderr for our own lines, and whether it is a terminal.
#[cfg(not(unix))]
pub(crate) fn own<T>(write: impl FnOnce(&mut dyn std::io::Write, bool) -> T) -> T {
    use std::io::{IsTerminal, stderr};
    write(&mut stderr(), stderr().is_terminal())
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
        // What is meant to be seen is not kept back, and a panic leaves nothing redirected.
        let (_, said) = aside(|| {
            crate::terminal::note("a note");
            say("noise")
        });
        assert!(said.contains("noise") && !said.contains("a note"), "{said}");
        assert!(std::panic::catch_unwind(|| aside(|| panic!("expected"))).is_err());
        let (_, said) = aside(|| say("again"));
        assert!(said.contains("again") && !said.contains("expected"), "{said}");
    }
}
