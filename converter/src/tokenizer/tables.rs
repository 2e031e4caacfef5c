//! Reads the tokenizer section of a `.thimble` file: the inverse of [`Vocabulary::emit`].

use super::{AddedToken, TokenizerError, Vocabulary};
use std::ops::Range;
use thimble_runtime::Token;
use thimble_runtime::format::{FormatError, read_u32, read_u64};
use thimble_runtime::tokenizer::Tokenizer;
use thimble_runtime::tokenizer::layout::{self, Sizes, field};

/// Bits of an id in a pair's key.
const ID_BITS: u32 = layout::MAX_TOKENS.count_ones();

impl Vocabulary {
    /// Reads a tokenizer section back.
    ///
    /// # Errors
    /// A section that the runtime rejects, or inconsistent tables.
    pub fn from_section(section: &[u8]) -> Result<Vocabulary, TokenizerError> {
        // Checks header and sizes: every table is inside the section.
        let tokenizer = Tokenizer::parse(section, usize::MAX)?;
        let word = |range: Range<usize>| read_u32(section, range.start).unwrap_or(0);
        let base = word(field::MERGED_BASE);
        let count = word(field::MERGES) as usize;
        let first_pass = word(field::ADDED_FIRST);
        let sizes = Sizes {
            tokens: word(field::TOKENS),
            merged: if base == layout::NONE { count as u32 } else { 0 },
            pair_slots: word(field::PAIR_SLOTS),
            word_slots: word(field::WORD_SLOTS),
            added: u64::from(first_pass) + u64::from(word(field::ADDED_SECOND)),
            text: word(field::TEXT_LEN),
        };
        let mut end = layout::HEADER_LEN;
        let [bytes, _, pairs, _, merged, added, ..] = sizes.tables().map(|length| {
            let start = end;
            end += length as usize;
            section.get(start..end).unwrap_or(&[])
        });
        let known = |id: u32| match id < sizes.tokens {
            true => Ok(id),
            false => Err(damaged("an id (below)", sizes.tokens.into(), id.into())),
        };
        let mut merges = vec![None; count];
        for at in (0..pairs.len()).step_by(8) {
            let slot = read_u64(pairs, at).unwrap_or(layout::NO_PAIR);
            if slot == layout::NO_PAIR {
                continue;
            }
            let (key, rank) = (layout::slot_key(slot), layout::slot_rank(slot));
            let (left, right) = ((key >> ID_BITS) as u32, key as u32 & layout::MAX_TOKENS as u32);
            let by_rank = read_u32(merged, rank as usize * 4);
            let id = if base == layout::NONE {
                by_rank.unwrap_or(layout::NONE)
            } else {
                base.saturating_add(rank)
            };
            let merge = (known(left)?, known(right)?, known(id)?);
            let place = merges.get_mut(rank as usize);
            let place = place.ok_or_else(|| damaged("a rank (below)", count as u64, rank.into()))?;
            if place.replace(merge).is_some() {
                return Err(damaged("merges of one rank", 1, 2));
            }
        }
        let merges: Vec<_> = merges.into_iter().flatten().collect();
        if merges.len() != count {
            return Err(damaged("number of merges", count as u64, merges.len() as u64));
        }
        let tokens: Vec<Vec<u8>> =
            (0..sizes.tokens).map(|id| tokenizer.token_bytes(Token(id)).to_vec()).collect();
        let mut records = Vec::new();
        for place in 0..added.len() / layout::ADDED_LEN {
            let id = known(read_u32(added, place * layout::ADDED_LEN).unwrap_or(layout::NONE))?;
            let text = String::from_utf8(tokens[id as usize].clone());
            let text = text.map_err(|_| damaged("an added token that is UTF-8", 1, 0))?;
            let special = tokenizer.is_special(Token(id));
            records.push(AddedToken { id, text, special, normalized: place >= first_pass as usize });
        }
        records.sort_unstable_by_key(|added| added.id);
        let byte = |byte: usize| read_u32(bytes, byte * 4).filter(|&id| id != layout::NONE);
        Vocabulary {
            tokens,
            merges,
            added: records,
            bytes: std::array::from_fn(byte),
            pattern: tokenizer.pattern(),
            whole_words: word(field::FLAGS) & layout::FLAG_WHOLE_WORDS != 0,
            nfc: tokenizer.nfc(),
            adds_bos: tokenizer.adds_bos(),
        }
        .check()
    }
}

fn damaged(what: &'static str, expected: u64, found: u64) -> TokenizerError {
    FormatError::Tokenizer { what, expected, found }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use thimble_runtime::tokenizer::Pattern;

    /// Bytes, two merges (the first made by the second's id order or not), added tokens of both passes, a gap.
    fn vocabulary(follows: bool) -> Vocabulary {
        let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        tokens.extend(["ab", "abc", "", "<|end|>", "   ", "<|e"].map(|text| text.as_bytes().to_vec()));
        let [a, b, c] = [97, 98, 99];
        let merges = match follows {
            true => vec![(a, b, 256), (256, c, 257)],
            false => vec![(256, c, 257), (a, b, 256)],
        };
        let added = |id: u32, text: &str, special: bool| AddedToken {
            id,
            text: text.to_owned(),
            special,
            normalized: !special,
        };
        Vocabulary {
            tokens,
            merges,
            added: vec![added(259, "<|end|>", true), added(260, "   ", false), added(261, "<|e", true)],
            bytes: std::array::from_fn(|byte| Some(byte as u32)),
            pattern: if follows { Pattern::Gpt2Digits } else { Pattern::Tekken },
            whole_words: !follows,
            nfc: !follows,
            adds_bos: !follows,
        }
    }

    #[test]
    fn emitted_tables_are_read_back() {
        for follows in [false, true] {
            let vocabulary = vocabulary(follows);
            assert_eq!(Vocabulary::from_section(&vocabulary.emit()).unwrap(), vocabulary);
        }
    }

    #[test]
    fn damaged_tables_are_errors() {
        let good = vocabulary(false).emit();
        assert!(Vocabulary::from_section(&good[..good.len() - 1]).is_err());
        for at in 0..good.len() {
            let mut section = good.clone();
            section[at] ^= 0x81;
            // A result has passed the checks; nothing panics.
            if let Ok(vocabulary) = Vocabulary::from_section(&section) {
                assert!(vocabulary.tokens.len() <= good.len());
            }
        }
    }
}
