//! Rules of C4 (Raffel et al. 2020, section 2.2), which drop lines and documents.

use super::characters::{is_space, length, lines, strip};
use super::words::Words;
use super::{Removal, below};

const ENDS: [char; 5] = ['.', '?', '!', '"', '\''];
const POLICIES: [&str; 6] =
    ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];

/// The paper's thresholds, and those of its program.
#[derive(Clone, Debug, PartialEq)]
pub struct C4 {
    /// Fewest sentences in the lines that stay.
    pub fewest_sentences: usize,
    /// Fewest words of a line.
    pub fewest_words: usize,
    /// Most characters of a word.
    pub longest_word: usize,
}

impl Default for C4 {
    fn default() -> C4 {
        C4 { fewest_sentences: 5, fewest_words: 3, longest_word: 1000 }
    }
}

impl C4 {
    /// The lines that stay, without citations.
    pub(super) fn edit(&self, text: &str) -> Result<String, Removal> {
        let (mut kept, mut sentences) = (Vec::new(), 0);
        for line in lines(text) {
            let line = strip(line);
            let words = || line.split(is_space).filter(|word| !word.is_empty());
            if words().any(|word| length(word) > self.longest_word) {
                continue;
            }
            let edited = without_citations(line);
            if !edited.ends_with(ENDS) || edited.ends_with("...") || words().count() < self.fewest_words {
                continue;
            }
            let lower = edited.to_lowercase();
            if lower.contains("lorem ipsum") {
                return Err(Removal::new("lorem_ipsum", 1.0, 0.0));
            }
            if lower.contains("javascript") {
                continue;
            }
            if edited.contains('{') {
                return Err(Removal::new("curly_bracket", 1.0, 0.0));
            }
            if POLICIES.iter().any(|policy| lower.contains(policy)) {
                continue;
            }
            sentences += Words::of(&edited).sentences();
            kept.push(edited);
        }
        below("too_few_sentences", sentences as f64, self.fewest_sentences as f64)?;
        Ok(strip(&kept.join("\n")).to_owned())
    }
}

/// The line without `[1]`, `[]`, `[edit]` and `[citation needed]`.
fn without_citations(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('[') {
        let (before, bracket) = rest.split_at(at);
        out.push_str(before);
        let inner = bracket[1..].split_once(']').map(|(inner, _)| inner);
        match inner.filter(|inner| {
            matches!(*inner, "edit" | "citation needed") || inner.chars().all(char::is_numeric)
        }) {
            Some(inner) => rest = &bracket[inner.len() + 2..],
            None => {
                out.push('[');
                rest = &bracket[1..];
            }
        }
    }
    out + rest
}
