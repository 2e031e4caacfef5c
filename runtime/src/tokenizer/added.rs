//! Added tokens (such as `<|im_start|>`), which are found in the text before it is split into words.
//!
//! Like the `tokenizers` crate: a first pass finds tokens that bypass the normalizer, a second pass finds the others in the
//! remaining text; each finds the leftmost, then longest match.

use super::Tokenizer;
use crate::Token;
use core::ops::Range;
use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// An added token. Records are sorted by the bytes of their texts.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct AddedToken {
    /// Its id.
    pub(super) id: U32,
    /// One plus the index of the longest other record whose text is a prefix of this text; 0 if there is none.
    pub(super) prefix: U32,
}

/// The added tokens of one pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddedTokens<'f> {
    /// Sorted records.
    pub(super) records: &'f [AddedToken],
    /// A bit for each byte that a text begins with.
    pub(super) starts: &'f [u8; 32],
}

/// A span of text: an added token, or text between added tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span<'t> {
    /// An added token.
    Added(u32),
    /// Text without added tokens.
    Text(&'t [u8]),
}

/// Where special tokens are plain text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Escaped<'r> {
    /// Nowhere.
    Nowhere,
    /// Everywhere.
    Everywhere,
    /// Where they overlap one of these byte ranges, which are ordered and disjoint.
    In(&'r [Range<usize>]),
}

impl Escaped<'_> {
    /// The start of the next range after `at`, unless `at` is inside a range.
    fn next_start(self, at: usize) -> Option<usize> {
        let Escaped::In(ranges) = self else { return None };
        let next = ranges.get(ranges.partition_point(|range| range.end <= at))?;
        (next.start > at).then_some(next.start)
    }

    pub(super) fn overlaps(self, found: &Range<usize>) -> bool {
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
    /// Splits `text[range]` at `tokens`; calls `emit` with each span, none of them empty, and its range.
    pub(super) fn split<'t, E>(
        &self,
        tokens: AddedTokens<'f>,
        escaped: Escaped<'_>,
        text: &'t [u8],
        range: Range<usize>,
        mut emit: impl FnMut(Span<'t>, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = range.end;
        let non_empty = |range: Range<usize>| text.get(range).filter(|text| !text.is_empty());
        let (mut from, mut at) = (range.start, range.start);
        while !tokens.records.is_empty() {
            let rest = text.get(at..end).unwrap_or(&[]);
            let Some(skip) = rest.iter().position(|&byte| tokens.may_start(byte)) else { break };
            at += skip;
            let longest = |end| self.longest_added(tokens, text.get(at..end).unwrap_or(&[]));
            let Some((mut id, mut len)) = longest(end) else {
                at += 1;
                continue;
            };
            // Typed text must not hide a token before it by completing a longer one.
            if self.is_special(Token(id))
                && let Some(typed) = escaped.next_start(at).filter(|&typed| typed < at + len)
                && let Some(shorter) = longest(typed)
            {
                (id, len) = shorter;
            }
            let found = at..at + len;
            if !self.is_special(Token(id)) || !escaped.overlaps(&found) {
                if let Some(before) = non_empty(from..at) {
                    emit(Span::Text(before), from..at)?;
                }
                emit(Span::Added(id), found)?;
                from = at + len;
                at = from;
            } else {
                // Skip an escaped token as a whole, like the crate does with `encode_special_tokens`. One that is only
                // partly typed must not hide a token that begins inside it.
                at += if matches!(escaped, Escaped::Everywhere) { len } else { 1 };
            }
        }
        non_empty(from..end).map_or(Ok(()), |rest| emit(Span::Text(rest), from..end))
    }

    /// Id and length of the longest added token that `text` begins with.
    fn longest_added(&self, tokens: AddedTokens<'f>, text: &[u8]) -> Option<(u32, usize)> {
        // The match is the last record that sorts no later than `text`, or a prefix of that record.
        let mut bound = tokens.records.partition_point(|added| self.text_of(*added) <= text);
        while let Some(index) = bound.checked_sub(1) {
            let added = *tokens.records.get(index)?;
            let known = self.text_of(added);
            if !known.is_empty() && text.starts_with(known) {
                return Some((added.id.get(), known.len()));
            }
            // A damaged table must not cause an endless loop.
            bound = index.min(added.prefix.get() as usize);
        }
        None
    }

    /// The token of `tokens` with this text.
    pub(super) fn find_added(&self, tokens: AddedTokens<'f>, text: &[u8]) -> Option<Token> {
        let index = tokens.records.binary_search_by(|added| self.text_of(*added).cmp(text)).ok()?;
        let token = Token(tokens.records.get(index)?.id.get());
        (token.index() < self.vocab()).then_some(token)
    }

    fn text_of(&self, added: AddedToken) -> &'f [u8] {
        self.token_bytes(Token(added.id.get()))
    }
}

impl AddedTokens<'_> {
    fn may_start(&self, byte: u8) -> bool {
        self.starts.get(usize::from(byte / 8)).is_some_and(|bits| bits >> (byte % 8) & 1 == 1)
    }
}

const _: () = assert!(size_of::<AddedToken>() == super::layout::ADDED_LEN);
