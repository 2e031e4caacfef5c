//! Stderr, shared with libraries that write to it on their own.

#[cfg(unix)]
pub(crate) use unix::{capture, with_stderr};

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
    use std::sync::{Mutex, PoisonError};

    /// The real stderr while a capture is running.
    static REAL: Mutex<Option<File>> = Mutex::new(None);

    /// Does `work` and captures what it writes to stderr: GPU drivers and their loaders report every attempt there, in lines
    /// that look like errors but are not. What is written through [`with_stderr`] is still shown. After a panic stderr is
    /// restored and gets the captured text.
    ///
    /// Captures nothing where stderr cannot be redirected.
    pub(crate) fn capture<T>(work: impl FnOnce() -> T) -> (T, String) {
        let capture = Capture::begin();
        let done = work();
        (done, capture.map_or_else(String::new, Capture::end))
    }

    /// The real stderr for our own lines, and whether it is a terminal.
    pub(crate) fn with_stderr<T>(write: impl FnOnce(&mut dyn Write, bool) -> T) -> T {
        match REAL.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(file) => {
                let terminal = file.is_terminal();
                write(file, terminal)
            }
            None => write(&mut io::stderr(), io::stderr().is_terminal()),
        }
    }

    /// Stderr goes to this file until the capture is dropped.
    struct Capture(File);

    impl Capture {
        /// `None` where stderr cannot be redirected, or is already.
        fn begin() -> Option<Capture> {
            let mut real = REAL.lock().unwrap_or_else(PoisonError::into_inner);
            if real.is_some() {
                return None;
            }
            let file = tempfile::tempfile().ok()?;
            let stderr = nix::unistd::dup(io::stderr()).ok()?;
            nix::unistd::dup2_stderr(&file).ok()?;
            *real = Some(File::from(stderr));
            Some(Capture(file))
        }

        fn end(mut self) -> String {
            self.restore()
        }

        fn restore(&mut self) -> String {
            let Some(stderr) = REAL.lock().unwrap_or_else(PoisonError::into_inner).take() else {
                return String::new();
            };
            let mut text = Vec::new();
            // There is nowhere to report a failure.
            let _ = nix::unistd::dup2_stderr(stderr);
            let _ = self.0.seek(SeekFrom::Start(0)).and_then(|_| self.0.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        }
    }

    impl Drop for Capture {
        fn drop(&mut self) {
            // After a panic: its message was captured too.
            let _ = io::stderr().write_all(self.restore().as_bytes());
        }
    }
}

/// Does `work` and captures nothing: on other systems drivers report elsewhere.
#[cfg(not(unix))]
pub(crate) fn capture<T>(work: impl FnOnce() -> T) -> (T, String) {
    (work(), String::new())
}

/// Stderr for our own lines, and whether it is a terminal.
#[cfg(not(unix))]
pub(crate) fn with_stderr<T>(write: impl FnOnce(&mut dyn std::io::Write, bool) -> T) -> T {
    use std::io::{IsTerminal, stderr};
    write(&mut stderr(), stderr().is_terminal())
}

#[cfg(all(test, unix))]
mod tests {
    use super::{capture, with_stderr};
    use std::process::Command;

    #[test]
    fn only_what_the_work_writes_is_captured() {
        let write =
            |text: &str| Command::new("sh").args(["-c", &format!("echo {text} >&2")]).status().is_ok();
        let (done, said) = capture(|| write("noise"));
        assert!(done && said.contains("noise"), "{said}");
        assert_eq!(capture(|| 7).0, 7);
        let (_, said) = capture(|| ());
        assert!(!said.contains("noise"), "{said}");
        // Our own lines are not captured, and a panic leaves nothing redirected.
        let (_, said) = capture(|| {
            with_stderr(|stderr, _| writeln!(stderr, "a note")).unwrap();
            write("noise")
        });
        assert!(said.contains("noise") && !said.contains("a note"), "{said}");
        assert!(std::panic::catch_unwind(|| capture(|| panic!("expected"))).is_err());
        let (_, said) = capture(|| write("again"));
        assert!(said.contains("again") && !said.contains("expected"), "{said}");
    }
}
