//! Verifies the emitted tables against the `tokenizers` crate.

use super::{TokenizerError, Vocabulary, pattern};
use thimble_files::contain;
use thimble_runtime::Token;
use thimble_runtime::tokenizer::{Specials, Tokenizer};
use tokenizers::PreTokenizerWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;

/// Tokens around the first difference that an error shows.
const SHOWN: usize = 8;

impl Vocabulary {
    /// The tokenizer section, verified against the `tokenizers` crate on [`test_texts`].
    ///
    /// The oracle is `tokenizer_json`, if the vocabulary came from one, otherwise [`Vocabulary::oracle`].
    pub fn emit_verified(&self, tokenizer_json: Option<&[u8]>) -> Result<Vec<u8>, TokenizerError> {
        let section = self.emit();
        let verified = contain("tokenizers", || {
            let oracle = match tokenizer_json {
                Some(json) => tokenizers::Tokenizer::from_bytes(json)
                    .map_err(|error| TokenizerError::Oracle(error.to_string()))?,
                None => self.oracle()?,
            };
            verify_against(&section, &oracle, test_texts(self))
        });
        verified.unwrap_or_else(|panic| Err(TokenizerError::Oracle(panic.to_string())))?;
        Ok(section)
    }

    /// The `tokenizers` crate's tokenizer with the same vocabulary: the oracle for sources without a `tokenizer.json`.
    pub fn oracle(&self) -> Result<tokenizers::Tokenizer, TokenizerError> {
        let spelled = self.spelled();
        let pair = |&(left, right, _): &(u32, u32, u32)| {
            (spelled[left as usize].clone(), spelled[right as usize].clone())
        };
        let merges = self.merges.iter().map(pair).collect();
        let vocab = spelled.iter().cloned().zip(0..).filter(|(text, _)| !text.is_empty());
        let model = BPE::builder().vocab_and_merges(vocab.collect::<Vocab>(), merges);
        let model = model.ignore_merges(self.whole_words).build();
        let model = model.map_err(|error| TokenizerError::Oracle(error.to_string()))?;
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(pattern::to_json(self.pattern))?;
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
        let refused = |error: tokenizers::Error| TokenizerError::Oracle(error.to_string());
        tokenizer.with_normalizer(self.nfc.then_some(NFC)).map_err(refused)?;
        let added = self.added.iter();
        let added: Vec<tokenizers::AddedToken> = added
            .map(|token| {
                tokenizers::AddedToken::from(token.text.clone(), token.special).normalized(token.normalized)
            })
            .collect();
        tokenizer.add_tokens(added).map_err(|error| TokenizerError::Oracle(error.to_string()))?;
        Ok(tokenizer)
    }
}

/// Compares the ids of an emitted section with those of the `tokenizers` crate on every text, with special tokens parsed
/// and escaped; returns the number of compared tokens.
///
/// # Errors
/// [`TokenizerError::Differs`] names the first text that differs.
pub fn verify_against<T: AsRef<str>>(
    section: &[u8],
    oracle: &tokenizers::Tokenizer,
    texts: impl IntoIterator<Item = T>,
) -> Result<u64, TokenizerError> {
    let tokenizer = Tokenizer::parse(section, usize::MAX)?;
    let mut oracle = oracle.clone();
    let refused = |error: tokenizers::Error| TokenizerError::Oracle(error.to_string());
    oracle.with_truncation(None).map_err(refused)?.with_padding(None);
    let added = oracle.get_added_tokens_decoder();
    let (mut scratch, mut out) = (Vec::new(), Vec::new());
    let mut compared = 0;
    for text in texts {
        let text = text.as_ref();
        scratch.resize(tokenizer.scratch_for(text).max(scratch.len()), 0);
        out.resize(tokenizer.most_tokens(text).max(out.len()), Token(0));
        oracle.set_encode_special_tokens(false);
        let mut expected = oracle.encode_fast(text, false).map_err(refused)?;
        for specials in [Specials::Parse, Specials::Escape] {
            // A text without special tokens has the same ids either way, and the oracle is slow.
            let is_special = |id| added.get(id).is_some_and(|token| token.special);
            if specials == Specials::Escape && expected.get_ids().iter().any(is_special) {
                oracle.set_encode_special_tokens(true);
                expected = oracle.encode_fast(text, false).map_err(refused)?;
            }
            let count = tokenizer.encode(text, specials, &mut scratch, &mut out);
            let count = count.map_err(|error| TokenizerError::NotEncoded { text: excerpt(text), error })?;
            let found: Vec<u32> = out[..count].iter().map(|token| token.0).collect();
            if found != expected.get_ids() {
                return Err(differs(text, expected.get_ids(), &found));
            }
            compared += count as u64;
        }
    }
    Ok(compared)
}

