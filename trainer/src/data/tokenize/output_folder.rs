//! The output folder of `tokenize`: its lock, the job it belongs to, and the state that a killed run resumes from.

use super::job::{TokenizeJob, TokenizeProgress, TokenizeSummary};
use crate::atomic_file::write_json;
use crate::data::source::SourcePosition;
use crate::data::token_set::{
    MANIFEST, Manifest, ShardInfo, SourceFile, TOKENIZER_FILES, TokenSetWriter, VERSION, hash_hex,
};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Keeps two runs out of one folder; removed when the set is finished.
const LOCK: &str = "tokenize.lock";
/// How far the run is; removed when the set is finished.
const STATE: &str = "progress.json";

/// What [`STATE`] holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// What must be the same for the run to resume.
    job: Value,
    /// Modification time of each source, in nanoseconds since 1970.
    changed: Vec<u64>,
    /// The set, then the held-out set.
    sets: Vec<WrittenShards>,
}

/// One set's whole shards.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct WrittenShards {
    shards: Vec<ShardInfo>,
    /// After the last document of the last whole shard.
    position: SourcePosition,
}

/// A locked output folder and its job.
pub(super) struct OutputFolder<'j> {
    job: &'j TokenizeJob<'j>,
    _lock: File,
    identity: Value,
    sources: Vec<SourceFile>,
    changed: Vec<u64>,
}

