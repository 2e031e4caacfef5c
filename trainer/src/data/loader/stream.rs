//! One token set as an endless stream: its documents, shuffled anew every epoch and concatenated.
//!
//! The stream is read in **lanes**: each starts at another offset of the epoch, and windows take the lanes in turn, so
//! that neighbours in a batch do not come from one long document.

use super::order;
use super::position::{LanePosition, SetPosition};
use crate::data::token_set::{TokenSet, hash_hex};
use crate::error::Result;

/// The most lanes of a set.
const MAX_LANES: u64 = 64;
/// Tokens of a lane, at least: a set that is smaller than two of them is read in one.
const LANE_TOKENS: u64 = 1 << 16;

/// The documents of one epoch. 12 bytes per document.
#[derive(Default)]
struct Epoch {
    /// Its number.
    number: Option<u64>,
    /// Documents in the order of the epoch.
    order: Vec<u32>,
    /// Tokens of the epoch before each of them.
    starts: Vec<u64>,
}

/// A set's stream and its position.
pub(super) struct TokenStream {
    pub(super) name: String,
    pub(super) set: TokenSet,
    seed: u64,
    pub(super) position: SetPosition,
    /// Two consecutive epochs: some lanes reach the next one before others.
    epochs: [Epoch; 2],
}

/// Where a window came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowOrigin {
    pub(super) epoch: u64,
    /// Token offset within the epoch.
    pub(super) offset: u64,
    /// Document, and token within it, of the first id.
    pub(super) first: (usize, usize),
    /// Document, and token within it, of the last id.
    pub(super) last: (usize, usize),
    /// Documents, counted whole or in part.
    pub(super) documents: usize,
}

/// The position before a set's first window.
pub(super) fn unread(set: &TokenSet) -> SetPosition {
    let tokens = set.tokens();
    let checksums: Vec<&str> = set.manifest().shards.iter().map(|shard| shard.xxh3.as_str()).collect();
    let set_hash = hash_hex(checksums.concat().as_bytes());
    let lanes = (tokens / LANE_TOKENS).clamp(1, MAX_LANES);
    let lanes = (0..lanes).map(|lane| LanePosition { epoch: 0, offset: lane_start(lane, lanes, tokens) });
    SetPosition { set_tokens: tokens, set_hash, lanes: lanes.collect(), ..SetPosition::default() }
}

/// Token offset within an epoch at which a lane begins.
fn lane_start(lane: u64, lanes: u64, tokens: u64) -> u64 {
    (u128::from(tokens) * u128::from(lane) / u128::from(lanes)) as u64
}

impl TokenStream {
    pub(super) fn new(name: &str, set: TokenSet, seed: u64) -> TokenStream {
        let position = unread(&set);
        TokenStream { name: name.to_owned(), set, seed, position, epochs: Default::default() }
    }

    /// Whether a saved position is valid for this set.
    pub(super) fn has(&self, position: &SetPosition) -> bool {
        let lanes = self.position.lanes.len() as u64;
        let inside = |(lane, at): (u64, &LanePosition)| {
            let [begin, end] = [lane, lane + 1].map(|lane| lane_start(lane, lanes, self.set.tokens()));
            (begin..end).contains(&at.offset)
        };
        position.lanes.len() as u64 == lanes && (0..).zip(&position.lanes).all(inside)
    }

    /// Orders the documents of an epoch: once per epoch, in time proportional to the documents.
    fn load(&mut self, number: u64) {
        let epoch = &mut self.epochs[number as usize % 2];
        if epoch.number == Some(number) {
            return;
        }
        let key = order::hash(&[self.seed, order::hash_name(&self.name), number]);
        // The loader refuses sets of more than 2^32 documents.
        order::shuffle(&mut epoch.order, self.set.documents() as u32, key);
        epoch.starts.clear();
        epoch.starts.extend(epoch.order.iter().scan(0, |sum, document| {
            let start = *sum;
            *sum += self.set.document_len(*document as usize) as u64;
            Some(start)
        }));
        epoch.number = Some(number);
    }

    /// Takes the next window: `ids.len()` tokens of the lane whose turn it is, of which the last is also the first of
    /// that lane's next window. `document_start` is one shorter than `ids`.
    ///
    /// Errors where a shard cannot be read; the window is then still the next one.
    pub(super) fn next(&mut self, ids: &mut [u32], document_start: &mut [u32]) -> Result<WindowOrigin> {
        let lanes = self.position.lanes.len() as u64;
        let lane = self.position.windows % lanes;
        let [begin, end] = [lane, lane + 1].map(|lane| lane_start(lane, lanes, self.set.tokens()));
        let at = self.position.lanes[lane as usize];
        let (mut number, mut offset) = (at.epoch, at.offset);
        let (mut filled, mut documents) = (0, 0);
        let (mut first, mut last) = ((0, 0), (0, 0));
        while filled < ids.len() {
            self.load(number);
            let epoch = &self.epochs[number as usize % 2];
            let mut rank = epoch.starts.partition_point(|start| *start <= offset) - 1;
            while offset < end && filled < ids.len() {
                let document = epoch.order[rank] as usize;
                let from = (offset - epoch.starts[rank]) as usize;
                let left = (self.set.document_len(document) - from).min((end - offset) as usize);
                let take = left.min(ids.len() - filled);
                self.set.copy(document, from, &mut ids[filled..filled + take])?;
                // A document that is entered in its middle is at the window's beginning: 0 either way.
                let inputs = document_start.len();
                document_start[filled.min(inputs)..(filled + take).min(inputs)].fill(filled as u32);
                if documents == 0 {
                    first = (document, from);
                }
                last = (document, from + take - 1);
                documents += 1;
                filled += take;
                offset += take as u64;
                rank += 1;
            }
            if filled < ids.len() {
                (number, offset) = (number + 1, begin);
            }
        }
        let tokens = document_start.len() as u64;
        let position = &mut self.position;
        // One token back: the last target is the next window's first input.
        position.lanes[lane as usize] = LanePosition { epoch: number, offset: offset - 1 };
        position.windows += 1;
        position.tokens += tokens;
        position.stage_tokens += tokens;
        Ok(WindowOrigin { epoch: at.epoch, offset: at.offset, first, last, documents })
    }
}
