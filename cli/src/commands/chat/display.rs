//! Shows an answer as it arrives: as Markdown and with dim reasoning on a terminal, unchanged anywhere else.

use super::markdown::{Look, Markdown};
use crate::style::Style;
use crate::terminal::{self, Status};
use crate::wrap::terminal_width;
use std::io::{self, Write};
use thimble_chat::{AnswerPiece, ReasoningSplitter};

/// Shows one answer.
pub(super) struct AnswerDisplay<'w> {
    stdout: &'w mut dyn Write,
    /// How answers are shown, if stdout is a terminal.
    look: Option<Look>,
    /// Whether reasoning is left out.
    hidden: bool,
    splitter: ReasoningSplitter,
    markdown: Markdown,
    /// Whether reasoning is being shown, in dim letters.
    dim: bool,
    /// Whether the answer has nothing but white space and reasoning so far.
    pub(super) empty: bool,
    /// Whether the last line is unfinished.
    within_line: bool,
    /// Whether calls were shown.
    called: bool,
    /// The line on stderr.
    pub(super) status: Status,
}

impl<'w> AnswerDisplay<'w> {
    /// An empty answer, shown with `look` on a terminal; `hidden` leaves reasoning out.
    pub(super) fn new(stdout: &'w mut dyn Write, look: Option<Look>, hidden: bool) -> AnswerDisplay<'w> {
        AnswerDisplay {
            stdout,
            look,
            hidden,
            splitter: ReasoningSplitter::default(),
            markdown: Markdown::new(look.unwrap_or(Look::Plain), terminal_width()),
            dim: false,
            empty: true,
            within_line: false,
            called: false,
            status: Status::default(),
        }
    }

    /// Shows the next piece of the answer.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        let mut pieces = Vec::new();
        self.splitter.push(text, &mut |piece| pieces.push(Piece::new(piece)));
        self.show(text, &pieces)
    }

    /// Ends the answer with a line break.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let mut pieces = Vec::new();
        self.splitter.finish(&mut |piece| pieces.push(Piece::new(piece)));
        self.show("", &pieces)?;
        if self.within_line || !self.called {
            self.end_line()?;
        }
        self.stdout.flush()
    }

    /// Shows a call of a tool in a line of its own.
    pub(super) fn call(&mut self, line: &str) -> io::Result<()> {
        self.status.clear();
        (self.empty, self.called) = (false, true);
        if self.within_line {
            self.end_line()?;
        }
        writeln!(self.stdout, "{line}")?;
        self.stdout.flush()
    }

    fn end_line(&mut self) -> io::Result<()> {
        let rest = self.markdown.finish();
        (self.dim, self.within_line) = (false, false);
        self.markdown.restart();
        writeln!(self.stdout, "{rest}")
    }

    /// Ends the line before a note on stderr.
    pub(super) fn interrupt_line(&mut self) -> io::Result<()> {
        let rest = self.markdown.finish_word();
        self.stdout.write_all(rest.as_bytes())?;
        if self.look.is_some() && self.markdown.within_line() {
            writeln!(self.stdout)?;
            self.markdown.restart();
        }
        self.stdout.flush()
    }

    /// Shows `pieces`, or `whole`, which they were split from, where reasoning keeps its tags.
    fn show(&mut self, whole: &str, pieces: &[Piece]) -> io::Result<()> {
        self.status.clear();
        self.empty &= pieces.iter().all(|piece| piece.reasoning || piece.text.trim().is_empty());
        let dims = self.look.is_some() && terminal::has_colours(true);
        if !dims && !self.hidden {
            self.write(whole)?;
            return self.stdout.flush();
        }
        for piece in pieces {
            match (piece.reasoning, self.hidden) {
                (true, true) => self.status.show("thinking"),
                (true, false) => {
                    self.dim = true;
                    let shown = self.markdown.push_plain(&terminal::printable(&piece.text), Style::DIM);
                    self.stdout.write_all(shown.as_bytes())?;
                    self.within_line |= !piece.text.is_empty();
                }
                (false, _) => {
                    if std::mem::take(&mut self.dim) {
                        let rest = self.markdown.finish_word();
                        write!(self.stdout, "{rest}\n\n")?;
                        self.markdown.restart();
                    }
                    self.write(&piece.text)?;
                }
            }
        }
        self.stdout.flush()
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.within_line |= !text.is_empty();
        if self.look.is_none() {
            return self.stdout.write_all(text.as_bytes());
        }
        // The terminal may have another size by now.
        let shown = self.markdown.push(&terminal::printable(text), terminal_width());
        self.stdout.write_all(shown.as_bytes())
    }
}

/// An owned [`AnswerPiece`].
struct Piece {
    reasoning: bool,
    text: String,
}

impl Piece {
    fn new(piece: AnswerPiece<'_>) -> Piece {
        let (reasoning, text) = match piece {
            AnswerPiece::Reasoning(text) => (true, text),
            AnswerPiece::Text(text) => (false, text),
        };
        Piece { reasoning, text: text.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::{AnswerDisplay, Look};

    fn shown(hidden: bool, pieces: &[&str]) -> (String, bool) {
        let mut stdout = Vec::new();
        let mut display = AnswerDisplay::new(&mut stdout, None, hidden);
        pieces.iter().for_each(|piece| display.text(piece).unwrap());
        display.finish().unwrap();
        let empty = display.empty;
        (String::from_utf8(stdout).unwrap(), empty)
    }

    #[test]
    fn a_call_has_a_line_of_its_own() {
        let mut stdout = Vec::new();
        let mut display = AnswerDisplay::new(&mut stdout, None, false);
        display.text("One moment.").unwrap();
        display.call("[a]").unwrap();
        display.call("[b]").unwrap();
        display.finish().unwrap();
        assert!(!display.empty);
        assert_eq!(String::from_utf8(stdout).unwrap(), "One moment.\n[a]\n[b]\n");
    }

    #[test]
    fn a_terminal_gets_markdown_once_it_is_decided() {
        let mut stdout = Vec::new();
        let mut display = AnswerDisplay::new(&mut stdout, Some(Look::Attributes), false);
        ["**bo", "ld**", " and\u{1b}[2J *never"].iter().for_each(|piece| display.text(piece).unwrap());
        display.finish().unwrap();
        let expected = "\u{1b}[0;1mbold\u{1b}[0m and\u{fffd}[2J *never\n";
        assert_eq!(String::from_utf8(stdout).unwrap(), expected);
    }

    #[test]
    fn a_pipe_gets_everything_or_the_answer_alone() {
        let answer = ["<thi", "nk>\nhm", "\n</think>", "\n\nYes", "."];
        assert_eq!(shown(false, &answer), ("<think>\nhm\n</think>\n\nYes.\n".to_string(), false));
        assert_eq!(shown(true, &answer), ("Yes.\n".to_string(), false));
        assert_eq!(shown(true, &answer[..3]), ("\n".to_string(), true));
        assert_eq!(shown(false, &["<b>", " x"]), ("<b> x\n".to_string(), false));
        assert_eq!(shown(true, &["<thi"]), ("<thi\n".to_string(), false));
    }
}
