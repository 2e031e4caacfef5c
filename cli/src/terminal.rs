//! What goes to stderr, and whether it may be coloured.

use crate::quiet;
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Whether stderr is a terminal that wants colours.
pub(crate) fn colours() -> bool {
    quiet::own(|_, terminal| wanted(terminal))
}

fn wanted(terminal: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused && !dumb && terminal
}

/// One dim line on stderr. Lost where stderr is closed.
pub(crate) fn note(line: &str) {
    let line = harmless(line);
    let _ = quiet::own(|stderr, terminal| match wanted(terminal) {
        true => writeln!(stderr, "\x1b[2m{line}\x1b[0m"),
        false => writeln!(stderr, "{line}"),
    });
}

/// What a driver wrote to stderr, where it may be the reason for a failure.
pub(crate) fn driver(said: &str) {
    said.lines().filter(|line| !line.trim().is_empty()).for_each(|line| note(&format!("driver: {line}")));
}

/// The sentence that a command failed with.
pub(crate) fn error(sentence: &dyn std::fmt::Display) {
    // It may quote a file's name or content.
    let sentence = sentence.to_string();
    let sentence = harmless(&sentence);
    let _ = quiet::own(|stderr, terminal| match wanted(terminal) {
        true => writeln!(stderr, "\x1b[1;31merror:\x1b[0m {sentence}"),
        false => writeln!(stderr, "error: {sentence}"),
    });
}

/// A line on stderr that the next one takes the place of; silent where stderr is no terminal.
#[derive(Debug, Default)]
pub(crate) struct Status {
    width: usize,
}

impl Status {
    /// Shows `line` instead of what was there.
    pub(crate) fn show(&mut self, line: &str) {
        if !io::stderr().is_terminal() {
            return;
        }
        self.clear();
        let _ = match colours() {
            true => write!(io::stderr(), "\x1b[2m{line}\x1b[0m"),
            false => write!(io::stderr(), "{line}"),
        };
        self.width = line.chars().count();
    }

    /// Leaves the terminal's line empty, if anything is on it.
    pub(crate) fn clear(&mut self) {
        if self.width > 0 {
            let _ = write!(io::stderr(), "\r{:1$}\r", "", self.width);
            self.width = 0;
        }
    }
}

/// A model's text as a terminal may have it: control characters other than line feed and tab, which could
/// move the cursor or worse, become U+FFFD.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(harmful, "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\u{9b}c\r"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
        assert_eq!(harmless("wörds\n\tand 🙂"), "wörds\n\tand 🙂");
    }
}
