//! The dictionary of a model: its words and labels, and the rows that pruning left for n-grams.

use super::cursor::{Cursor, Fault};
use super::sorted_map::SortedMap;

/// The word that ends every text.
pub(super) const END: &[u8] = b"</s>";
/// How labels begin.
pub const LABEL_PREFIX: &str = "__label__";
/// Fewest bytes of an entry: an empty word, its end, its count, its type.
const LEAST_ENTRY: usize = 10;
/// Counts stay below this, the mark of a node without a count in the tree of labels.
const MOST_COUNT: i64 = 1_000_000_000_000_000;

/// fastText's hash of a word: FNV-1a, but with bytes that are extended by their sign.
pub(super) fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(2_166_136_261, |hash, &byte| extend_hash(hash, byte))
}

/// The hash of what `hash` stands for with `byte` behind it.
#[inline]
pub(super) fn extend_hash(hash: u32, byte: u8) -> u32 {
    (hash ^ i32::from(byte as i8) as u32).wrapping_mul(16_777_619)
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word with its row.
    Word(u32),
    /// A word that the dictionary lacks.
    Unknown,
    /// A label with its index; none where the dictionary lacks it.
    Label(Option<u32>),
}

/// Words, then labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Dictionary {
    pub(super) words: usize,
    pub(super) labels: usize,
    text: Vec<u8>,
    ends: Vec<usize>,
    pub(super) counts: Vec<i64>,
    ids: SortedMap,
    /// Rows of n-grams by bucket; `None` where every bucket has its row.
    pruned: Option<SortedMap>,
    /// The largest row that pruning gives to a bucket, and 1.
    pruned_rows: usize,
    pub(super) tokens: i64,
}

impl Dictionary {
    /// A dictionary of words with their counts, then labels with theirs.
    pub(super) fn new(words: Vec<(Vec<u8>, i64)>, labels: Vec<(Vec<u8>, i64)>, tokens: i64) -> Dictionary {
        let mut dictionary =
            Dictionary { words: words.len(), labels: labels.len(), tokens, ..Dictionary::default() };
        for (entry, count) in words.into_iter().chain(labels) {
            dictionary.push(&entry, count);
        }
        dictionary.index();
        dictionary
    }

    fn push(&mut self, entry: &[u8], count: i64) {
        self.text.extend(entry);
        self.ends.push(self.text.len());
        self.counts.push(count);
    }

    /// Sorts entries by hash, and those of one hash by their bytes, so that no file makes a search slow.
    fn index(&mut self) {
        let mut order: Vec<u32> = (0..self.ends.len() as u32).collect();
        order.sort_by(|&a, &b| self.entry(a as usize).cmp(self.entry(b as usize)));
        self.ids = SortedMap::new(order.into_iter().map(|id| (hash(self.entry(id as usize)), id)).collect());
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Dictionary, Fault> {
        let most = cursor.left() / LEAST_ENTRY;
        let size = cursor.count(most, "the size of the dictionary")?;
        let words = cursor.count(size, "the number of words")?;
        let labels = cursor.count(size, "the number of labels")?;
        if words + labels != size || labels == 0 {
            return Err(format!(
                "expected words and at least one label, {size} together, found {words} and {labels}"
            ));
        }
        let tokens = cursor.i64("the number of tokens")?;
        let pruned = cursor.i64("the number of pruned n-grams")?;
        let mut dictionary = Dictionary { words, labels, tokens, ..Dictionary::default() };
        for id in 0..size {
            let entry = cursor.until_zero("a word")?;
            let count = cursor.i64("the count of a word")?;
            let is_label = cursor.flag("the type of an entry")?;
            if is_label != (id >= words) {
                return Err(format!("expected {words} words and then labels, found otherwise at entry {id}"));
            }
            if is_label && !(0..MOST_COUNT).contains(&count) {
                return Err(format!("expected a count from 0 to 10^15 for a label, found {count}"));
            }
            dictionary.push(entry, count);
        }
        dictionary.index();
        if pruned >= 0 {
            dictionary.read_pruned(cursor, pruned)?;
        }
        Ok(dictionary)
    }

    fn read_pruned(&mut self, cursor: &mut Cursor<'_>, pairs: i64) -> Result<(), Fault> {
        let most = cursor.left() / 8;
        let count = usize::try_from(pairs).ok().filter(|&count| count <= most);
        let count = count.ok_or_else(|| format!("expected at most {most} pruned n-grams, found {pairs}"))?;
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            let bucket = cursor.count(i32::MAX as usize, "the bucket of an n-gram")?;
            let row = cursor.count(i32::MAX as usize - 1, "the row of an n-gram")?;
            self.pruned_rows = self.pruned_rows.max(row + 1);
            rows.push((bucket as u32, row as u32));
        }
        self.pruned = Some(SortedMap::new(rows));
        Ok(())
    }

    /// Appends the dictionary as a file keeps it. It has not been pruned.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let size = |value: usize| i32::try_from(value).unwrap_or(i32::MAX).to_le_bytes();
        out.extend(size(self.ends.len()));
        out.extend(size(self.words));
        out.extend(size(self.labels));
        out.extend(self.tokens.to_le_bytes());
        out.extend((-1i64).to_le_bytes());
        for id in 0..self.ends.len() {
            out.extend(self.entry(id));
            out.push(0);
            out.extend(self.counts[id].to_le_bytes());
            out.push(u8::from(id >= self.words));
        }
    }

    fn entry(&self, id: usize) -> &[u8] {
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.text[start..self.ends[id]]
    }

    /// A word by its row.
    pub(super) fn word(&self, row: usize) -> &[u8] {
        self.entry(row)
    }

    /// A label by its index.
    pub(super) fn label(&self, label: usize) -> String {
        String::from_utf8_lossy(self.entry(self.words + label)).into_owned()
    }

    /// Counts of the labels.
    pub(super) fn label_counts(&self) -> &[i64] {
        &self.counts[self.words..]
    }

    /// Whether rows of n-grams were dropped.
    pub(super) fn is_pruned(&self) -> bool {
        self.pruned.is_some()
    }

    /// Rows that an input matrix has to have for words and n-grams of `buckets` buckets.
    pub(super) fn rows(&self, buckets: usize) -> usize {
        self.words + if self.pruned.is_some() { self.pruned_rows } else { buckets }
    }

    /// What a token with this hash is. Of equal entries the last one counts, as in fastText.
    pub(super) fn token(&self, token: &[u8], hash: u32) -> Token {
        let ids = self.ids.get(hash);
        let behind = match ids.len() {
            0 => 0,
            1 => usize::from(self.entry(ids[0] as usize) <= token),
            _ => ids.partition_point(|&id| self.entry(id as usize) <= token),
        };
        let found = behind.checked_sub(1).map(|at| ids[at]).filter(|&id| self.entry(id as usize) == token);
        match found {
            Some(id) if (id as usize) < self.words => Token::Word(id),
            Some(id) => Token::Label(Some(id - self.words as u32)),
            None if token.starts_with(LABEL_PREFIX.as_bytes()) => Token::Label(None),
            None => Token::Unknown,
        }
    }

    /// The row of an n-gram in `bucket`; none where pruning dropped it.
    #[inline]
    pub(super) fn ngram_row(&self, bucket: u32) -> Option<u32> {
        match &self.pruned {
            None => Some(self.words as u32 + bucket),
            Some(rows) => rows.get(bucket).last().map(|row| self.words as u32 + row),
        }
    }
}
