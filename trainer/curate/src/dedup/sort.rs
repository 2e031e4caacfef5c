//! Sorts pairs of a key and a document in bounded memory: runs on disk, merged as they are read.

use crate::error::{CurateError, Result};
use rayon::slice::ParallelSliceMut;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A key and the document that has it.
pub(super) type Pair = (u128, u32);

/// Bytes of a pair on disk.
const PAIR_BYTES: usize = 20;
/// Pairs in memory unless told otherwise: 128 MiB.
pub(super) const PAIRS_IN_MEMORY: usize = 4 << 20;
/// Runs that are open at once.
const MOST_RUNS: usize = 128;

/// Collects pairs.
pub(super) struct PairSorter {
    folder: PathBuf,
    most: usize,
    pairs: Vec<Pair>,
    runs: Vec<File>,
}

impl PairSorter {
    /// A sorter that keeps up to `most` pairs in memory, and the rest in unnamed files of `folder`.
    pub(super) fn new(folder: &Path, most: usize) -> PairSorter {
        PairSorter { folder: folder.to_owned(), most: most.max(1), pairs: Vec::new(), runs: Vec::new() }
    }

    pub(super) fn push(&mut self, pair: Pair) -> Result<()> {
        self.pairs.push(pair);
        if self.pairs.len() < self.most {
            return Ok(());
        }
        self.pairs.par_sort_unstable();
        let pairs = std::mem::take(&mut self.pairs);
        let run = self.write(pairs.iter().map(|&pair| Ok(pair)))?;
        self.pairs = pairs;
        self.pairs.clear();
        self.runs.push(run);
        if self.runs.len() == MOST_RUNS {
            let runs = std::mem::take(&mut self.runs);
            let merged = Merge::new(Vec::new(), runs, &self.folder)?;
            let run = self.write(merged)?;
            self.runs.push(run);
        }
        Ok(())
    }

    /// All pairs, in ascending order.
    pub(super) fn sorted(mut self) -> Result<impl Iterator<Item = Result<Pair>>> {
        self.pairs.par_sort_unstable();
        Merge::new(self.pairs, self.runs, &self.folder)
    }

    fn write(&self, pairs: impl Iterator<Item = Result<Pair>>) -> Result<File> {
        let failed = |error| failed(&self.folder, error);
        let file = tempfile::tempfile_in(&self.folder).map_err(failed)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        for pair in pairs {
            let (key, document) = pair?;
            out.write_all(&key.to_le_bytes())
                .and_then(|()| out.write_all(&document.to_le_bytes()))
                .map_err(failed)?;
        }
        let mut file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(file)
    }
}

fn failed(folder: &Path, error: std::io::Error) -> CurateError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => CurateError::Invalid(format!(
            "{}: no space left for sorting ({error}); free some space, or set TMPDIR to another disk",
            folder.display()
        )),
        _ => CurateError::file(folder, "sort in a file of this folder")(error),
    }
}

/// Merges sorted runs.
struct Merge {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Pair, usize)>>,
    folder: PathBuf,
}

enum Run {
    Memory(std::vec::IntoIter<Pair>),
    Disk(BufReader<File>),
}

impl Merge {
    fn new(memory: Vec<Pair>, disk: Vec<File>, folder: &Path) -> Result<Merge> {
        let disk = disk.into_iter().map(|file| Run::Disk(BufReader::with_capacity(1 << 18, file)));
        let runs = std::iter::once(Run::Memory(memory.into_iter())).chain(disk).collect();
        let mut merge = Merge { runs, heads: BinaryHeap::new(), folder: folder.to_owned() };
        for run in 0..merge.runs.len() {
            merge.advance(run)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, run: usize) -> Result<()> {
        let next = match &mut self.runs[run] {
            Run::Memory(pairs) => pairs.next(),
            Run::Disk(file) => {
                let mut bytes = [0; PAIR_BYTES];
                match file.read_exact(&mut bytes) {
                    Ok(()) => {
                        let (mut key, mut document) = ([0; 16], [0; 4]);
                        key.copy_from_slice(&bytes[..16]);
                        document.copy_from_slice(&bytes[16..]);
                        Some((u128::from_le_bytes(key), u32::from_le_bytes(document)))
                    }
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
                    Err(error) => return Err(failed(&self.folder, error)),
                }
            }
        };
        self.heads.extend(next.map(|pair| Reverse((pair, run))));
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Result<Pair>> {
        let Reverse((pair, run)) = self.heads.pop()?;
        Some(self.advance(run).map(|()| pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_amount_of_memory_sorts_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let pairs: Vec<Pair> = (0..1000u32).map(|at| (u128::from(at * 7919 % 101) << 64, at)).collect();
        let mut expected = pairs.clone();
        expected.sort_unstable();
        // 3 pairs in memory make more runs than are open at once.
        for most in [1, 3, 10, 999, 1000, 5000] {
            let mut sorter = PairSorter::new(folder.path(), most);
            pairs.iter().for_each(|&pair| sorter.push(pair).unwrap());
            let sorted: Vec<Pair> = sorter.sorted().unwrap().map(Result::unwrap).collect();
            assert_eq!(sorted, expected, "{most}");
        }
        assert_eq!(PairSorter::new(folder.path(), 5).sorted().unwrap().count(), 0);
    }
}
