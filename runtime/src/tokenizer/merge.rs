//! Byte-pair merges of one word, in the order of the `tokenizers` crate: the pair with the lowest rank first, the leftmost
//! among equals.
//!
//! Short words use arrays on the stack. Long words use the caller's scratch memory, with a tree of minima over the ranks, and
//! take O(n log n).

use super::{EncodeError, Sink, Tokenizer};
use zerocopy::FromBytes;
use zerocopy::byteorder::little_endian::U32;

/// Longest word without scratch memory, bytes.
pub(super) const SHORT: usize = 64;
/// Children of a node in the tree of minima.
const FAN: usize = 16;
/// Levels of the tree, including the leaves: enough for 2^32 leaves.
const LEVELS: usize = 9;
/// No merge; sorts after every rank.
const NO_RANK: u32 = u32::MAX;

/// Scratch bytes for a word of `bytes` bytes, saturating.
pub(super) fn scratch_bytes(bytes: usize) -> usize {
    if bytes <= SHORT {
        return 0;
    }
    Tree::nodes(bytes).saturating_add(bytes.saturating_mul(2)).saturating_mul(size_of::<U32>())
}

impl<'f> Tokenizer<'f> {
    /// Merges `word` and writes its tokens.
    pub(super) fn merge(
        &self,
        word: &[u8],
        scratch: &mut [u8],
        sink: &mut Sink<'_>,
    ) -> Result<(), EncodeError> {
        if word.len() <= SHORT { self.merge_short(word, sink) } else { self.merge_long(word, scratch, sink) }
    }

    /// A word of at most [`SHORT`] bytes: merges shift the symbols after them.
    fn merge_short(&self, word: &[u8], sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let mut ids = [0_u32; SHORT];
        let mut ranks = [NO_RANK; SHORT];
        let mut count = 0;
        for (slot, id) in ids.iter_mut().zip(word.iter().filter_map(|&byte| self.byte_id(byte))) {
            *slot = id;
            count += 1;
        }
        for (rank, pair) in ranks.iter_mut().zip(ids[..count].windows(2)) {
            *rank = self.rank(pair[0], pair[1]);
        }
        while count > 1 {
            let live = &ranks[..count - 1];
            let lowest = live.iter().copied().fold(NO_RANK, u32::min);
            if lowest == NO_RANK {
                break;
            }
            let Some(at) = live.iter().position(|&rank| rank == lowest) else { break };
            ids.copy_within(at + 2..count, at + 1);
            ranks.copy_within(at + 1..count, at);
            count -= 1;
            ids[at] = self.merged(lowest);
            ranks[at] = if at + 1 < count { self.rank(ids[at], ids[at + 1]) } else { NO_RANK };
            if let Some(before) = at.checked_sub(1) {
                ranks[before] = self.rank(ids[before], ids[at]);
            }
        }
        ids[..count].iter().try_for_each(|&id| sink.push(id))
    }

    /// A word of any length, in scratch memory.
    fn merge_long(&self, word: &[u8], scratch: &mut [u8], sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let expected = scratch_bytes(word.len());
        let too_long = EncodeError::WordTooLong { bytes: word.len(), expected, capacity: scratch.len() };
        let countable = u32::try_from(word.len()).is_ok();
        let lent = scratch.get_mut(..expected).filter(|_| countable);
        let lent = lent.and_then(|lent| <[U32]>::mut_from_bytes(lent).ok());
        let (ids, rest) = lent.ok_or(too_long)?.split_at_mut(word.len());
        let (lens, nodes) = rest.split_at_mut(word.len());

        let mut count = 0;
        for (slot, id) in ids.iter_mut().zip(word.iter().filter_map(|&byte| self.byte_id(byte))) {
            slot.set(id);
            count += 1;
        }
        let mut symbols = Symbols { ids: &mut ids[..count], lens: &mut lens[..count] };
        symbols.lens.fill(U32::new(1));
        let mut tree = Tree::new(nodes, count, |leaf| {
            symbols.ids.get(leaf + 1).map_or(NO_RANK, |right| self.rank(symbols.id(leaf), right.get()))
        });
        while let Some((at, rank)) = tree.lowest() {
            let Some(right) = symbols.join(at, self.merged(rank)) else { break };
            tree.set(right, NO_RANK);
            let rank_of = |left, right| self.rank(symbols.id(left), symbols.id(right));
            tree.set(at, symbols.next(at).map_or(NO_RANK, |next| rank_of(at, next)));
            if let Some(before) = symbols.previous(at) {
                tree.set(before, rank_of(before, at));
            }
        }
        let mut at = Some(0).filter(|_| count > 0);
        while let Some(symbol) = at {
            sink.push(symbols.id(symbol))?;
            at = symbols.next(symbol);
        }
        Ok(())
    }
}