/// Test texts for a vocabulary: each token alone and among others, and edge cases.
pub fn test_texts(vocabulary: &Vocabulary) -> Vec<String> {
    let mut texts: Vec<String> = EDGE_CASES.iter().map(|&text| text.to_owned()).collect();
    let words: Vec<_> = vocabulary.tokens.iter().map(|token| String::from_utf8_lossy(token)).collect();
    texts.extend(words.chunks(16).map(|words| words.concat()));
    texts.extend(words.chunks(16).map(|words| words.join(" ")));
    texts.extend(words.chunks(16).map(|words| words.join("\n")));
    // Pairs of distant tokens.
    let far = words.len() / 2;
    let far = words.iter().zip(words.iter().skip(far)).map(|(a, b)| format!("{b}{a}, "));
    texts.extend(far.collect::<Vec<_>>().chunks(16).map(|pairs| pairs.concat()));
    for added in &vocabulary.added {
        let text = &added.text;
        texts.push(format!("a {text}{text} b  {text}\n{text}c"));
        texts.push(text.chars().skip(1).chain(text.chars()).collect());
    }
    // Code points of all planes in use, in runs and between spaces; a test of the table covers every one.
    let codes = (0..0x3100).chain((0x3100..0x3_2400).step_by(16));
    let letters: Vec<char> = codes.filter_map(char::from_u32).collect();
    texts.extend(letters.chunks(512).map(|run| run.iter().collect()));
    texts.extend(letters.chunks(512).map(|run| run.iter().flat_map(|&letter| [letter, ' ']).collect()));
    texts
}

const EDGE_CASES: [&str; 16] = [
    "",
    " ",
    "\n",
    "Hello, world! It's 2024 and we're OK; they'll've said I'd 'em'",
    "  leading\n\n\ntrailing   \n ",
    "tab\tand\r\nCRLF\r\n\r\n x",
    "'S 'T 're've 'll'l 'd''s ''' don't DON'T",
    "12 345 6.789 0x1F \u{0663}\u{0664} \u{00BD}\u{2167}\u{3007} 1st  2  3   4",
    "\u{00A0}nbsp\u{2003}em\u{3000}ideographic\u{200B}zero\u{85}next\u{2028}line",
    "e\u{0301}e\u{0301}\u{0302} \u{0BA8}\u{0BBF} \u{0E01}\u{0E33}",
    "\u{1F469}\u{200D}\u{1F469}\u{200D}\u{1F467} \u{1F1E9}\u{1F1EA} \u{1F44D}\u{1F3FD}",
    "\u{4F60}\u{597D}\u{4E16}\u{754C} \u{3053}\u{3093} \u{C548}\u{B155} \u{0645}\u{0631}\u{062D}",
    "\u{0}\u{1}\u{1F}\u{7F}\u{D7FF}\u{E000}\u{FFFD}\u{FFFF}\u{10FFFF}\u{40000}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "----------------------------------------------------------------------------======================",
    "                                                                                                x",
];

fn differs(text: &str, expected: &[u32], found: &[u32]) -> TokenizerError {
    let same = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let around = |ids: &[u32]| ids.iter().skip(same.saturating_sub(2)).take(SHOWN).copied().collect();
    TokenizerError::Differs { text: excerpt(text), expected: around(expected), found: around(found) }
}

fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}
