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

fn text(bytes: Vec<u8>, input: &str) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::NotUtf8 { input: input.to_string(), at }
    })
}
