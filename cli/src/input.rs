//! Text from stdin and files.

use crate::failure::Failure;
use crate::terminal;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

/// The path that means stdin.
pub(crate) const STDIN: &str = "-";

/// All of stdin as text. On a terminal, a note says how to end it.
pub(crate) fn stdin() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        let end = if cfg!(windows) { "Ctrl-Z and Enter" } else { "Ctrl-D" };
        terminal::note(&format!("reading from the terminal: end the text with {end} on a line of its own"));
    }
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|source| Failure::io("read", Path::new("stdin"), source))?;
    text(bytes, "the text on stdin")
}

/// The input's name in messages.
pub(crate) fn name(path: &Path) -> String {
    if path.as_os_str() == STDIN { "stdin".to_string() } else { path.display().to_string() }
}

/// All of a file, or of stdin for `-`, as text.
pub(crate) fn file(path: &Path) -> Result<String, Failure> {
    if path.as_os_str() == STDIN {
        return stdin();
    }
    let failed = |source| Failure::io("read", path, source);
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(failed)?;
    text(bytes, &path.display().to_string())
}

/// Bytes of the largest file that goes into a message: far more than the context of a model holds.
const MAX_ATTACHMENT: u64 = 16 << 20;

/// All of a file that goes into a message, as text; pipes are read to their end.
///
/// # Errors
/// It is a folder or a device, has more than 16 MiB, cannot be read, or is not UTF-8.
pub(crate) fn attachment(path: &Path) -> Result<String, Failure> {
    let failed = |source| Failure::io("read", path, source);
    let refused = |reason: &str| failed(io::Error::new(io::ErrorKind::InvalidInput, reason.to_string()));
    if path.as_os_str() == STDIN {
        return stdin();
    }
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    // A device such as /dev/zero has no end, and a named pipe without a writer blocks in `open`.
    if !kind.is_file() && !is_open_stream(path) {
        return Err(refused(
            "expected a regular file, found a folder, a device or a pipe: copy the text into a file",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_ATTACHMENT + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_ATTACHMENT {
        return Err(refused("expected at most 16 MiB, found more: give the part that matters"));
    }
    text(bytes, &path.display().to_string())
}

/// Whether the shell opened it for this process: stdin, or the pipe of `<(...)`.
fn is_open_stream(path: &Path) -> bool {
    path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd")
}

fn text(bytes: Vec<u8>, input: &str) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::NotUtf8 { input: input.to_string(), at }
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::attachment;
    use std::path::Path;

    #[test]
    fn attachments_are_regular_files() {
        for path in ["/dev/zero", "/"] {
            let error = attachment(Path::new(path)).expect_err(path).to_string();
            assert!(error.contains("expected a regular file"), "{path}: {error}");
        }
    }
}
