//! Byte-level BPE on tables in the file: the same ids as the `tokenizers` crate, without allocation.
//!
//! Text is split at added tokens ([`Specials`]), normalized if the tokenizer says so, then cut into words by a [`Pattern`]. A
//! word is a token of its own, found by one hash lookup, or its bytes are merged. The converter builds the tables and checks them against the `tokenizers` crate;
//! `FORMAT.md` describes them.

mod added;
mod case_table;
mod class_table;
mod classes;
mod error;
pub mod layout;
mod memory;
mod merge;
mod nfc;
mod nfc_table;
mod pre_tokenizer;
#[cfg(test)]
mod tests;
mod words;

pub use classes::{CharCase, CharClass, case_of, class_of};
pub use error::EncodeError;
pub use nfc::{Normalization, normalization_of};
pub use pre_tokenizer::Pattern;

use crate::Token;
use crate::format::{FormatError, read_u32};
use added::{AddedToken, AddedTokens, Escaped, Span};
use core::ops::Range;
use layout::{Sizes, field};
use pre_tokenizer::Words;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// How to encode the text of a special token (`<|im_start|>`) in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// As the token: for text from a template or a program.
    Parse,
    /// As plain text: for user input. Added tokens that are not special (usually runs of spaces) are still recognised, like
    /// the `tokenizers` crate does with `encode_special_tokens`.
    Escape,
}

/// A view of the tokenizer tables in a file.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'f> {
    pattern: Pattern,
    nfc: bool,
    adds_bos: bool,
    tokens: u32,
    longest_word: usize,
    merged_base: u32,
    bytes: &'f [U32; 256],
    offsets: &'f [U32],
    pairs: &'f [U64],
    words: &'f [U32],
    merged: &'f [U32],
    first: AddedTokens<'f>,
    second: AddedTokens<'f>,
    special: &'f [u8],
    text: &'f [u8],
}

impl<'f> Tokenizer<'f> {
    /// Parses the section: checks the header and the sizes of the tables, not their contents; `vocab` is the model's.
    ///
    /// Takes constant time: encoding checks table entries when it uses them.
    ///
    /// # Errors
    /// [`FormatError::Tokenizer`].
    pub fn parse(section: &'f [u8], vocab: usize) -> Result<Self, FormatError> {
        let Some((header, tables)) = section.split_at_checked(layout::HEADER_LEN) else {
            return Err(wrong("length of the section", layout::HEADER_LEN as u64, section.len() as u64));
        };
        // The header has its full length: every field is there.
        let word = |range: Range<usize>| read_u32(header, range.start).unwrap_or(0);
        let flags = word(field::FLAGS);
        let pattern = layout::pattern(flags).filter(|_| flags & !layout::KNOWN_FLAGS == 0);
        let pattern = pattern.ok_or(wrong("flags", layout::KNOWN_FLAGS.into(), flags.into()))?;
        if let Some(found) = header[field::RESERVED].iter().find(|&&byte| byte != 0) {
            return Err(wrong("a reserved byte", 0, (*found).into()));
        }
        let tokens = word(field::TOKENS);
        let max_tokens = vocab.min(layout::MAX_TOKENS);
        if tokens as usize > max_tokens {
            return Err(wrong("number of tokens (at most)", max_tokens as u64, tokens.into()));
        }
        let merges = word(field::MERGES);
        if merges as usize > layout::MAX_MERGES {
            return Err(wrong("number of merges (at most)", layout::MAX_MERGES as u64, merges.into()));
        }
        let merged_base = word(field::MERGED_BASE);
        let added_first = word(field::ADDED_FIRST);
        let sizes = Sizes {
            tokens,
            merged: if merged_base == layout::NONE { merges } else { 0 },
            pair_slots: word(field::PAIR_SLOTS),
            word_slots: word(field::WORD_SLOTS),
            added: u64::from(added_first) + u64::from(word(field::ADDED_SECOND)),
            text: word(field::TEXT_LEN),
        };
        let mut rest = tables;
        let whole = wrong("length of the section", sizes.section(), section.len() as u64);
        let mut next = |bytes: u64| {
            let (table, behind) = usize::try_from(bytes).ok().and_then(|at| rest.split_at_checked(at))?;
            rest = behind;
            Some(table)
        };
        let [bytes, offsets, pairs, words, merged, added, special, text] = sizes.tables().map(&mut next);
        if !rest.is_empty() {
            return Err(whole);
        }
        let added = array::<AddedToken>(added).ok_or(whole)?;
        let (first, second) = added.split_at_checked(added_first as usize).ok_or(whole)?;
        let starts = |range| <&[u8; 32]>::try_from(&header[range]).map_err(|_| whole);
        Ok(Tokenizer {
            pattern,
            nfc: flags & layout::FLAG_NFC != 0,
            adds_bos: flags & layout::FLAG_ADDS_BOS != 0,
            tokens,
            longest_word: word(field::LONGEST_WORD) as usize,
            merged_base,
            bytes: array::<U32>(bytes).and_then(|ids| ids.try_into().ok()).ok_or(whole)?,
            offsets: array(offsets).ok_or(whole)?,
            pairs: array(pairs).ok_or(whole)?,
            words: array(words).ok_or(whole)?,
            merged: array(merged).ok_or(whole)?,
            first: AddedTokens { records: first, starts: starts(field::STARTS_FIRST)? },
            second: AddedTokens { records: second, starts: starts(field::STARTS_SECOND)? },
            special: special.ok_or(whole)?,
            text: text.ok_or(whole)?,
        })
    }

