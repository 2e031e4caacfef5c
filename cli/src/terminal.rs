//! What goes to stderr, and whether it may be coloured.

use std::io::{self, IsTerminal, Write};

/// Whether stderr is a terminal that wants colours.
pub(crate) fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused && !dumb && io::stderr().is_terminal()
}

/// One dim line on stderr. Lost where stderr is closed.
pub(crate) fn note(line: &str) {
    let _ = match colours() {
        true => writeln!(io::stderr(), "\x1b[2m{line}\x1b[0m"),
        false => writeln!(io::stderr(), "{line}"),
    };
}

/// The sentence that a command failed with.
pub(crate) fn error(sentence: &dyn std::fmt::Display) {
    let _ = match colours() {
        true => writeln!(io::stderr(), "\x1b[1;31merror:\x1b[0m {sentence}"),
        false => writeln!(io::stderr(), "error: {sentence}"),
    };
}
