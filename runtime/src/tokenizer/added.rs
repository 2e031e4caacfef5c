//! Added tokens (`<|im_start|>` and the like): found in the raw text before it is cut into words.
//!
//! The `tokenizers` crate looks twice: first for the tokens that its normalizer must not touch, then, in what
//! is left, for the others; each time leftmost, then longest.

use super::Tokenizer;
use crate::Token;
use core::ops::Range;
use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// An added token, in the order of the texts' bytes within its pass.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Added {
    /// Its id.
    pub(super) id: U32,
    /// Place of the longest other text of this pass that this text begins with, plus one; else zero.
    pub(super) prefix: U32,
}

/// The added tokens of one pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass<'f> {
    /// Sorted records.
    pub(super) records: &'f [Added],
    /// A bit for each byte that begins one of the texts.
    pub(super) starts: &'f [u8; 32],
}

/// A stretch of text: either one added token or what lies between two.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'t> {
    /// An added token.
    Added(u32),
    /// Text without added tokens.
    Text(&'t [u8]),
}

/// Where the text of a special token is plain text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Escaped<'r> {
    /// Nowhere.
    Nowhere,
    /// Everywhere.
    Everywhere,
    /// Where it touches one of these byte ranges, which are in order and apart from each other.
    In(&'r [Range<usize>]),
}

impl Escaped<'_> {
    /// Where the next range begins that is behind `at`, if `at` is in none.
    fn behind(self, at: usize) -> Option<usize> {
        let Escaped::In(ranges) = self else { return None };
        let next = ranges.get(ranges.partition_point(|range| range.end <= at))?;
        (next.start > at).then_some(next.start)
    }

    fn touches(self, found: &Range<usize>) -> bool {
        match self {
            Escaped::Nowhere => false,
            Escaped::Everywhere => true,
            Escaped::In(ranges) => {
                let first = ranges.partition_point(|range| range.end <= found.start);
                ranges.get(first).is_some_and(|range| range.start < found.end)
            }
        }
    }
}

impl<'f> Tokenizer<'f> {
    /// Cuts `text[range]` at the added tokens of `pass` and hands on the parts, none of them empty, with their places.
    pub(super) fn split<'t, E>(
        &self,
        pass: Pass<'f>,
        escaped: Escaped<'_>,
        text: &'t [u8],
        range: Range<usize>,
        mut hand_on: impl FnMut(Part<'t>, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = range.end;
        let stretch = |range: Range<usize>| text.get(range).filter(|stretch| !stretch.is_empty());
        let (mut from, mut at) = (range.start, range.start);
        while !pass.records.is_empty() {
            let rest = text.get(at..end).unwrap_or(&[]);
            let Some(skip) = rest.iter().position(|&byte| pass.may_start(byte)) else { break };
            at += skip;
            let longest = |end| self.longest_added(pass, text.get(at..end).unwrap_or(&[]));
            let Some((mut id, mut len)) = longest(end) else {
                at += 1;
                continue;
            };
            // What somebody typed must not hide a token in front of it by making a longer one.
            if self.is_special(Token(id))
                && let Some(typed) = escaped.behind(at).filter(|&typed| typed < at + len)
                && let Some(shorter) = longest(typed)
            {
                (id, len) = shorter;
            }
            let found = at..at + len;
            if !self.is_special(Token(id)) || !escaped.touches(&found) {
                if let Some(before) = stretch(from..at) {
                    hand_on(Part::Text(before), from..at)?;
                }
                hand_on(Part::Added(id), found)?;
                from = at + len;
                at = from;
            } else {
                // An escaped token is passed over as a whole, as the crate does with `encode_special_tokens`. One
                // that is typed only in part must not hide a token that begins in it.
                at += if matches!(escaped, Escaped::Everywhere) { len } else { 1 };
            }
        }
        stretch(from..end).map_or(Ok(()), |rest| hand_on(Part::Text(rest), from..end))
    }

    /// Id and length of the longest added token that `text` begins with.
    fn longest_added(&self, pass: Pass<'f>, text: &[u8]) -> Option<(u32, usize)> {
        // Whatever `text` begins with is the last record not behind it, or a prefix of that one.
        let mut place = pass.records.partition_point(|added| self.text_of(*added) <= text);
        while let Some(index) = place.checked_sub(1) {
            let added = *pass.records.get(index)?;
            let known = self.text_of(added);
            if !known.is_empty() && text.starts_with(known) {
                return Some((added.id.get(), known.len()));
            }
            // Prefixes sort before; a table that says otherwise must not make this a loop.
            place = index.min(added.prefix.get() as usize);
        }
        None
    }

    /// The record of exactly this text in `pass`.
    pub(super) fn find_added(&self, pass: Pass<'f>, text: &[u8]) -> Option<Token> {
        let index = pass.records.binary_search_by(|added| self.text_of(*added).cmp(text)).ok()?;
        let token = Token(pass.records.get(index)?.id.get());
        (token.index() < self.vocab()).then_some(token)
    }

    fn text_of(&self, added: Added) -> &'f [u8] {
        self.token_bytes(Token(added.id.get()))
    }
}

impl Pass<'_> {
    fn may_start(&self, byte: u8) -> bool {
        self.starts.get(usize::from(byte / 8)).is_some_and(|bits| bits >> (byte % 8) & 1 == 1)
    }
}

const _: () = assert!(size_of::<Added>() == super::layout::ADDED_LEN);
