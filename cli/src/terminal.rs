//! Notes, errors and a status line on stderr, with colours where they are wanted.

use crate::stderr::with_stderr;
use crate::style::Style;
use crate::wrap::Wrap;
use console::Term;
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Whether to use colours on a stream that is a terminal or not.
pub(crate) fn has_colours(terminal: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && !is_dumb() && terminal
}

/// Whether the terminal has no escape sequences.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Prints dim lines to stderr; lost if stderr is closed.
pub(crate) fn note(line: &str) {
    let line = printable(line);
    let _ = with_stderr(|stderr, terminal| match terminal {
        true => {
            let style = if has_colours(true) { Style::DIM } else { Style::PLAIN };
            writeln!(stderr, "{}", between_words(&line, style))
        }
        false => writeln!(stderr, "{line}"),
    });
}

/// The text with line breaks between words at the width of the terminal on stderr.
fn between_words(text: &str, style: Style) -> String {
    let columns = Term::stderr().size_checked().map(|(_, columns)| usize::from(columns));
    let (mut wrap, mut out) = (Wrap::new(columns), String::new());
    wrap.push(text, style, &mut out);
    wrap.finish(&mut out);
    out
}

/// Prints what a driver wrote to stderr: it may explain a failure.
pub(crate) fn driver_output(output: &str) {
    output.lines().filter(|line| !line.trim().is_empty()).for_each(|line| note(&format!("driver: {line}")));
}

/// Begins the sentence that a command failed with.
const ERROR: &str = "error:";

/// Prints the sentence that a command failed with.
pub(crate) fn error(sentence: &dyn std::fmt::Display) {
    // It may quote a file's name or content.
    let sentence = sentence.to_string();
    let sentence = printable(&sentence);
    let _ = with_stderr(|stderr, terminal| {
        let whole = format!("{ERROR} {sentence}");
        let whole = if terminal { between_words(&whole, Style::PLAIN) } else { whole };
        match has_colours(terminal) {
            true => writeln!(stderr, "\x1b[1;31m{ERROR}\x1b[0m{}", &whole[ERROR.len()..]),
            false => writeln!(stderr, "{whole}"),
        }
    });
}

/// A line on stderr that the next one replaces; silent if stderr is not a terminal.
#[derive(Debug, Default)]
pub(crate) struct Status {
    width: usize,
}

impl Status {
    /// Replaces the line.
    pub(crate) fn show(&mut self, line: &str) {
        if !io::stderr().is_terminal() {
            return;
        }
        self.clear();
        let _ = match has_colours(true) {
            true => write!(io::stderr(), "\x1b[2m{line}\x1b[0m"),
            false => write!(io::stderr(), "{line}"),
        };
        self.width = line.chars().count();
    }

    /// Clears the line.
    pub(crate) fn clear(&mut self) {
        if self.width > 0 {
            let _ = write!(io::stderr(), "\r{:1$}\r", "", self.width);
            self.width = 0;
        }
    }
}

/// Text that is safe to print to a terminal: control characters other than line feed and tab, which could move the cursor
/// or worse, become U+FFFD.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(harmful, "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\r"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
        assert_eq!(printable("wörds\n\tand 🙂"), "wörds\n\tand 🙂");
    }
}
