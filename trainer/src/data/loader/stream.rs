//! One token set as an endless stream: its documents in a new order every epoch, one behind the other.

use super::order;
use super::position::SetPosition;
use crate::data::token_set::TokenSet;

/// A set's stream and the place in it. Holds 12 bytes per document: the epoch's order, and where each document begins.
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) set: TokenSet,
    seed: u64,
    pub(super) position: SetPosition,
    /// The epoch that `order` and `starts` describe.
    loaded: Option<u64>,
    /// Documents in the order of the epoch.
    order: Vec<u32>,
    /// Tokens of the epoch before each of them.
    starts: Vec<u64>,
}

/// Where a window came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
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

impl Stream {
    pub(super) fn new(name: &str, set: TokenSet, seed: u64) -> Stream {
        let position = SetPosition { set_tokens: set.tokens(), ..SetPosition::default() };
        Stream {
            name: name.to_owned(),
            set,
            seed,
            position,
            loaded: None,
            order: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Orders the documents of `epoch`: once per epoch, in time proportional to the documents.
    fn load(&mut self, epoch: u64) {
        if self.loaded == Some(epoch) {
            return;
        }
        let key = order::hash(&[self.seed, order::hash_name(&self.name), epoch]);
        // The loader refuses sets of more than 2^32 documents.
        order::shuffle(&mut self.order, self.set.documents() as u32, key);
        self.starts.clear();
        self.starts.extend(self.order.iter().scan(0, |sum, document| {
            let start = *sum;
            *sum += self.set.document_len(*document as usize) as u64;
            Some(start)
        }));
        self.loaded = Some(epoch);
    }

    /// Takes the next window: `ids.len()` tokens, of which the last is also the first of the next window.
    /// `document_start` is one shorter than `ids`.
    pub(super) fn next(&mut self, ids: &mut [u32], document_start: &mut [u32]) -> Span {
        let (mut epoch, mut offset) = (self.position.epoch, self.position.offset);
        let (mut filled, mut documents) = (0, 0);
        let (mut first, mut last) = ((0, 0), (0, 0));
        while filled < ids.len() {
            self.load(epoch);
            let mut rank = self.starts.partition_point(|start| *start <= offset) - 1;
            while let Some(document) = self.order.get(rank).map(|document| *document as usize)
                && filled < ids.len()
            {
                let from = (offset - self.starts[rank]) as usize;
                let take = (self.set.document_len(document) - from).min(ids.len() - filled);
                self.set.copy(document, from, &mut ids[filled..filled + take]);
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
                (epoch, offset) = (epoch + 1, 0);
            }
        }
        let span = Span { epoch: self.position.epoch, offset: self.position.offset, first, last, documents };
        let tokens = document_start.len() as u64;
        let position = &mut self.position;
        // One back: the last target is the next window's first input. It is always of this epoch.
        (position.epoch, position.offset) = (epoch, offset - 1);
        position.windows += 1;
        position.tokens += tokens;
        position.stage_tokens += tokens;
        span
    }
}
