//! Line wrapping between words, for text that arrives in pieces.

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
/// are neither cut nor hyphenated, and lines of code blocks and tables stay whole, so that they can be copied.
#[derive(Debug, Default)]
pub(crate) struct Wrap {
    /// Columns of a line; 0 breaks nothing.
    width: usize,
    /// Column of the next character.
    column: usize,
    /// White space after the last word; the next word decides whether it becomes a line break.
    space: String,
    /// The beginning of a word whose end has not arrived yet.
    word: String,
    /// Whether the next word is the first of a line of the text.
    first: bool,
    /// Inside a code block.
    code: bool,
    /// In a line that must stay whole.
    whole: bool,
    /// Inside a word as long as a line.
    long: bool,
    /// After a joiner.
    joined: bool,
}

impl Wrap {
    /// Lines of at most `width` columns; `None` breaks nothing.
    pub(crate) fn new(width: Option<usize>) -> Wrap {
        Wrap { width: width.unwrap_or(0), first: true, ..Wrap::default() }
    }

    /// Whether the current line has text.
    pub(crate) fn within_line(&self) -> bool {
        self.column > 0
    }

    /// Takes more text and returns what can be written now.
    pub(crate) fn push(&mut self, text: &str) -> String {
        let mut out = String::new();
        if self.width == 0 {
            out.push_str(text);
            let last = text.rsplit('\n').next().unwrap_or_default();
            let before = if text.contains('\n') { 0 } else { self.column };
            self.column = before + measure_text_width(last);
            return out;
        }
        for c in text.chars() {
            let joined = std::mem::replace(&mut self.joined, c == JOINER);
            match c {
                '\n' => {
                    self.end_word(&mut out);
                    out.push_str(&std::mem::take(&mut self.space));
                    out.push('\n');
                    (self.column, self.first, self.whole) = (0, true, false);
                }
                // Except no-break spaces.
                c if c.is_whitespace() && !matches!(c, '\u{a0}' | '\u{202f}' | '\u{2007}') => {
                    self.end_word(&mut out);
                    self.space.push(c);
                }
                c => {
                    // Text of wide characters has no spaces: lines break before any of them, but not inside an emoji of several
                    // characters. Combining marks have no width.
                    let inside = joined || SKIN_TONES.contains(&c);
                    if width_of(c) > 1 && !CLOSING.contains(c) && !inside {
                        self.end_word(&mut out);
                    }
                    self.word.push(c);
                    // The terminal breaks a word as long as a line.
                    if self.whole || self.long || measure_text_width(&self.word) >= self.width {
                        self.place(&mut out);
                        self.long = true;
                    }
                }
            }
        }
        out
    }

    /// Returns what was held back, at the end of the text or before other output.
    pub(crate) fn finish(&mut self) -> String {
        let mut out = String::new();
        self.end_word(&mut out);
        out.push_str(&std::mem::take(&mut self.space));
        out
    }

    /// The cursor is at the start of a line again.
    pub(crate) fn restart(&mut self) {
        self.column = 0;
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
        if std::mem::take(&mut self.first) {
            let fence = word.starts_with("```") || word.starts_with("~~~");
            self.whole = self.code || fence || word.starts_with('|');
            self.code ^= fence;
        }
        let length = measure_text_width(&word);
        let behind = space.chars().fold(self.column, |column, c| match c {
            '\t' => (column / 8 + 1) * 8,
            c => column + width_of(c),
        });
        if self.column > 0 && behind + length > self.width && !self.whole && !self.long {
            out.push('\n');
            self.column = 0;
        } else {
            out.push_str(&space);
            self.column = behind;
        }
        out.push_str(&word);
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
    use super::Wrap;

    /// Wraps the text; asserts that the pieces it arrives in do not matter.
    #[track_caller]
    fn wrapped(width: usize, text: &str) -> String {
        let characters: Vec<char> = text.chars().collect();
        let pieces = |length: usize| {
            let mut wrap = Wrap::new(Some(width));
            let pieces = characters.chunks(length).map(|piece| wrap.push(&piece.iter().collect::<String>()));
            let out: String = pieces.collect();
            out + &wrap.finish()
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
    fn code_and_tables_stay_as_they_are() {
        let code = "so:\n```rust\nlet a = b + c + d;\n\n  e f g h i j k\n```\n";
        assert_eq!(wrapped(10, &format!("{code}and then more")), format!("{code}and then\nmore"));
        let table = "| one | two | three |\n";
        assert_eq!(wrapped(10, &format!("{table}and then more")), format!("{table}and then\nmore"));
    }

    #[test]
    fn without_a_width_nothing_changes() {
        let mut wrap = Wrap::new(None);
        assert_eq!(wrap.push("one two three "), "one two three ");
        assert!(wrap.within_line());
        assert_eq!(wrap.push("x\n") + &wrap.finish(), "x\n");
        assert!(!wrap.within_line());
    }
}
