//! The layout of the tokenizer section, shared by the tokenizer and the converter.
//!
//! `FORMAT.md`, section "Tokenizer", is the normative text.

use super::Pattern;
use crate::format::read_u32;
use core::ops::Range;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 128;
/// Most tokens: ids have 21 bits, and all ones mark an empty slot.
pub const MAX_TOKENS: usize = (1 << ID_BITS) - 1;
/// Most merges: ranks have 22 bits.
pub const MAX_MERGES: usize = 1 << RANK_BITS;
/// Slots that a lookup probes; the converter enlarges a table until no entry needs more.
pub const MAX_PROBES: usize = 64;
/// Flag: every digit is a separate word.
pub const FLAG_DIGITS_APART: u32 = 1;
/// Flags: the number of the pattern: 0 GPT-2's, 1 Llama 3's, 2 Qwen 2's, 3 Tekken's.
const PATTERN: u32 = 0b110;
/// Flag: a word that is a token is that token, whatever merging makes of it (`ignore_merges`).
pub const FLAG_WHOLE_WORDS: u32 = 8;
/// Flag: text is normalized to NFC.
pub const FLAG_NFC: u32 = 16;
/// Flag: a text begins with the configuration's begin-of-text token.
pub const FLAG_ADDS_BOS: u32 = 32;
/// The flags that a reader knows.
pub(super) const KNOWN_FLAGS: u32 = FLAG_DIGITS_APART | PATTERN | FLAG_WHOLE_WORDS | FLAG_NFC | FLAG_ADDS_BOS;
/// An empty `u32` field.
pub const NONE: u32 = u32::MAX;
/// An empty pair slot.
pub const NO_PAIR: u64 = u64::MAX;
/// Bytes of an added token's record.
pub const ADDED_LEN: usize = 8;

const ID_BITS: u32 = 21;
const RANK_BITS: u32 = 22;
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX_TAIL: u64 = 0xD6E8_FEB8_6659_FD93;

/// The header's fields, all `u32`, by byte range.
pub mod field {
    use super::Range;

    /// [`super::FLAG_DIGITS_APART`], [`super::pattern_flags`], [`super::FLAG_WHOLE_WORDS`], [`super::FLAG_NFC`],
    /// [`super::FLAG_ADDS_BOS`]; others are zero.
    pub const FLAGS: Range<usize> = 0..4;
    /// Ids in the vocabulary, those of added tokens included.
    pub const TOKENS: Range<usize> = 4..8;
    /// Merges.
    pub const MERGES: Range<usize> = 8..12;
    /// Id that the first merge produces if merge `r` produces `base + r`; else [`super::NONE`].
    pub const MERGED_BASE: Range<usize> = 12..16;
    /// Slots of the pair table.
    pub const PAIR_SLOTS: Range<usize> = 16..20;
    /// Slots of the word table.
    pub const WORD_SLOTS: Range<usize> = 20..24;
    /// Added tokens of the first pass.
    pub const ADDED_FIRST: Range<usize> = 24..28;
    /// Added tokens of the second pass.
    pub const ADDED_SECOND: Range<usize> = 28..32;
    /// Bytes of all tokens together.
    pub const TEXT_LEN: Range<usize> = 32..36;
    /// Bytes of the longest token in the word table.
    pub const LONGEST_WORD: Range<usize> = 36..40;
    /// Zero.
    pub const RESERVED: Range<usize> = 40..64;
    /// A bit for each byte that an added token of the first pass begins with.
    pub const STARTS_FIRST: Range<usize> = 64..96;
    /// A bit for each byte that an added token of the second pass begins with.
    pub const STARTS_SECOND: Range<usize> = 96..128;
}

/// Entry counts of the tables, in file order, from the header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Ids in the vocabulary.
    pub tokens: u32,
    /// Entries of the table of merged ids: 0 if ids follow from ranks.
    pub merged: u32,
    /// Slots of the pair table.
    pub pair_slots: u32,
    /// Slots of the word table.
    pub word_slots: u32,
    /// Added tokens of both passes.
    pub added: u64,
    /// Bytes of all tokens together.
    pub text: u32,
}

