//! Finds the duplicates of an input.

use super::clusters::{Clusters, KeyCollector};
use super::minhash::MinHash;
use crate::document::DocumentId;
use crate::each::EachDocument;
use crate::error::{CurateError, Result};
use crate::source::{ReadOptions, TextSource};
use crate::text::normalize;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_128;

/// Clusters of a report.
const LARGEST: usize = 20;

/// What makes two documents duplicates.
#[derive(Clone, Debug)]
pub enum DedupMethod {
    /// Their normalized texts are equal. Empty texts are duplicates of none.
    Exact,
    /// A bucket of their MinHash signatures is equal. Texts without a shingle are duplicates of none.
    MinHash(MinHash),
}

impl DedupMethod {
    /// The keys of a text: documents that share one are duplicates.
    pub fn keys(&self, text: &str) -> Vec<u128> {
        match self {
            DedupMethod::Exact => {
                let normalized = normalize(text);
                if normalized.is_empty() { Vec::new() } else { vec![xxh3_128(normalized.as_bytes())] }
            }
            DedupMethod::MinHash(minhash) => {
                minhash.signature(text).map_or_else(Vec::new, |signature| minhash.keys(&signature).collect())
            }
        }
    }
}

/// What to look for, and where.
pub struct DedupJob<'a> {
    /// The texts.
    pub sources: &'a [TextSource],
    /// How documents are extracted.
    pub read: ReadOptions,
    /// What makes two documents duplicates.
    pub method: DedupMethod,
    /// Threads that hash.
    pub threads: usize,
    /// Folder for sorting.
    pub folder: PathBuf,
}

/// What has been read so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DedupProgress {
    /// Documents, those that could not be read among them.
    pub documents: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Documents that could not be read: they are duplicates of none.
    pub bad: u64,
    /// The first one's place and fault.
    pub first_bad: Option<String>,
}

/// Duplicates, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DuplicateSets {
    /// All but the lowest id of each cluster, ascending.
    pub removed: Vec<DocumentId>,
    /// Documents that are copies of each other, ascending.
    pub clusters: Vec<Vec<DocumentId>>,
}

impl DedupJob<'_> {
    /// Reads every document and finds its duplicates; calls `watch` after each.
    ///
    /// # Errors
    /// Sources that cannot be read, a full disk.
    pub fn run(&self, watch: &mut dyn FnMut(&DedupProgress)) -> Result<(DuplicateSets, DedupProgress)> {
        let (mut ids, clusters, progress) = self.scan(watch)?;
        Ok((ids.sets(&clusters)?, progress))
    }

    /// As [`DedupJob::run`], in memory that does not grow with the duplicates' ids; calls `remove` with the number of each
    /// document to remove, ascending, and with the id of its cluster that stays. Returns the documents of the largest
    /// clusters, with that id.
    pub(crate) fn removals(
        &self,
        watch: &mut dyn FnMut(&DedupProgress),
        remove: &mut dyn FnMut(u64, &DocumentId) -> Result<()>,
    ) -> Result<Vec<(usize, DocumentId)>> {
        let (mut ids, clusters, _) = self.scan(watch)?;
        ids.removals(&clusters, remove)
    }

    fn scan(&self, watch: &mut dyn FnMut(&DedupProgress)) -> Result<(IdFile, Clusters, DedupProgress)> {
        let mut keys = KeyCollector::new(&self.folder);
        let mut progress = DedupProgress::default();
        let mut ids = IdFile::create(self)?;
        EachDocument { sources: self.sources, read: &self.read, threads: self.threads }.run(
            |document| self.method.keys(&document.text),
            |id, result, bytes| {
                progress.documents += 1;
                progress.bytes += bytes;
                ids.push(&id)?;
                match result {
                    Ok(found) => keys.push(found)?,
                    Err(why) => {
                        keys.push([])?;
                        progress.bad += 1;
                        progress.first_bad.get_or_insert(why);
                    }
                }
                watch(&progress);
                Ok(())
            },
        )?;
        Ok((ids, keys.clusters()?, progress))
    }
}

/// The ids of all documents, on disk: most are those of no duplicate.
struct IdFile {
    file: BufWriter<File>,
    folder: PathBuf,
}

impl IdFile {
    fn create(job: &DedupJob<'_>) -> Result<IdFile> {
        let file =
            tempfile::tempfile_in(&job.folder).map_err(CurateError::file(&job.folder, "write a file in"))?;
        Ok(IdFile { file: BufWriter::new(file), folder: job.folder.clone() })
    }

    fn push(&mut self, id: &DocumentId) -> Result<()> {
        let line = serde_json::to_string(id).map_err(|error| CurateError::Invalid(error.to_string()))?;
        writeln!(self.file, "{line}").map_err(CurateError::file(&self.folder, "write a file in"))
    }

    /// Calls `visit` with every document that has a duplicate, its id, and the first of its cluster.
    fn members(
        &mut self,
        clusters: &Clusters,
        sizes: &HashMap<usize, usize>,
        visit: &mut dyn FnMut(usize, usize, DocumentId) -> Result<()>,
    ) -> Result<()> {
        let failed = |error| CurateError::file(&self.folder, "read a file in")(error);
        self.file.flush().map_err(failed)?;
        let mut file = self.file.get_ref();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        for (document, line) in BufReader::new(file).lines().enumerate() {
            let (line, first) = (line.map_err(failed)?, clusters.first(document));
            if sizes.contains_key(&first) {
                let id =
                    serde_json::from_str(&line).map_err(|error| CurateError::Invalid(error.to_string()))?;
                visit(document, first, id)?;
            }
        }
        Ok(())
    }

    fn sets(&mut self, clusters: &Clusters) -> Result<DuplicateSets> {
        let sizes = clusters.sizes();
        let mut members: HashMap<usize, Vec<DocumentId>> = HashMap::with_capacity(sizes.len());
        self.members(clusters, &sizes, &mut |_, first, id| {
            members.entry(first).or_default().push(id);
            Ok(())
        })?;
        let mut clusters: Vec<Vec<DocumentId>> = members.into_values().collect();
        clusters.iter_mut().for_each(|cluster| cluster.sort());
        clusters.sort();
        let mut removed: Vec<DocumentId> =
            clusters.iter().flat_map(|cluster| cluster.iter().skip(1).cloned()).collect();
        removed.sort();
        Ok(DuplicateSets { removed, clusters })
    }

    fn removals(
        &mut self,
        clusters: &Clusters,
        remove: &mut dyn FnMut(u64, &DocumentId) -> Result<()>,
    ) -> Result<Vec<(usize, DocumentId)>> {
        let sizes = clusters.sizes();
        let mut kept: HashMap<usize, (DocumentId, usize)> = HashMap::with_capacity(sizes.len());
        self.members(clusters, &sizes, &mut |document, first, id| {
            match kept.get(&first) {
                Some(lowest) if lowest.0 <= id => {}
                _ => drop(kept.insert(first, (id, document))),
            }
            Ok(())
        })?;
        for document in 0..clusters.len() {
            if let Some((id, stays)) = kept.get(&clusters.first(document))
                && *stays != document
            {
                remove(document as u64, id)?;
            }
        }
        let mut largest: Vec<(usize, usize)> = sizes.into_iter().map(|(first, size)| (size, first)).collect();
        largest.sort_by_key(|&(size, first)| (Reverse(size), first));
        largest.truncate(LARGEST);
        Ok(largest.into_iter().filter_map(|(size, first)| Some((size, kept.remove(&first)?.0))).collect())
    }
}