impl<'j> OutputFolder<'j> {
    /// Locks the folder.
    pub(super) fn lock(job: &'j TokenizeJob<'j>) -> Result<OutputFolder<'j>> {
        let folder = &job.output;
        if job.holdout.as_ref().is_some_and(|holdout| holdout.output == *folder) {
            return Err(Error::Usage("--holdout-output must differ from --output".into()));
        }
        std::fs::create_dir_all(folder).map_err(Error::file(folder, "make the folder"))?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(Error::file(&path, "write"))?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Error::Usage(format!(
                "{}: another run is using this folder; wait for it, or choose another folder",
                folder.display()
            )));
        }
        let sources = job.sources.iter().map(|source| Ok(source.file()?)).collect::<Result<Vec<_>>>()?;
        let changed = job.sources.iter().map(|source| changed(&source.path)).collect::<Result<Vec<_>>>()?;
        let identity = json!({
            "version": VERSION,
            "sources": &sources,
            "field": job.read.field,
            "lines": job.read.lines,
            "skip_bad": job.skip_bad,
            "tokenizer": job.encoder.hash(),
            "end_of_document": job.end_of_document,
            "shard_tokens": job.shard_tokens,
            "holdout": job.holdout.as_ref().map(|holdout| holdout.share.to_string()),
            "holdout_seed": job.holdout.as_ref().map(|holdout| holdout.seed),
        });
        Ok(OutputFolder { job, _lock: lock, identity, sources, changed })
    }

    fn folders(&self) -> Vec<&Path> {
        let holdout = self.job.holdout.as_ref().map(|holdout| holdout.output.as_path());
        [self.job.output.as_path()].into_iter().chain(holdout).collect()
    }

    /// The result of an earlier run of the same job, if it finished.
    pub(super) fn finished(&self) -> Result<Option<TokenizeSummary>> {
        if !self.job.output.join(MANIFEST).exists() {
            return Ok(None);
        }
        let mut manifests = Vec::new();
        for folder in self.folders() {
            let manifest = Manifest::read(folder)?;
            let found = manifest.job.as_ref().unwrap_or(&Value::Null);
            if let Some(difference) = difference(found, &self.record()) {
                self.unlock();
                return Err(Error::Usage(format!(
                    "{}: there is a token set already, made with other options ({difference}); choose another folder, or \
                     delete this one first",
                    folder.display()
                )));
            }
            manifests.push(manifest);
        }
        self.clean_up()?;
        let mut manifests = manifests.into_iter();
        let set = manifests.next();
        Ok(set.map(|set| {
            let resumed = set.documents;
            TokenizeSummary { set, holdout: manifests.next(), progress: TokenizeProgress::default(), resumed }
        }))
    }

    /// The job as the manifest records it; the manifest lists the sources elsewhere.
    fn record(&self) -> Value {
        let mut record = self.identity.clone();
        if let Some(record) = record.as_object_mut() {
            record.remove("version");
            record.remove("tokenizer");
            record.remove("end_of_document");
            let mut sources = String::new();
            for source in &self.sources {
                sources += &format!("{} {}\n", source.bytes, source.xxh3_ends);
            }
            record.insert("sources".into(), json!(hash_hex(sources.as_bytes())));
            record.insert("tokenizer".into(), json!(self.job.encoder.hash()));
        }
        record
    }

    /// The sets to write, from their last whole shard on.
    pub(super) fn open_sets(&self) -> Result<SetWriters> {
        let path = self.job.output.join(STATE);
        let folders = self.folders();
        let state = match std::fs::read(&path) {
            Ok(text) => self.resume(&path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // A folder with other files stays as it was.
                folders.iter().try_for_each(|folder| require_empty(folder)).inspect_err(|_| self.unlock())?;
                self.fresh()
            }
            Err(error) => return Err(Error::file(&path, "read")(error)),
        };
        write_json(&path, &state)?;
        let mut writers = Vec::new();
        for (folder, written) in folders.iter().zip(&state.sets) {
            // The run was killed between the manifests of the two sets: this one is written once more.
            let manifest = folder.join(MANIFEST);
            if manifest.exists() {
                std::fs::remove_file(&manifest).map_err(Error::file(&manifest, "remove"))?;
            }
            writers.push(TokenSetWriter::resume(folder, &self.job.set_options(), written.shards.clone())?);
        }
        Ok(SetWriters { path, state, writers })
    }

    fn fresh(&self) -> State {
        let sets = vec![WrittenShards::default(); self.folders().len()];
        State { job: self.identity.clone(), changed: self.changed.clone(), sets }
    }

    fn resume(&self, path: &Path, text: &[u8]) -> Result<State> {
        let state: State = serde_json::from_slice(text).map_err(|error| {
            Error::Invalid(format!("{}: {error}; remove the folder and start again", path.display()))
        })?;
        let refuse = |what: String| {
            Error::Usage(format!(
                "{}: an unfinished run in this folder was started with other sources or options ({what}); run it again as \
                 it was started, or remove the folder and start again",
                self.job.output.display()
            ))
        };
        // Without a whole shard there is nothing to lose.
        if state.sets.iter().all(|set| set.shards.is_empty()) {
            return Ok(self.fresh());
        }
        if let Some(difference) = difference(&state.job, &self.identity) {
            return Err(refuse(difference));
        }
        let pairs = state.changed.iter().zip(&self.changed).zip(self.job.sources);
        if let Some((_, source)) = { pairs }.find(|((then, now), _)| then != now) {
            return Err(refuse(format!("{} has been changed since", source.name)));
        }
        if state.sets.len() != self.folders().len() {
            return Err(refuse(format!("{} sets", state.sets.len())));
        }
        Ok(state)
    }

    /// Writes the manifests, that of the set itself last.
    pub(super) fn finish(
        self,
        sets: SetWriters,
        progress: TokenizeProgress,
        resumed: u64,
    ) -> Result<TokenizeSummary> {
        let SetWriters { writers, .. } = sets;
        if writers.iter().all(|writer| writer.documents() == 0) {
            return Err(Error::Invalid(format!(
                "expected documents, found none in {} sources: {} records without text, {} that could not be read",
                self.sources.len(),
                progress.empty,
                progress.bad
            )));
        }
        let mut manifests = Vec::new();
        for writer in writers.into_iter().rev() {
            manifests.push(writer.finish(self.sources.clone(), Some(self.record()))?);
        }
        self.clean_up()?;
        let set = manifests.pop();
        let set = set.ok_or_else(|| Error::Invalid("no set was written; please report this".into()))?;
        Ok(TokenizeSummary { set, holdout: manifests.pop(), progress, resumed })
    }

    /// Removes the lock from a folder of another job.
    fn unlock(&self) {
        // The error that led here is the one to report.
        let _ = std::fs::remove_file(self.job.output.join(LOCK));
    }

    fn clean_up(&self) -> Result<()> {
        for name in [STATE, LOCK] {
            let path = self.job.output.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file(&path, "remove")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writers of the set, then of the held-out set.
pub(super) struct SetWriters {
    path: PathBuf,
    state: State,
    writers: Vec<TokenSetWriter>,
}

impl SetWriters {
    /// The position at which reading begins.
    pub(super) fn start(&self) -> SourcePosition {
        self.positions().into_iter().min().unwrap_or_default()
    }

    /// For each set, the position up to which it is on disk.
    pub(super) fn positions(&self) -> Vec<SourcePosition> {
        self.state.sets.iter().map(|set| set.position).collect()
    }

    /// Documents in whole shards.
    pub(super) fn documents(&self) -> u64 {
        self.writers.iter().map(TokenSetWriter::documents).sum()
    }

    /// Appends a document, which was at `at` in the sources, to a set.
    pub(super) fn push(
        &mut self,
        set: usize,
        at: SourcePosition,
        ids: &[u32],
        place: impl Fn() -> String,
    ) -> Result<()> {
        let writer = &mut self.writers[set];
        let closed = writer.push(ids).map_err(|error| match error {
            Error::Invalid(why) if !ids.is_empty() => Error::Invalid(format!("{why} (writing {})", place())),
            other => other,
        })?;
        if closed {
            let position = SourcePosition { record: at.record + 1, index: at.index + 1, ..at };
            self.state.sets[set] = WrittenShards { shards: writer.shards().to_vec(), position };
            write_json(&self.path, &self.state)?;
        }
        Ok(())
    }
}

fn changed(path: &Path) -> Result<u64> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let modified = modified.map_err(Error::file(path, "read"))?;
    Ok(modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
}

/// Refuses a folder with other files; the tokenizer's files are allowed.
fn require_empty(folder: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::file(folder, "read"))?,
    };
    for entry in entries {
        let name = entry.map_err(Error::file(folder, "read"))?.file_name();
        let name = name.to_string_lossy();
        if name != LOCK && !name.ends_with(".partial") && !TOKENIZER_FILES.contains(&&*name) {
            return Err(Error::Usage(format!(
                "{}: expected an empty folder or an unfinished token set, found {name}; choose another folder, or delete \
                 this one first",
                folder.display()
            )));
        }
    }
    Ok(())
}

/// The first difference between two jobs.
fn difference(then: &Value, now: &Value) -> Option<String> {
    if then == now {
        return None;
    }
    let (Some(then), Some(now)) = (then.as_object(), now.as_object()) else {
        return Some("it was not made by tokenize".into());
    };
    let key = now.keys().chain(then.keys()).find(|key| then.get(*key) != now.get(*key))?;
    let [then, now] = [then, now].map(|job| job.get(key).unwrap_or(&Value::Null));
    Some(match key.as_str() {
        "sources" => "the sources have changed".to_owned(),
        _ => format!("{key} was {then} and is {now}"),
    })
}
