//! Markdown as it reads well in a terminal, while it streams: a subset of CommonMark.
//!
//! Code blocks and tables keep their lines and characters, so that they can be copied. An element is held back until its end
//! has arrived, because its beginning may be plain text.

mod block;
mod inline;

use crate::style::{Style, StyledText};
use crate::terminal;
use crate::wrap::Wrap;
use block::{Fence, LineStart, line_start};
use inline::{Element, first_element};
use std::io::{self, IsTerminal};

/// How text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// As it is: only long lines are broken.
    Plain,
    /// Markdown without colours: code keeps its backticks.
    Attributes,
    /// Markdown.
    Colours,
}

/// Shows Markdown that arrives in pieces.
#[derive(Debug)]
pub(super) struct Markdown {
    look: Look,
    wrap: Wrap,
    /// What more text decides on: at most the beginning of a line, or of an element.
    held: String,
    phase: Phase,
    /// The code block that a line is in.
    fence: Option<Fence>,
    /// Quotes that the line is in.
    quotes: usize,
    /// Whether indented lines belong to a list.
    list: bool,
    /// Whether the line before was blank.
    blank: bool,
    /// Of the line's text.
    style: Style,
    /// The last character shown of this line.
    before: Option<char>,
}

/// Where in a line the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before what a line begins with.
    Start,
    /// In text with elements.
    Text,
    /// In text that is shown as it is.
    Verbatim,
}

impl Look {
    /// What stdout allows; `None` if it is no terminal. `plain` asks for text as it is.
    pub(super) fn of_stdout(plain: bool) -> Option<Look> {
        let look = match (plain || terminal::is_dumb(), terminal::has_colours(true)) {
            (true, _) => Look::Plain,
            (false, false) => Look::Attributes,
            (false, true) => Look::Colours,
        };
        io::stdout().is_terminal().then_some(look)
    }
}

impl Markdown {
    /// Text on lines of at most `width` columns; `None` breaks no lines.
    pub(super) fn new(look: Look, width: Option<usize>) -> Markdown {
        Markdown {
            look,
            wrap: Wrap::new(width),
            held: String::new(),
            phase: Phase::Start,
            fence: None,
            quotes: 0,
            list: false,
            blank: true,
            style: Style::PLAIN,
            before: None,
        }
    }

    /// Takes more text and returns what can be shown now, for a terminal of `width` columns.
    pub(super) fn push(&mut self, text: &str, width: Option<usize>) -> String {
        self.wrap.resize(width);
        self.held.push_str(text);
        let mut out = String::new();
        self.show_held(false, &mut out);
        out
    }

    /// Takes text that is not Markdown.
    pub(super) fn push_plain(&mut self, text: &str, style: Style) -> String {
        let mut out = String::new();
        self.wrap.push(text, style, &mut out);
        out
    }

    /// Returns what was held back, at the end of the text.
    pub(super) fn finish(&mut self) -> String {
        let mut out = String::new();
        self.show_held(true, &mut out);
        self.wrap.finish(&mut out);
        out
    }

    /// Returns the words that were held back, before other output.
    pub(super) fn finish_word(&mut self) -> String {
        let mut out = String::new();
        self.wrap.finish(&mut out);
        out
    }

    /// Whether the current line has text.
    pub(super) fn within_line(&self) -> bool {
        self.wrap.within_line()
    }

    /// The cursor is at the start of a line again.
    pub(super) fn restart(&mut self) {
        self.wrap.restart();
    }

    /// Shows what is decided; all of it at the end of the text.
    fn show_held(&mut self, ended: bool, out: &mut String) {
        let held = std::mem::take(&mut self.held);
        let mut rest = &*held;
        while !rest.is_empty() {
            let end = rest.find('\n');
            let line = &rest[..end.unwrap_or(rest.len())];
            let complete = ended || end.is_some();
            let taken = match self.phase {
                Phase::Start => self.begin_line(line, complete, out),
                _ if line.is_empty() => {
                    self.end_line(out);
                    Some(1)
                }
                Phase::Verbatim => {
                    self.wrap.push(line, self.style, out);
                    Some(line.len())
                }
                Phase::Text => self.show_element(line, self.style, complete, out),
            };
            let Some(taken) = taken else { break };
            rest = &rest[taken..];
        }
        self.held.push_str(rest);
    }

