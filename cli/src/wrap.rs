//! Line wrapping between words, for styled text that arrives in pieces.

use crate::style::{Style, StyledText};
use console::{Term, measure_text_width};
use std::ops::RangeInclusive;

/// Wide punctuation that must not begin a line.
const CLOSING: &str = "、。，．！？：；）」』】》〉〕";

/// Joins two emoji into one.
const JOINER: char = '\u{200d}';
/// Modifies the emoji before it.
const SKIN_TONES: RangeInclusive<char> = '\u{1f3fb}'..='\u{1f3ff}';

/// Columns of the terminal on stdout: `COLUMNS`, or what the terminal reports.
pub(crate) fn terminal_width() -> Option<usize> {
    let named = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    let asked = || Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    named.or_else(asked).filter(|&columns| columns > 0)
}

/// Breaks lines before words that would not fit: at a space, or before a wide character (Chinese has no spaces). Other words
/// are neither cut nor hyphenated.
#[derive(Debug, Default)]
pub(crate) struct Wrap {
    /// Columns of a line; 0 breaks nothing.
    width: usize,
    /// Column of the next character.
    column: usize,
    /// White space after the last word; the next word decides whether it becomes a line break.
    space: StyledText,
    /// The beginning of a word whose end has not arrived yet.
    word: StyledText,
    /// What begins the lines that a break makes.
    hang: StyledText,
    /// Whether the line has a word.
    begun: bool,
    /// In a line that must stay whole, so that it can be copied.
    whole: bool,
    /// Inside a word as long as a line.
    long: bool,
    /// After a joiner.
    joined: bool,
    /// The style that the terminal shows.
    shown: Style,
}

impl Wrap {
    /// Lines of at most `width` columns; `None` breaks nothing.
    pub(crate) fn new(width: Option<usize>) -> Wrap {
        Wrap { width: width.unwrap_or(0), ..Wrap::default() }
    }

    /// From now on lines have at most `width` columns.
    pub(crate) fn resize(&mut self, width: Option<usize>) {
        self.width = width.unwrap_or(0);
    }

    /// Whether the current line has text.
    pub(crate) fn within_line(&self) -> bool {
        self.column > 0
    }

    /// Whether the current line stays whole.
    pub(crate) fn keep_whole(&mut self, whole: bool) {
        self.whole = whole;
    }

    /// Begins a line with `prefix`, and the lines that breaks make of it with `hang`; again for more of both.
    pub(crate) fn begin(&mut self, prefix: &StyledText, hang: &StyledText, out: &mut String) {
        prefix.write(&mut self.shown, out);
        self.column += prefix.width();
        // On a narrow terminal the text needs the columns.
        if (self.hang.width() + hang.width()) * 2 <= self.width {
            self.hang.append(hang);
        }
    }

    /// Takes more text and appends what can be written now to `out`.
    pub(crate) fn push(&mut self, text: &str, style: Style, out: &mut String) {
        for c in text.chars() {
            let joined = std::mem::replace(&mut self.joined, c == JOINER);
            match c {
                '\n' => self.newline(out),
                c if self.width == 0 => {
                    style.select(&mut self.shown, out);
                    out.push(c);
                    self.column += width_of(c);
                }
                // Except no-break spaces.
                c if c.is_whitespace() && !matches!(c, '\u{a0}' | '\u{202f}' | '\u{2007}') => {
                    self.end_word(out);
                    self.space.push(c, style);
                }
                c => {
                    // Text of wide characters has no spaces: lines break before any of them, but not inside an emoji of several
                    // characters. Combining marks have no width.
                    let inside = joined || SKIN_TONES.contains(&c);
                    if width_of(c) > 1 && !CLOSING.contains(c) && !inside {
                        self.end_word(out);
                    }
                    self.word.push(c, style);
                    // The terminal breaks a word as long as a line.
                    if self.whole || self.long || self.word.width() >= self.width {
                        self.place(out);
                        self.long = true;
                    }
                }
            }
        }
    }

    /// Appends what was held back to `out`, at the end of the text or before other output, which begins without a style.
    pub(crate) fn finish(&mut self, out: &mut String) {
        self.end_word(out);
        std::mem::take(&mut self.space).write(&mut self.shown, out);
        Style::PLAIN.select(&mut self.shown, out);
    }

    /// The cursor is at the start of a line again.
    pub(crate) fn restart(&mut self) {
        (self.column, self.begun, self.whole) = (0, false, false);
        self.hang = StyledText::default();
    }

    fn newline(&mut self, out: &mut String) {
        self.end_word(out);
        std::mem::take(&mut self.space).write(&mut self.shown, out);
        // An underlined or coloured line end may reach the border of the terminal.
        Style::PLAIN.select(&mut self.shown, out);
        out.push('\n');
        self.restart();
    }

