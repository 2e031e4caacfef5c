//! Quality rules of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1).

use super::characters::{is_punctuation, is_space, length, lines};
use super::{Document, Removal, above, below};

/// Words of which an English text has at least two kinds.
const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

/// The paper's thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct GopherQuality {
    /// Fewest words that are more than punctuation.
    pub fewest_words: usize,
    /// Most words.
    pub most_words: usize,
    /// Least mean length of a word, in characters.
    pub shortest_mean: f64,
    /// Largest mean length of a word, in characters.
    pub longest_mean: f64,
    /// Most `#`, and most ellipses, for each word.
    pub most_symbols: f64,
    /// Largest share of lines that begin with a bullet.
    pub most_bullets: f64,
    /// Largest share of lines that end with an ellipsis.
    pub most_ellipses: f64,
    /// Least share of words with a letter.
    pub least_alphabetic: f64,
    /// Fewest kinds of stop words.
    pub fewest_stop_words: usize,
}

impl Default for GopherQuality {
    fn default() -> GopherQuality {
        GopherQuality {
            fewest_words: 50,
            most_words: 100_000,
            shortest_mean: 3.0,
            longest_mean: 10.0,
            most_symbols: 0.1,
            most_bullets: 0.9,
            most_ellipses: 0.3,
            least_alphabetic: 0.8,
            fewest_stop_words: 2,
        }
    }
}

impl GopherQuality {
    pub(super) fn check(&self, document: &Document<'_>) -> Result<(), Removal> {
        let (text, words) = (document.text, &document.words().words);
        let plain = words.iter().filter(|word| word.chars().any(|c| !is_punctuation(c)));
        let (count, characters) = plain.fold((0, 0), |(n, sum), word| (n + 1, sum + length(word)));
        below("gopher_short_doc", count as f64, self.fewest_words as f64)?;
        above("gopher_long_doc", count as f64, self.most_words as f64)?;
        let mean = characters as f64 / count as f64;
        below("gopher_below_avg_threshold", mean, self.shortest_mean)?;
        above("gopher_above_avg_threshold", mean, self.longest_mean)?;
        let all = words.len() as f64;
        let count = |sign: &str| text.matches(sign).count() as f64;
        above("gopher_too_many_hashes", count("#") / all, self.most_symbols)?;
        above("gopher_too_many_ellipsis", (count("...") + count("…")) / all, self.most_symbols)?;
        let total = lines(text).count() as f64;
        let share = |is: &dyn Fn(&str) -> bool| lines(text).filter(|line| is(line)).count() as f64 / total;
        let bullets = share(&|line| line.trim_start_matches(is_space).starts_with(['•', '-']));
        above("gopher_too_many_bullets", bullets, self.most_bullets)?;
        let ellipses = share(&|line| {
            let line = line.trim_end_matches(is_space);
            line.ends_with("...") || line.ends_with('…')
        });
        above("gopher_too_many_end_ellipsis", ellipses, self.most_ellipses)?;
        let alphabetic =
            words.iter().filter(|word| word.chars().any(char::is_alphabetic)).count() as f64 / all;
        below("gopher_below_alpha_threshold", alphabetic, self.least_alphabetic)?;
        let stop_words = STOP_WORDS.iter().filter(|stop| words.contains(stop)).count();
        below("gopher_enough_stop_words", stop_words as f64, self.fewest_stop_words as f64)
    }
}
