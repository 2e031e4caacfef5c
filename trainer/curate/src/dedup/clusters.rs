//! Clusters of duplicates: connected components of the documents that share a key.

use super::sort::{PAIRS_IN_MEMORY, PairSorter};
use crate::error::{CurateError, Result};
use std::collections::HashMap;
use std::path::Path;

/// Collects the keys of all documents.
pub struct KeyCollector {
    sorter: PairSorter,
    documents: u32,
}

impl KeyCollector {
    /// Sorts in unnamed files of `folder` what does not fit into 128 MiB.
    pub fn new(folder: &Path) -> KeyCollector {
        KeyCollector::with_memory(folder, PAIRS_IN_MEMORY)
    }

    /// As [`KeyCollector::new`], with up to `pairs` keys of 32 bytes in memory.
    pub fn with_memory(folder: &Path, pairs: usize) -> KeyCollector {
        KeyCollector { sorter: PairSorter::new(folder, pairs), documents: 0 }
    }

    /// Appends the next document with its keys; one without keys is a duplicate of none.
    ///
    /// # Errors
    /// More than 2^32 - 1 documents; a disk that is full.
    pub fn push(&mut self, keys: impl IntoIterator<Item = u128>) -> Result<()> {
        let document = self.documents;
        self.documents = document.checked_add(1).ok_or_else(|| {
            CurateError::Invalid(format!("expected at most {} documents; split the input", u32::MAX))
        })?;
        keys.into_iter().try_for_each(|key| self.sorter.push((key, document)))
    }

    /// The clusters of all documents: 4 bytes of memory for each.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn clusters(self) -> Result<Clusters> {
        let mut clusters = Clusters { parents: (0..self.documents).collect() };
        let mut before = None;
        for pair in self.sorter.sorted()? {
            let (key, document) = pair?;
            if let Some((same, other)) = before
                && same == key
            {
                clusters.join(other, document);
            }
            before = Some((key, document));
        }
        for document in 0..self.documents {
            clusters.parents[document as usize] = clusters.root(document);
        }
        Ok(clusters)
    }
}

/// The cluster of every document.
pub struct Clusters {
    /// For each document one of its cluster that is not behind it; the first of a cluster has itself.
    parents: Vec<u32>,
}

impl Clusters {
    /// The first document of a document's cluster.
    ///
    /// # Panics
    /// Where there are not so many documents.
    pub fn first(&self, document: usize) -> usize {
        self.parents[document] as usize
    }

    /// Documents.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// The documents of every cluster of more than one, by its first.
    pub(super) fn sizes(&self) -> HashMap<usize, usize> {
        let mut sizes = HashMap::new();
        for (document, &first) in self.parents.iter().enumerate() {
            if first as usize != document {
                *sizes.entry(first as usize).or_insert(1) += 1;
            }
        }
        sizes
    }

    fn root(&mut self, mut document: u32) -> u32 {
        loop {
            let parent = self.parents[document as usize];
            if parent == document {
                return document;
            }
            let above = self.parents[parent as usize];
            self.parents[document as usize] = above;
            document = above;
        }
    }

    /// The root is the lowest, so that the order of keys does not matter.
    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.parents[one.max(other) as usize] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_keys_make_clusters() {
        let folder = tempfile::tempdir().unwrap();
        let documents: [&[u128]; 7] = [&[1, 2], &[3], &[4, 5], &[], &[5, 3], &[2], &[9, 9]];
        for memory in [1, 2, 100] {
            let mut keys = KeyCollector::with_memory(folder.path(), memory);
            documents.iter().for_each(|document| keys.push(document.iter().copied()).unwrap());
            let clusters = keys.clusters().unwrap();
            let first: Vec<usize> = (0..clusters.len()).map(|document| clusters.first(document)).collect();
            assert_eq!(first, [0, 1, 1, 3, 1, 0, 6], "{memory}");
        }
    }
}