    fn end_word(&mut self, out: &mut String) {
        self.place(out);
        self.long = false;
    }

    /// Writes space and word, or a line break and the word.
    fn place(&mut self, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let (space, word) = (std::mem::take(&mut self.space), std::mem::take(&mut self.word));
        let length = word.width();
        let behind = space.text().chars().fold(self.column, |column, c| match c {
            '\t' => (column / 8 + 1) * 8,
            c => column + width_of(c),
        });
        let begun = std::mem::replace(&mut self.begun, true);
        if begun && behind + length > self.width && !self.whole && !self.long {
            Style::PLAIN.select(&mut self.shown, out);
            out.push('\n');
            self.hang.write(&mut self.shown, out);
            self.column = self.hang.width();
        } else {
            space.write(&mut self.shown, out);
            self.column = behind;
        }
        word.write(&mut self.shown, out);
        self.column += length;
        if self.column > self.width {
            // The terminal has continued on its next line.
            self.column = (self.column - 1) % self.width + 1;
        }
    }
}

fn width_of(c: char) -> usize {
    measure_text_width(c.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::{Style, StyledText, Wrap};

    /// Wraps the text; asserts that the pieces it arrives in do not matter.
    #[track_caller]
    fn wrapped(width: usize, text: &str) -> String {
        let characters: Vec<char> = text.chars().collect();
        let pieces = |length: usize| {
            let (mut wrap, mut out) = (Wrap::new(Some(width)), String::new());
            for piece in characters.chunks(length) {
                wrap.push(&piece.iter().collect::<String>(), Style::PLAIN, &mut out);
            }
            wrap.finish(&mut out);
            out
        };
        let whole = pieces(characters.len().max(1));
        for length in 1..characters.len() {
            assert_eq!(pieces(length), whole, "pieces of {length}");
        }
        whole
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped(10, "one two three four"), "one two\nthree four");
        assert_eq!(wrapped(7, "one two three"), "one two\nthree");
        assert_eq!(wrapped(10, "a\n\n  b  c \nd"), "a\n\n  b  c \nd");
        assert_eq!(wrapped(10, ""), "");
        assert_eq!(wrapped(10, "seven ate\u{a0}nine"), "seven\nate\u{a0}nine");
    }

    #[test]
    fn a_word_longer_than_a_line_is_not_cut() {
        let address = "https://example.org/a/long/path";
        assert_eq!(wrapped(10, &format!("see {address} there")), format!("see\n{address} there"));
        assert_eq!(wrapped(10, "1234567890 1"), "1234567890\n1");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(wrapped(6, "日本語日本語"), "日本語\n日本語");
        assert_eq!(wrapped(6, "日本。日本"), "日本。\n日本");
        assert_eq!(wrapped(7, "ab 🙂 cd"), "ab 🙂\ncd");
        assert_eq!(wrapped(4, "ééé é"), "ééé\né");
    }

    #[test]
    fn an_emoji_of_several_characters_is_not_cut() {
        for emoji in ["👩\u{200d}💻", "👍🏽", "か\u{3099}", "❤\u{fe0f}\u{200d}🔥"] {
            assert_eq!(
                wrapped(6, &format!("日本{emoji}{emoji}")).replace('\n', "").matches(emoji).count(),
                2
            );
            assert_eq!(wrapped(6, &format!("日本{emoji}{emoji}")).matches(emoji).count(), 2, "{emoji}");
        }
    }

    #[test]
    fn breaks_begin_with_the_hanging_text() {
        let (mut wrap, mut out) = (Wrap::new(Some(9)), String::new());
        wrap.begin(&StyledText::new("* ", Style::PLAIN), &StyledText::new("  ", Style::PLAIN), &mut out);
        wrap.push("one two three\nfour five six", Style::PLAIN, &mut out);
        wrap.finish(&mut out);
        assert_eq!(out, "* one two\n  three\nfour five\nsix");
    }

    #[test]
    fn a_break_ends_the_style_and_the_next_word_has_it_again() {
        let (mut wrap, mut out) = (Wrap::new(Some(5)), String::new());
        wrap.push("one two", Style::UNDERLINE, &mut out);
        wrap.finish(&mut out);
        assert_eq!(out, "\x1b[0;4mone\x1b[0m\n\x1b[0;4mtwo\x1b[0m");
    }

    #[test]
    fn without_a_width_nothing_changes() {
        let (mut wrap, mut out) = (Wrap::new(None), String::new());
        wrap.push("one two three ", Style::PLAIN, &mut out);
        assert!(wrap.within_line());
        wrap.push("x\n", Style::PLAIN, &mut out);
        wrap.finish(&mut out);
        assert_eq!(out, "one two three x\n");
        assert!(!wrap.within_line());
    }
}
