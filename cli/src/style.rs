//! How characters look in a terminal, and text that carries it.

use console::measure_text_width;
use std::fmt::Write;

/// Attributes of a character, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style(u8);

impl Style {
    pub(crate) const PLAIN: Style = Style(0);
    pub(crate) const BOLD: Style = Style(1);
    pub(crate) const DIM: Style = Style(1 << 1);
    pub(crate) const ITALIC: Style = Style(1 << 2);
    pub(crate) const UNDERLINE: Style = Style(1 << 3);
    /// A colour for code.
    pub(crate) const CODE: Style = Style(1 << 4);

    /// The attributes with their parameters of the escape sequence SGR (ECMA-48, 8.3.117).
    const PARAMETERS: [(Style, u8); 5] =
        [(Style::BOLD, 1), (Style::DIM, 2), (Style::ITALIC, 3), (Style::UNDERLINE, 4), (Style::CODE, 36)];

    /// The attributes of both.
    pub(crate) const fn with(self, other: Style) -> Style {
        Style(self.0 | other.0)
    }

    /// Makes a terminal that shows `shown` show this style.
    pub(crate) fn select(self, shown: &mut Style, out: &mut String) {
        if std::mem::replace(shown, self) == self {
            return;
        }
        out.push_str("\x1b[0");
        for (style, parameter) in Style::PARAMETERS {
            if self.0 & style.0 != 0 {
                // A string takes any text.
                let _ = write!(out, ";{parameter}");
            }
        }
        out.push('m');
    }
}

/// Text of several styles.
#[derive(Clone, Debug, Default)]
pub(crate) struct StyledText {
    text: String,
    /// Styles, each with the byte from which it holds.
    changes: Vec<(usize, Style)>,
}

impl StyledText {
    /// Text of one style.
    pub(crate) fn new(text: &str, style: Style) -> StyledText {
        let mut styled = StyledText::default();
        text.chars().for_each(|c| styled.push(c, style));
        styled
    }

    pub(crate) fn push(&mut self, c: char, style: Style) {
        if self.changes.last().is_none_or(|&(_, last)| last != style) {
            self.changes.push((self.text.len(), style));
        }
        self.text.push(c);
    }

    pub(crate) fn append(&mut self, other: &StyledText) {
        other.pieces().for_each(|(text, style)| text.chars().for_each(|c| self.push(c, style)));
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Columns that it takes.
    pub(crate) fn width(&self) -> usize {
        measure_text_width(&self.text)
    }

    /// Appends text and changes of style to `out`, for a terminal that shows `shown`.
    pub(crate) fn write(&self, shown: &mut Style, out: &mut String) {
        for (text, style) in self.pieces() {
            style.select(shown, out);
            out.push_str(text);
        }
    }

    fn pieces(&self) -> impl Iterator<Item = (&str, Style)> {
        let ends = self.changes.iter().skip(1).map(|&(end, _)| end).chain([self.text.len()]);
        self.changes.iter().zip(ends).map(|(&(start, style), end)| (&self.text[start..end], style))
    }
}

#[cfg(test)]
mod tests {
    use super::{Style, StyledText};

    #[test]
    fn a_change_of_style_is_one_sequence() {
        let mut text = StyledText::new("ab", Style::BOLD);
        text.append(&StyledText::new("c", Style::BOLD.with(Style::CODE)));
        text.append(&StyledText::new("日", Style::PLAIN));
        let (mut out, mut shown) = (String::new(), Style::PLAIN);
        text.write(&mut shown, &mut out);
        assert_eq!(out, "\x1b[0;1mab\x1b[0;1;36mc\x1b[0m日");
        assert_eq!((text.width(), shown), (5, Style::PLAIN));
    }
}