    /// Shows what a line begins with, and returns its bytes; `None` if more of the line decides.
    fn begin_line(&mut self, line: &str, complete: bool, out: &mut String) -> Option<usize> {
        let indented_code = self.blank && !self.list;
        let start = line_start(line, complete, self.fence.filter(|fence| fence.quotes <= self.quotes))?;
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let blank = line.trim().is_empty();
        match start {
            LineStart::Quote(length) if self.fence.is_none_or(|fence| fence.quotes > self.quotes) => {
                self.quotes += 1;
                self.begin(&line[..length], "│ ", Style::DIM, out);
                return Some(length);
            }
            // Only the lines of a quote are in its code block.
            _ if self.fence.is_some_and(|fence| fence.quotes > self.quotes) => {
                self.fence = None;
                return Some(0);
            }
            _ => {}
        }
        let (phase, style, taken) = match start {
            _ if self.fence.is_some() && !matches!(start, LineStart::Fence(_)) => {
                (Phase::Verbatim, Style::CODE, 0)
            }
            LineStart::Fence(fence) => {
                self.fence = match self.fence {
                    Some(_) => None,
                    None => Some(Fence { quotes: self.quotes, ..fence }),
                };
                (Phase::Verbatim, Style::DIM, 0)
            }
            LineStart::Table => (Phase::Verbatim, Style::PLAIN, 0),
            LineStart::Heading { level, length } => {
                let style = if level <= 2 { Style::BOLD.with(Style::UNDERLINE) } else { Style::BOLD };
                self.list = false;
                self.begin(&line[..length], "", Style::PLAIN, out);
                (Phase::Text, style, length)
            }
            LineStart::Rule(length) => {
                self.list = false;
                self.begin(&line[..length], "────────", Style::DIM, out);
                (Phase::Text, Style::PLAIN, length)
            }
            LineStart::Bullet(length) => {
                self.list = true;
                let bullet = format!("{}• ", &line[..indent]);
                self.begin(&line[..length], &bullet, Style::PLAIN, out);
                (Phase::Text, Style::PLAIN, length)
            }
            LineStart::Number(length) => {
                self.list = true;
                self.begin(&line[..length], &line[..length], Style::PLAIN, out);
                (Phase::Text, Style::PLAIN, length)
            }
            LineStart::Quote(_) | LineStart::Text => {
                self.list &= blank || indent > 0;
                match indent >= 4 && indented_code && !blank {
                    true => (Phase::Verbatim, Style::CODE, 0),
                    false => {
                        self.begin(&line[..indent], &line[..indent], Style::PLAIN, out);
                        (Phase::Text, Style::PLAIN, indent)
                    }
                }
            }
        };
        (self.phase, self.blank) = (phase, blank);
        self.style = if self.look == Look::Plain { Style::PLAIN } else { self.coloured(style) };
        self.wrap.keep_whole(phase == Phase::Verbatim);
        Some(taken)
    }

    /// Begins the line with `shown`, or with `typed` where nothing is changed.
    fn begin(&mut self, typed: &str, shown: &str, style: Style, out: &mut String) {
        if self.look == Look::Plain {
            self.wrap.push(typed, Style::PLAIN, out);
            return;
        }
        let prefix = StyledText::new(shown, self.coloured(style));
        // Below a bullet or a number there is space, below a quote's bar another one.
        let hang = match style {
            Style::DIM => prefix.clone(),
            _ => StyledText::new(&" ".repeat(prefix.width()), Style::PLAIN),
        };
        self.wrap.begin(&prefix, &hang, out);
    }

    fn end_line(&mut self, out: &mut String) {
        self.wrap.push("\n", Style::PLAIN, out);
        (self.phase, self.quotes, self.style, self.before) = (Phase::Start, 0, Style::PLAIN, None);
    }

    /// Shows the first element of `line`, and returns its bytes; `None` if more of the line decides.
    fn show_element(&mut self, line: &str, style: Style, complete: bool, out: &mut String) -> Option<usize> {
        if self.look == Look::Plain {
            self.show(line, style, out);
            return Some(line.len());
        }
        let length = match first_element(line, self.before, complete)? {
            Element::Text(length) => {
                self.show(&line[..length], style, out);
                length
            }
            Element::Escape => {
                let length = 1 + line[1..].chars().next().map_or(0, char::len_utf8);
                self.show(&line[1..length], style, out);
                length
            }
            Element::Code { length, text } => {
                let shown = if self.look == Look::Colours { text } else { &line[..length] };
                self.show(shown, style.with(self.coloured(Style::CODE)), out);
                length
            }
            Element::Emphasis { length, markers, inner } => {
                let bold = if markers >= 2 { Style::BOLD } else { Style::PLAIN };
                let italic = if markers != 2 { Style::ITALIC } else { Style::PLAIN };
                self.show_elements(inner, style.with(bold).with(italic), out);
                length
            }
            Element::Link { length, text, address } => {
                self.show_elements(text, style.with(Style::UNDERLINE), out);
                if text != address {
                    self.show(&format!(" ({address})"), style, out);
                }
                length
            }
        };
        self.before = line[..length].chars().next_back();
        Some(length)
    }

    /// Shows the elements of a whole text.
    fn show_elements(&mut self, mut text: &str, style: Style, out: &mut String) {
        self.before = None;
        while !text.is_empty() {
            let taken = self.show_element(text, style, true, out);
            text = &text[taken.unwrap_or(text.len())..];
        }
    }

    fn show(&mut self, text: &str, style: Style, out: &mut String) {
        self.wrap.push(text, style, out);
    }

    /// The style, without the attributes that are colours where none are wanted.
    fn coloured(&self, style: Style) -> Style {
        let colour = matches!(style, Style::CODE | Style::DIM);
        if colour && self.look != Look::Colours { Style::PLAIN } else { style }
    }
}

#[cfg(test)]
mod tests;
