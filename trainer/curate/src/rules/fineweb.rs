//! Rules that FineWeb added (Penedo et al. 2024, section 3.6).

use super::characters::{is_terminal, length, strip};
use super::{Document, Removal, above, below, duplicates};

/// The paper's thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct FineWeb {
    /// Least share of lines that end a sentence.
    pub least_ended: f64,
    /// Largest share of lines that are short.
    pub most_short: f64,
    /// Characters of a short line, at most.
    pub short: usize,
    /// Largest share of characters in lines that are copies.
    pub most_copied: f64,
    /// Most line feeds for each word.
    pub most_feeds: f64,
}

impl Default for FineWeb {
    fn default() -> FineWeb {
        FineWeb { least_ended: 0.12, most_short: 0.67, short: 30, most_copied: 0.01, most_feeds: 0.3 }
    }
}

impl FineWeb {
    pub(super) fn check(&self, document: &Document<'_>) -> Result<(), Removal> {
        let text = document.text;
        let lines: Vec<&str> = text.split('\n').filter(|line| !strip(line).is_empty()).collect();
        if lines.is_empty() {
            return Err(Removal::new("empty", 0.0, 1.0));
        }
        let share = |is: &dyn Fn(&str) -> bool| {
            lines.iter().filter(|line| is(line)).count() as f64 / lines.len() as f64
        };
        below("line_punct_ratio", share(&|line| line.ends_with(is_terminal)), self.least_ended)?;
        above("short_line_ratio", share(&|line| line.chars().nth(self.short).is_none()), self.most_short)?;
        let feeds = text.bytes().filter(|&byte| byte == b'\n').count();
        let copied = duplicates(&lines).1 as f64 / (length(text) - feeds) as f64;
        above("char_dup_ratio", copied, self.most_copied)?;
        above("list_ratio", feeds as f64 / document.words().len() as f64, self.most_feeds)
    }
}
