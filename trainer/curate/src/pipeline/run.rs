//! Runs a recipe, or what is left of it.

use super::part::{LinesWriter, PartMarker, PartName, write_json};
use super::pass::{Pass, Unit};
use super::recipe::{CorpusRecipe, PassPlan};
use super::report;
use crate::dedup::{DedupJob, DedupMethod, DedupProgress};
use crate::document::DocumentId;
use crate::error::{CurateError, Result};
use crate::source::{ReadOptions, SourceFile, TextSource};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Sources of fewer bytes are read together, so that many small files make few parts.
const UNIT_BYTES: u64 = 16 << 20;
/// The recipe and the sources of an output folder.
const STATE: &str = "curation.json";

/// What a process does of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Everything.
    All,
    /// A share of the next pass.
    Task(ArrayTask),
    /// What needs all documents, once all tasks have done their share: the next duplicates, or the report.
    Barrier,
}

/// One of several processes that share the work of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayTask {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl std::str::FromStr for ArrayTask {
    type Err = String;

    /// `I/N`, with I from 1 to N.
    fn from_str(text: &str) -> std::result::Result<ArrayTask, String> {
        let wrong = || format!("expected I/N with I from 1 to N, such as 2/4, found {text:?}");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
        let (index, count) = (number(index)?, number(count)?);
        if (1..=count).contains(&index) { Ok(ArrayTask { index: index - 1, count }) } else { Err(wrong()) }
    }
}

/// A run of a recipe.
pub struct CurationRun<'a> {
    /// What to do.
    pub recipe: &'a CorpusRecipe,
    /// The share of this process.
    pub share: Share,
    /// Threads.
    pub threads: usize,
}

/// What a run has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurationSummary {
    /// The folder of the result, its documents and the bytes of their text.
    Complete {
        /// The folder.
        data: PathBuf,
        /// Documents that were kept.
        documents: u64,
        /// Bytes of their text.
        bytes: u64,
        /// Records that could not be read.
        bad: u64,
    },
    /// This process has done its share. Tasks have work in this pass, from 0, or had; then comes the barrier.
    ShareDone {
        /// The pass, from 0.
        pass: usize,
    },
}

#[derive(PartialEq, Serialize, Deserialize)]
struct State {
    recipe: CorpusRecipe,
    sources: Vec<SourceFile>,
}

