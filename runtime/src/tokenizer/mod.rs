//! Byte-level BPE on the tables in the file: the same ids as the `tokenizers` crate, without allocation.
//!
//! Text is cut at added tokens ([`Specials`]), then into words by the GPT-2 pattern, and each word is either a
//! token itself, found by one hash, or merged from its bytes. The converter builds the tables and checks
//! them against the `tokenizers` crate; `FORMAT.md` describes them.

mod added;
mod class_table;
mod classes;
mod error;
pub mod layout;
mod merge;
mod pieces;
#[cfg(test)]
mod tests;

pub use classes::{CharClass, class_of};
pub use error::EncodeError;

use crate::Token;
use crate::format::{FormatError, read_u32};
use added::{Added, Escaped, Part, Pass};
use core::ops::Range;
use layout::{Sizes, field};
use pieces::Pieces;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// What the text of a special token (`<|im_start|>`) in the input stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// The token: for text that a program has put together.
    Parse,
    /// Plain text, cut and merged like any other: for what a user has typed. Tokens that were added without
    /// being special (runs of blanks, usually) are still recognised, as the `tokenizers` crate does with
    /// `encode_special_tokens`.
    Escape,
}

/// A view on the tokenizer tables of a file.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'f> {
    digits_apart: bool,
    tokens: u32,
    longest_word: usize,
    merged_base: u32,
    bytes: &'f [U32; 256],
    offsets: &'f [U32],
    pairs: &'f [U64],
    words: &'f [U32],
    merged: &'f [U32],
    first: Pass<'f>,
    second: Pass<'f>,
    special: &'f [u8],
    text: &'f [u8],
}

impl<'f> Tokenizer<'f> {
    /// Checks the header of the section and where its tables lie; `vocab` is the model's.
    ///
    /// Takes the same time for any vocabulary: what the tables say is checked where it is used.
    pub fn parse(section: &'f [u8], vocab: usize) -> Result<Self, FormatError> {
        let Some((header, tables)) = section.split_at_checked(layout::HEADER_LEN) else {
            return Err(wrong("length of the section", layout::HEADER_LEN as u64, section.len() as u64));
        };
        // The header has just been measured: every field is there.
        let word = |range: Range<usize>| read_u32(header, range.start).unwrap_or(0);
        let flags = word(field::FLAGS);
        if flags & !layout::FLAG_DIGITS_APART != 0 {
            return Err(wrong("flags", layout::FLAG_DIGITS_APART.into(), flags.into()));
        }
        if let Some(found) = header[field::RESERVED].iter().find(|&&byte| byte != 0) {
            return Err(wrong("a reserved byte", 0, (*found).into()));
        }
        let tokens = word(field::TOKENS);
        let most = vocab.min(layout::MOST_TOKENS);
        if tokens as usize > most {
            return Err(wrong("number of tokens (at most)", most as u64, tokens.into()));
        }
        let merges = word(field::MERGES);
        if merges as usize > layout::MOST_MERGES {
            return Err(wrong("number of merges (at most)", layout::MOST_MERGES as u64, merges.into()));
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
        let added = array::<Added>(added).ok_or(whole)?;
        let (first, second) = added.split_at_checked(added_first as usize).ok_or(whole)?;
        let starts = |range| <&[u8; 32]>::try_from(&header[range]).map_err(|_| whole);
        Ok(Tokenizer {
            digits_apart: flags & layout::FLAG_DIGITS_APART != 0,
            tokens,
            longest_word: word(field::LONGEST_WORD) as usize,
            merged_base,
            bytes: array::<U32>(bytes).and_then(|ids| ids.try_into().ok()).ok_or(whole)?,
            offsets: array(offsets).ok_or(whole)?,
            pairs: array(pairs).ok_or(whole)?,
            words: array(words).ok_or(whole)?,
            merged: array(merged).ok_or(whole)?,
            first: Pass { records: first, starts: starts(field::STARTS_FIRST)? },
            second: Pass { records: second, starts: starts(field::STARTS_SECOND)? },
            special: special.ok_or(whole)?,
            text: text.ok_or(whole)?,
        })
    }

    /// Writes the ids of `text` to `out` and returns how many there are: at most one per byte.
    ///
    /// `scratch` is needed for words of more than 64 bytes only: [`Tokenizer::scratch_bytes`] of
    /// [`Tokenizer::longest_piece`]. Bytes that the vocabulary has no token for (see
    /// [`Tokenizer::has_byte`]) are dropped, as the `tokenizers` crate does.
    ///
    /// # Errors
    /// Where `out` or `scratch` is too small, or the tables are damaged; `out` then holds the beginning.
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
        self.encode_parts(text, escaped, scratch, out)
    }