/// The symbols of a word, each at the index of its first byte.
///
/// `lens` has a symbol's length at its first and its last index, which leads to both neighbours.
struct Symbols<'s> {
    ids: &'s mut [U32],
    lens: &'s mut [U32],
}

impl Symbols<'_> {
    fn id(&self, at: usize) -> u32 {
        self.ids[at].get()
    }

    fn len(&self, at: usize) -> usize {
        self.lens[at].get() as usize
    }

    fn next(&self, at: usize) -> Option<usize> {
        Some(at + self.len(at)).filter(|&next| next < self.ids.len())
    }

    fn previous(&self, at: usize) -> Option<usize> {
        Some(at - self.len(at.checked_sub(1)?))
    }

    /// Merges the symbol at `at` with the next one, whose index it returns.
    fn join(&mut self, at: usize, id: u32) -> Option<usize> {
        let right = self.next(at)?;
        let len = right - at + self.len(right);
        self.ids[at].set(id);
        for end in [at, at + len - 1] {
            self.lens[end].set(len as u32);
        }
        Some(right)
    }
}

/// A tree of minima: every node is the minimum of its [`FAN`] children.
struct Tree<'s> {
    nodes: &'s mut [U32],
    /// Start of each level, leaves first, and the end of the last.
    starts: [usize; LEVELS + 1],
    levels: usize,
}

impl<'s> Tree<'s> {
    /// Nodes of a tree with `leaves` leaves.
    fn nodes(leaves: usize) -> usize {
        let (mut all, mut level) = (leaves, leaves);
        while level > 1 {
            level = level.div_ceil(FAN);
            all = all.saturating_add(level);
        }
        all
    }

    /// A tree of `leaves` values in `nodes`.
    fn new(nodes: &'s mut [U32], leaves: usize, value: impl Fn(usize) -> u32) -> Self {
        let mut starts = [0; LEVELS + 1];
        let (mut levels, mut level) = (1, leaves);
        starts[1] = leaves;
        while level > 1 && levels < LEVELS {
            level = level.div_ceil(FAN);
            starts[levels + 1] = starts[levels] + level;
            levels += 1;
        }
        for (leaf, node) in nodes[..leaves].iter_mut().enumerate() {
            node.set(value(leaf));
        }
        let mut tree = Tree { nodes, starts, levels };
        for level in 1..levels {
            for node in 0..tree.starts[level + 1] - tree.starts[level] {
                tree.refresh(level, node);
            }
        }
        tree
    }

    /// Index and value of the leftmost minimum; `None` if no leaf has a rank.
    fn lowest(&self) -> Option<(usize, u32)> {
        let lowest = self.children(self.levels, 0).first()?.get();
        if lowest == NO_RANK {
            return None;
        }
        let mut place = 0;
        for level in (0..self.levels - 1).rev() {
            let child = self.children(level + 1, place).iter().position(|node| node.get() == lowest)?;
            place = place * FAN + child;
        }
        Some((place, lowest))
    }

    /// Sets a leaf and updates the nodes above it.
    fn set(&mut self, leaf: usize, value: u32) {
        self.nodes[leaf].set(value);
        let mut place = leaf;
        for level in 1..self.levels {
            place /= FAN;
            if !self.refresh(level, place) {
                break;
            }
        }
    }

    /// Recomputes a node; returns whether it changed.
    fn refresh(&mut self, level: usize, place: usize) -> bool {
        let lowest = self.children(level, place).iter().fold(NO_RANK, |low, node| low.min(node.get()));
        let node = &mut self.nodes[self.starts[level] + place];
        let changed = node.get() != lowest;
        node.set(lowest);
        changed
    }

    /// The children of node `place` of `level`.
    fn children(&self, level: usize, place: usize) -> &[U32] {
        let (start, end) = (self.starts[level - 1], self.starts[level]);
        let first = start + place * FAN;
        &self.nodes[first..end.min(first + FAN)]
    }
}