    /// Writes the ids of `text` to `out` and returns their count, at most [`Tokenizer::most_tokens`].
    ///
    /// `scratch` has [`Tokenizer::scratch_for`] bytes: none unless a word is longer than 64 bytes or the text is normalized. Drops bytes without a token ([`Tokenizer::has_byte`]), like the `tokenizers` crate.
    ///
    /// # Errors
    /// [`EncodeError`] if `out` or `scratch` is too small or the tables are damaged; `out` then has the first ids.
    pub fn encode(
        &self,
        text: &str,
        specials: Specials,
        scratch: &mut [u8],
        out: &mut [Token],
    ) -> Result<usize, EncodeError> {
        let escaped = match specials {
            Specials::Parse => Escaped::Nowhere,
            Specials::Escape => Escaped::Everywhere,
        };
        self.encode_escaped(text, escaped, scratch, out)
    }

    /// Like [`Tokenizer::encode`], but treats a special token as plain text only if it overlaps one of the byte ranges
    /// `typed`, which are ordered and disjoint.
    ///
    /// The ranges do not split words: without special tokens in them the ids are those of [`Specials::Parse`].
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub fn encode_typed(
        &self,
        text: &str,
        typed: &[Range<usize>],
        scratch: &mut [u8],
        out: &mut [Token],
    ) -> Result<usize, EncodeError> {
        self.encode_escaped(text, Escaped::In(typed), scratch, out)
    }

    fn encode_escaped(
        &self,
        text: &str,
        escaped: Escaped<'_>,
        scratch: &mut [u8],
        out: &mut [Token],
    ) -> Result<usize, EncodeError> {
        let mut sink = Sink { out, len: 0, tokens: self.tokens };
        let text = text.as_bytes();
        self.split(self.first, escaped, text, 0..text.len(), |span, range| match span {
            Span::Added(id) => sink.push(id),
            Span::Text(piece) if self.nfc && !nfc::is_normalized(piece) => {
                let (normalized, scratch) = nfc::normalize(piece, scratch)?;
                // Typed ranges do not survive normalization: a piece with a typed character counts as typed whole.
                let escaped = if escaped.overlaps(&range) { Escaped::Everywhere } else { Escaped::Nowhere };
                self.encode_piece(normalized, 0..normalized.len(), escaped, scratch, &mut sink)
            }
            Span::Text(_) => self.encode_piece(text, range, escaped, scratch, &mut sink),
        })?;
        Ok(sink.len)
    }

    /// Writes the tokens of a range of `text` without added tokens of the first pass.
    fn encode_piece(
        &self,
        text: &[u8],
        range: Range<usize>,
        escaped: Escaped<'_>,
        scratch: &mut [u8],
        sink: &mut Sink<'_>,
    ) -> Result<(), EncodeError> {
        self.split(self.second, escaped, text, range, |span, _| match span {
            Span::Added(id) => sink.push(id),
            Span::Text(text) => {
                Words::new(text, self.pattern).try_for_each(|word| self.encode_word(word, scratch, sink))
            }
        })
    }