    /// The same for a text of which only some was typed: a special token that touches one of the byte ranges
    /// `typed` is plain text, one that does not is the token.
    ///
    /// The ranges are in order and apart from each other. They cut no words: without special tokens in them the
    /// ids are those of [`Specials::Parse`].
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
        self.encode_parts(text, Escaped::In(typed), scratch, out)
    }

    fn encode_parts(
        &self,
        text: &str,
        escaped: Escaped<'_>,
        scratch: &mut [u8],
        out: &mut [Token],
    ) -> Result<usize, EncodeError> {
        let mut sink = Sink { out, len: 0, tokens: self.tokens };
        self.parts(text.as_bytes(), escaped, |part| match part {
            Part::Added(id) => sink.push(id),
            Part::Text(text) => Pieces::new(text, self.digits_apart)
                .try_for_each(|piece| self.encode_piece(piece, scratch, &mut sink)),
        })?;
        Ok(sink.len)
    }

    /// Bytes of the longest word of `text`, whichever way special tokens are read.
    pub fn longest_piece(&self, text: &str) -> usize {
        let mut longest = 0;
        for escaped in [Escaped::Nowhere, Escaped::Everywhere] {
            let _: Result<(), core::convert::Infallible> = self.parts(text.as_bytes(), escaped, |part| {
                if let Part::Text(text) = part {
                    longest = Pieces::new(text, self.digits_apart).map(<[u8]>::len).fold(longest, usize::max);
                }
                Ok(())
            });
        }
        longest
    }

    /// Scratch bytes for words of up to `longest_piece_bytes`: none up to 64, else about 13 a byte.
    pub fn scratch_bytes(longest_piece_bytes: usize) -> usize {
        merge::scratch_bytes(longest_piece_bytes)
    }

    /// The bytes of `token`, not always whole characters; for an added token its text. Empty where there is
    /// no such token. The bytes of a text's tokens, one after the other, are the text.
    pub fn token_bytes(&self, token: Token) -> &'f [u8] {
        let ends = self.offsets.get(token.index()..).and_then(|ends| ends.first_chunk::<2>());
        let Some([start, end]) = ends else { return &[] };
        self.text.get(start.get() as usize..end.get() as usize).unwrap_or(&[])
    }

    /// Whether `token` is one of the special tokens, which are not text.
    pub fn is_special(&self, token: Token) -> bool {
        let byte = self.special.get(token.index() / 8).copied().unwrap_or(0);
        byte >> (token.index() % 8) & 1 == 1
    }

    /// The added token whose text is exactly `text`.
    pub fn special(&self, text: &str) -> Option<Token> {
        let text = text.as_bytes();
        self.find_added(self.first, text).or_else(|| self.find_added(self.second, text))
    }

    /// Ids in the vocabulary; the model's embedding can have more rows.
    pub fn vocab(&self) -> usize {
        self.tokens as usize
    }

    /// Whether the vocabulary can express `byte`. Text round-trips exactly if all of its bytes can be.
    pub fn has_byte(&self, byte: u8) -> bool {
        self.byte_id(byte).is_some()
    }

    /// Whether each digit is a word of its own.
    pub fn digits_apart(&self) -> bool {
        self.digits_apart
    }

    /// Cuts `text` at its added tokens.
    fn parts<'t, E>(
        &self,
        text: &'t [u8],
        escaped: Escaped<'_>,
        mut hand_on: impl FnMut(Part<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.split(self.first, escaped, text, 0..text.len(), |part, range| match part {
            Part::Added(_) => hand_on(part),
            Part::Text(_) => self.split(self.second, escaped, text, range, |part, _| hand_on(part)),
        })
    }

    /// Writes the tokens of one word.
    #[inline]
    fn encode_piece(&self, piece: &[u8], scratch: &mut [u8], sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        if let &[byte] = piece {
            return self.byte_id(byte).map_or(Ok(()), |id| sink.push(id));
        }
        match self.word(piece) {
            Some(id) => sink.push(id),
            None => self.merge(piece, scratch, sink),
        }
    }

    /// The token that `word` is as a whole.
    #[inline]
    fn word(&self, word: &[u8]) -> Option<u32> {
        if word.len() > self.longest_word {
            return None;
        }
        let hash = layout::word_hash(word);
        let home = layout::word_home(hash, self.words.len() as u32);
        for steps in 0..layout::MOST_PROBES.min(self.words.len()) {
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

    /// The rank of the merge of two neighbours; `u32::MAX` where there is none.
    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let key = layout::pair_key(left, right);
        let home = layout::pair_home(key, self.pairs.len() as u32);
        for steps in 0..layout::MOST_PROBES.min(self.pairs.len()) {
            let slot = self.pairs.get(layout::probe(home, steps, self.pairs.len()));
            match slot.map_or(layout::NO_PAIR, |slot| slot.get()) {
                layout::NO_PAIR => break,
                slot if layout::slot_key(slot) == key => return layout::slot_rank(slot),
                _ => {}
            }
        }
        u32::MAX
    }

    /// The token that the merge of this rank makes.
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

/// Where ids go.
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

/// A table of whole records.
fn array<T: FromBytes + Immutable + KnownLayout>(bytes: Option<&[u8]>) -> Option<&[T]> {
    <[T]>::ref_from_bytes(bytes?).ok()
}

fn wrong(what: &'static str, expected: u64, found: u64) -> FormatError {
    FormatError::Tokenizer { what, expected, found }
}