impl Sizes {
    /// Bytes of each table: byte ids, offsets, pairs, words, merged ids, added tokens, special bits, text.
    pub fn tables(&self) -> [u64; 8] {
        [
            256 * 4,
            (u64::from(self.tokens) + 1) * 4,
            u64::from(self.pair_slots) * 8,
            u64::from(self.word_slots) * 4,
            u64::from(self.merged) * 4,
            self.added * ADDED_LEN as u64,
            u64::from(self.tokens).div_ceil(8),
            u64::from(self.text),
        ]
    }

    /// Bytes of the whole section.
    pub fn section(&self) -> u64 {
        HEADER_LEN as u64 + self.tables().iter().sum::<u64>()
    }
}

/// The pattern that the flags name; `None` for a combination without meaning.
pub fn pattern(flags: u32) -> Option<Pattern> {
    let digits_apart = flags & FLAG_DIGITS_APART != 0;
    Some(match ((flags & PATTERN) >> 1, digits_apart) {
        (0, false) => Pattern::Gpt2,
        (0, true) => Pattern::Gpt2Digits,
        (1, false) => Pattern::Llama3,
        (2, false) => Pattern::Qwen2,
        (3, false) => Pattern::Tekken,
        _ => return None,
    })
}

/// The flags that name a pattern: the inverse of [`pattern`].
pub fn pattern_flags(pattern: Pattern) -> u32 {
    match pattern {
        Pattern::Gpt2 => 0,
        Pattern::Gpt2Digits => FLAG_DIGITS_APART,
        Pattern::Llama3 => 1 << 1,
        Pattern::Qwen2 => 2 << 1,
        Pattern::Tekken => 3 << 1,
    }
}

/// The lowest format version with the tokenizer that begins with these header bytes.
pub fn version(section: &[u8]) -> u32 {
    let flags = read_u32(section, field::FLAGS.start).unwrap_or(0);
    if flags & !FLAG_DIGITS_APART == 0 { 1 } else { 2 }
}

/// The pair table's key for two adjacent symbols.
pub fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}

/// The content of a pair slot.
pub fn pair_slot(key: u64, rank: u32) -> u64 {
    key << RANK_BITS | u64::from(rank)
}

/// The key in a pair slot.
pub fn slot_key(slot: u64) -> u64 {
    slot >> RANK_BITS
}

/// The rank in a pair slot.
pub fn slot_rank(slot: u64) -> u32 {
    slot as u32 & ((1 << RANK_BITS) - 1)
}

/// The first slot to probe for `key`, of `slots`.
pub fn pair_home(key: u64, slots: u32) -> usize {
    reduce(key.wrapping_mul(MIX) >> 32, slots)
}

/// The hash of a word's bytes, as little-endian 64-bit words padded with zeros.
pub fn word_hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64 ^ MIX_TAIL;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        hash = fold(hash ^ u64::from_le_bytes(*chunk), MIX);
    }
    if !rest.is_empty() {
        let mut tail = 0;
        for &byte in rest.iter().rev() {
            tail = tail << 8 | u64::from(byte);
        }
        hash = fold(hash ^ tail, MIX);
    }
    fold(hash, MIX_TAIL)
}

/// The first slot to probe for a word with this hash, of `slots`.
pub fn word_home(hash: u64, slots: u32) -> usize {
    reduce(hash >> 32, slots)
}

/// The content of a word slot: the id, and bits of the hash as a tag above it.
pub fn word_slot(hash: u64, id: u32) -> u32 {
    (hash as u32) << ID_BITS | id
}

/// The id in a word slot; `None` if the tag does not match `hash`.
pub fn slot_word(slot: u32, hash: u64) -> Option<u32> {
    let same_tag = (slot ^ (hash as u32) << ID_BITS) >> ID_BITS == 0;
    same_tag.then_some(slot & MAX_TOKENS as u32)
}

/// The slot `steps` after `home`, wrapping around.
pub fn probe(home: usize, steps: usize, slots: usize) -> usize {
    let slot = home + steps;
    if slot < slots { slot } else { slot - slots }
}

/// Maps a 32-bit hash to an index below `slots`.
fn reduce(hash: u64, slots: u32) -> usize {
    ((hash * u64::from(slots)) >> 32) as usize
}

/// The exclusive or of both halves of the 128-bit product.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