    /// The bytes of `token`, which can end inside a character; for an added token its text. Empty if there is no such token.
    /// The concatenated bytes of a text's tokens are the text.
    pub fn token_bytes(&self, token: Token) -> &'f [u8] {
        let ends = self.offsets.get(token.index()..).and_then(|ends| ends.first_chunk::<2>());
        let Some([start, end]) = ends else { return &[] };
        self.text.get(start.get() as usize..end.get() as usize).unwrap_or(&[])
    }

    /// Whether `token` is a special token.
    pub fn is_special(&self, token: Token) -> bool {
        let byte = self.special.get(token.index() / 8).copied().unwrap_or(0);
        byte >> (token.index() % 8) & 1 == 1
    }

    /// The added token with this text.
    pub fn special(&self, text: &str) -> Option<Token> {
        let text = text.as_bytes();
        self.find_added(self.first, text).or_else(|| self.find_added(self.second, text))
    }

    /// Vocabulary size; the model's embedding can have more rows.
    pub fn vocab(&self) -> usize {
        self.tokens as usize
    }

    /// Whether the vocabulary has a token for `byte`. Text round-trips exactly if it has one for every byte of the text.
    pub fn has_byte(&self, byte: u8) -> bool {
        self.byte_id(byte).is_some()
    }

    /// The pattern that cuts text into words.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Whether text is normalized to NFC.
    pub fn nfc(&self) -> bool {
        self.nfc
    }

    /// Whether a text by itself, outside a chat template, begins with the configuration's begin-of-text token. Encoding does
    /// not add it: the caller does.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Splits `text` at added tokens.
    fn spans<'t, E>(
        &self,
        text: &'t [u8],
        escaped: Escaped<'_>,
        mut emit: impl FnMut(Span<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.split(self.first, escaped, text, 0..text.len(), |span, range| match span {
            Span::Added(_) => emit(span),
            Span::Text(_) => self.split(self.second, escaped, text, range, |span, _| emit(span)),
        })
    }

    /// Writes the tokens of one word.
    #[inline]
    fn encode_word(&self, word: &[u8], scratch: &mut [u8], sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        if let &[byte] = word {
            return self.byte_id(byte).map_or(Ok(()), |id| sink.push(id));
        }
        match self.word_id(word) {
            Some(id) => sink.push(id),
            None => self.merge(word, scratch, sink),
        }
    }

    /// The token for the whole word, if there is one.
    #[inline]
    fn word_id(&self, word: &[u8]) -> Option<u32> {
        if word.len() > self.longest_word {
            return None;
        }
        let hash = layout::word_hash(word);
        let home = layout::word_home(hash, self.words.len() as u32);
        for steps in 0..layout::MAX_PROBES.min(self.words.len()) {
            let slot = self.words.get(layout::probe(home, steps, self.words.len()))?.get();
            if slot == layout::NONE {
                return None;
            }
            if let Some(id) = layout::slot_word(slot, hash)
                && self.token_bytes(Token(id)) == word
            {
                return Some(id);
            }
        }
        None
    }

    /// The rank of the merge of two symbols; `u32::MAX` if there is none.
    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let key = layout::pair_key(left, right);
        let home = layout::pair_home(key, self.pairs.len() as u32);
        for steps in 0..layout::MAX_PROBES.min(self.pairs.len()) {
            let slot = self.pairs.get(layout::probe(home, steps, self.pairs.len()));
            match slot.map_or(layout::NO_PAIR, |slot| slot.get()) {
                layout::NO_PAIR => break,
                slot if layout::slot_key(slot) == key => return layout::slot_rank(slot),
                _ => {}
            }
        }
        u32::MAX
    }

    /// The token that the merge of this rank produces.
    #[inline]
    fn merged(&self, rank: u32) -> u32 {
        if self.merged_base != layout::NONE {
            return self.merged_base.saturating_add(rank);
        }
        self.merged.get(rank as usize).map_or(layout::NONE, |id| id.get())
    }

    /// The token of a single byte.
    #[inline]
    fn byte_id(&self, byte: u8) -> Option<u32> {
        Some(self.bytes[usize::from(byte)].get()).filter(|&id| id != layout::NONE)
    }
}

/// The output of encoding.
struct Sink<'o> {
    out: &'o mut [Token],
    len: usize,
    tokens: u32,
}

impl Sink<'_> {
    #[inline]
    fn push(&mut self, id: u32) -> Result<(), EncodeError> {
        if id >= self.tokens {
            return Err(EncodeError::DamagedTables { id, tokens: self.tokens });
        }
        let capacity = self.out.len();
        let place = self.out.get_mut(self.len).ok_or(EncodeError::OutOfRoom { capacity })?;
        *place = Token(id);
        self.len += 1;
        Ok(())
    }
}

/// A table as a slice of records.
fn array<T: FromBytes + Immutable + KnownLayout>(bytes: Option<&[u8]>) -> Option<&[T]> {
    <[T]>::ref_from_bytes(bytes?).ok()
}

fn wrong(what: &'static str, expected: u64, found: u64) -> FormatError {
    FormatError::Tokenizer { what, expected, found }
}