impl CurationRun<'_> {
    /// Does what is left of the recipe; calls `watch` with records and bytes that were read so far,
    /// by all passes together.
    ///
    /// # Errors
    /// Sources that cannot be read or have changed, another recipe's folder, a full disk. The same call goes on from what
    /// is on disk.
    pub fn run(&self, watch: &mut dyn FnMut(u64, u64)) -> Result<CurationSummary> {
        let output = &self.recipe.output;
        let options = self.recipe.read_options();
        let mut plans = self.recipe.passes()?;
        let mut sources = TextSource::resolve(&self.recipe.input, &options)?;
        self.check_state(&sources)?;
        let lines = ReadOptions { field: options.field.clone(), ..ReadOptions::default() };
        let (mut records, mut bytes) = (0, 0);
        let mut watch = |read: u64| {
            records += 1;
            bytes += read;
            watch(records, bytes);
        };
        let passes = plans.len();
        let mut before: Option<(String, PathBuf)> = None;
        let mut markers_before: Vec<PartMarker> = Vec::new();
        let mut all_markers = Vec::new();
        for (number, PassPlan { stages, dedup }) in plans.drain(..).enumerate() {
            let folder = self.folder(number, passes);
            std::fs::create_dir_all(&folder).map_err(CurateError::file(&folder, "make the folder"))?;
            let pass = Pass {
                options: if number == 0 { &options } else { &lines },
                stages: &stages,
                duplicates: before.as_ref().map(|(name, path)| (name.as_str(), path.clone())),
                folder: &folder,
                removed: self
                    .recipe
                    .keep_removed
                    .then(|| output.join("removed").join(format!("pass-{number}"))),
                part_bytes: self.recipe.part_bytes.max(1),
                threads: self.threads,
            };
            let units = units(&sources)?;
            for (unit, range) in units.iter().enumerate() {
                match self.share {
                    Share::Task(task) if unit % task.count != task.index => continue,
                    Share::Barrier => continue,
                    Share::Task(_) | Share::All => {}
                }
                let first_document =
                    markers_before.iter().take(range.start).map(|marker| marker.documents).sum();
                let unit = Unit { number: unit, sources: &sources[range.clone()], first_document };
                pass.run(&unit, &mut watch)?;
            }
            let Some(markers) = markers(&folder, units.len())? else {
                return Ok(CurationSummary::ShareDone { pass: number });
            };
            if let Some((name, method)) = dedup {
                sources = TextSource::resolve(&[folder.to_string_lossy().into_owned()], &lines)?;
                let file = output.join(format!("duplicates-{number}.txt.zst"));
                if !file.exists() {
                    if matches!(self.share, Share::Task(_)) {
                        return Ok(CurationSummary::ShareDone { pass: number });
                    }
                    self.find_duplicates(&sources, method, &file, &mut watch)?;
                }
                before = Some((name, file));
            }
            all_markers.push(markers.clone());
            markers_before = markers;
        }
        if matches!(self.share, Share::Task(_)) {
            return Ok(CurationSummary::ShareDone { pass: passes - 1 });
        }
        report::write(self.recipe, &all_markers)?;
        let bad = all_markers.iter().flatten().map(|marker| marker.bad).sum();
        let documents = markers_before.iter().map(|marker| marker.documents).sum();
        let bytes = markers_before.iter().map(|marker| marker.bytes).sum();
        Ok(CurationSummary::Complete { data: self.folder(passes - 1, passes), documents, bytes, bad })
    }

    fn folder(&self, pass: usize, passes: usize) -> PathBuf {
        let name = if pass + 1 == passes { "data".to_owned() } else { format!("pass-{pass}") };
        self.recipe.output.join(name)
    }

    fn check_state(&self, sources: &[TextSource]) -> Result<()> {
        let output = &self.recipe.output;
        std::fs::create_dir_all(output).map_err(CurateError::file(output, "make the folder"))?;
        let sources = sources.iter().map(TextSource::file).collect::<Result<_>>()?;
        let state = State { recipe: self.recipe.clone(), sources };
        let path = output.join(STATE);
        if !path.exists() {
            return write_json(&path, &state);
        }
        let text = std::fs::read(&path).map_err(CurateError::file(&path, "read"))?;
        match serde_json::from_slice::<State>(&text) {
            Ok(found) if found == state => Ok(()),
            _ => Err(CurateError::Usage(format!(
                "{}: the folder was begun with another recipe, or the input has changed; choose another folder, or delete \
                 this one first",
                output.display()
            ))),
        }
    }

    fn find_duplicates(
        &self,
        sources: &[TextSource],
        method: DedupMethod,
        file: &Path,
        watch: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let read = ReadOptions { field: self.recipe.field.clone(), ..ReadOptions::default() };
        let folder = self.recipe.output.clone();
        let job = DedupJob { sources, read, method, threads: self.threads, folder };
        let mut out = LinesWriter::create(file)?;
        let mut before = 0;
        let mut watch =
            |progress: &DedupProgress| watch(progress.bytes - std::mem::replace(&mut before, progress.bytes));
        let largest = job.removals(&mut watch, &mut |number, kept| {
            let kept = match kept {
                DocumentId::Number(id) => id.to_string(),
                DocumentId::Text(id) => id.replace('\n', " "),
            };
            out.push(&format!("{number} {kept}"))
        })?;
        write_json(&file.with_extension("").with_extension("json"), &largest)?;
        out.finish()
    }
}

/// Consecutive sources of at least 16 MiB in all.
fn units(sources: &[TextSource]) -> Result<Vec<Range<usize>>> {
    let (mut units, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (number, source) in sources.iter().enumerate() {
        let metadata = std::fs::metadata(&source.path).map_err(CurateError::file(&source.path, "read"))?;
        bytes += metadata.len();
        if bytes >= UNIT_BYTES || number + 1 == sources.len() {
            units.push(start..number + 1);
            (start, bytes) = (number + 1, 0);
        }
    }
    Ok(units)
}

/// The markers of all parts, in order; none where a part is missing.
fn markers(folder: &Path, units: usize) -> Result<Option<Vec<PartMarker>>> {
    let mut markers = Vec::new();
    for source in 0..units {
        for number in 0.. {
            let Some(marker) = (PartName { source, number }).marker(folder)? else { return Ok(None) };
            let last = marker.last;
            markers.push(marker);
            if last {
                break;
            }
        }
    }
    Ok(Some(markers))
}
