//! Shows an answer as it arrives: wrapped and with dim reasoning on a terminal, unchanged anywhere else.

use super::wrap::{self, Wrap};
use crate::terminal::{self, Status};
use std::io::{self, Write};
use thimble_chat::{AnswerPiece, ReasoningSplitter};

/// Shows one answer.
pub(super) struct AnswerDisplay<'w> {
    stdout: &'w mut dyn Write,
    /// Whether stdout is a terminal.
    terminal: bool,
    /// Whether reasoning is left out.
    hidden: bool,
    splitter: ReasoningSplitter,
    wrap: Wrap,
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
    /// An empty answer; `hidden` leaves reasoning out.
    pub(super) fn new(stdout: &'w mut dyn Write, terminal: bool, hidden: bool) -> AnswerDisplay<'w> {
        AnswerDisplay {
            stdout,
            terminal,
            hidden,
            splitter: ReasoningSplitter::default(),
            wrap: Wrap::new(if terminal { wrap::terminal_width() } else { None }),
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
        let rest = self.wrap.finish();
        let reset = if self.dim { terminal::UNDIM } else { "" };
        (self.dim, self.within_line) = (false, false);
        self.wrap.restart();
        writeln!(self.stdout, "{rest}{reset}")
    }

    /// Ends the line before a note on stderr.
    pub(super) fn interrupt_line(&mut self) -> io::Result<()> {
        let rest = self.wrap.finish();
        self.stdout.write_all(rest.as_bytes())?;
        if self.terminal && self.wrap.within_line() {
            writeln!(self.stdout)?;
            self.wrap.restart();
        }
        self.stdout.flush()
    }

    /// Shows `pieces`, or `whole`, which they were split from, where reasoning keeps its tags.
    fn show(&mut self, whole: &str, pieces: &[Piece]) -> io::Result<()> {
        self.status.clear();
        self.empty &= pieces.iter().all(|piece| piece.reasoning || piece.text.trim().is_empty());
        let dims = self.terminal && terminal::has_colours(true);
        if !dims && !self.hidden {
            self.write(whole)?;
            return self.stdout.flush();
        }
        for piece in pieces {
            match (piece.reasoning, self.hidden) {
                (true, true) => self.status.show("thinking"),
                (true, false) => {
                    if !self.dim {
                        self.stdout.write_all(terminal::DIM.as_bytes())?;
                        self.dim = true;
                    }
                    self.write(&piece.text)?;
                }
                (false, _) => {
                    if self.dim {
                        let rest = self.wrap.finish();
                        write!(self.stdout, "{rest}{}\n\n", terminal::UNDIM)?;
                        self.wrap.restart();
                        self.dim = false;
                    }
                    self.write(&piece.text)?;
                }
            }
        }
        self.stdout.flush()
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let text = if self.terminal { terminal::printable(text) } else { text.into() };
        self.within_line |= !text.is_empty();
        let wrapped = self.wrap.push(&text);
        self.stdout.write_all(wrapped.as_bytes())
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
    use super::AnswerDisplay;

    fn shown(hidden: bool, pieces: &[&str]) -> (String, bool) {
        let mut stdout = Vec::new();
        let mut display = AnswerDisplay::new(&mut stdout, false, hidden);
        pieces.iter().for_each(|piece| display.text(piece).unwrap());
        display.finish().unwrap();
        let empty = display.empty;
        (String::from_utf8(stdout).unwrap(), empty)
    }

    #[test]
    fn a_call_has_a_line_of_its_own() {
        let mut stdout = Vec::new();
        let mut display = AnswerDisplay::new(&mut stdout, false, false);
        display.text("One moment.").unwrap();
        display.call("[a]").unwrap();
        display.call("[b]").unwrap();
        display.finish().unwrap();
        assert!(!display.empty);
        assert_eq!(String::from_utf8(stdout).unwrap(), "One moment.\n[a]\n[b]\n");
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
