//! Blocked words, as C4 drops pages with a word of a list (Raffel et al. 2020, section 2.2). The list is the user's.

use super::Removal;
use crate::error::{CurateError, Result};
use std::collections::HashSet;
use std::path::Path;

/// Words and phrases that no document may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockedWords {
    /// In lower case.
    phrases: HashSet<String>,
    /// The lengths that occur, in characters.
    lengths: Vec<usize>,
}

impl BlockedWords {
    /// Words or phrases, one a line of `text`, in any case.
    pub fn parse(text: &str) -> BlockedWords {
        let phrases = text.lines().map(|line| line.trim().to_lowercase()).filter(|line| !line.is_empty());
        let phrases: HashSet<String> = phrases.collect();
        let mut lengths: Vec<usize> = phrases.iter().map(|phrase| phrase.chars().count()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        BlockedWords { phrases, lengths }
    }

    /// Reads a list.
    ///
    /// # Errors
    /// The file cannot be read, or holds no word.
    pub fn open(path: &Path) -> Result<BlockedWords> {
        let text = std::fs::read_to_string(path).map_err(CurateError::file(path, "read"))?;
        let words = BlockedWords::parse(&text);
        if words.phrases.is_empty() {
            let path = path.display();
            return Err(CurateError::Invalid(format!(
                "{path}: expected a word or phrase on each line, found none"
            )));
        }
        Ok(words)
    }

    pub(super) fn check(&self, text: &str) -> std::result::Result<(), Removal> {
        let lower = text.to_lowercase();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        // Each place in the text with whether a word can begin there.
        let mut places: Vec<(usize, char)> = lower.char_indices().collect();
        places.push((lower.len(), ' '));
        for start in 0..places.len() - 1 {
            if start > 0 && is_word(places[start - 1].1) {
                continue;
            }
            for &length in &self.lengths {
                let Some(&(end, behind)) = places.get(start + length) else { break };
                if !is_word(behind) && self.phrases.contains(&lower[places[start].0..end]) {
                    return Err(Removal::new("document_removed_with_badwords", 1.0, 0.0));
                }
            }
        }
        Ok(())
    }
}
