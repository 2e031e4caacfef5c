//! One unit of a pass: consecutive sources, read once, written as parts.

use super::part::{LinesWriter, PartMarker, PartName, RemovedSample};
use super::stage::{DocumentStage, StageCount, Verdict};
use crate::document::CorpusDocument;
use crate::error::{CurateError, Result};
use crate::parallel::{Input, for_each};
use crate::source::{ReadOptions, Record, SourcePosition, TextSource};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The column of a removed document that says why.
const REMOVED: &str = "removed";
/// Samples of each stage in a part's marker, and the characters of each.
const SAMPLES: usize = 2;
const SAMPLE_CHARACTERS: usize = 300;

/// What every unit of a pass needs.
pub(super) struct Pass<'a> {
    pub(super) options: &'a ReadOptions,
    pub(super) stages: &'a [Box<dyn DocumentStage>],
    /// The name of the stage that found duplicates, and their file.
    pub(super) duplicates: Option<(&'a str, PathBuf)>,
    pub(super) folder: &'a Path,
    /// Where removed documents go, if anywhere.
    pub(super) removed: Option<PathBuf>,
    pub(super) part_bytes: u64,
    pub(super) threads: usize,
}

/// Consecutive sources.
pub(super) struct Unit<'a> {
    /// Its number: that of its parts' names.
    pub(super) number: usize,
    pub(super) sources: &'a [TextSource],
    /// Documents of the pass before it.
    pub(super) first_document: u64,
}

enum Worked {
    Kept { line: String, bytes: u64 },
    Removed { stage: usize, document: Box<CorpusDocument>, reason: String },
    Bad(String),
}

impl Pass<'_> {
    /// Writes the parts of a unit that are missing; calls `watch` with the bytes of each record.
    pub(super) fn run(&self, unit: &Unit<'_>, watch: &mut dyn FnMut(u64)) -> Result<()> {
        let mut name = PartName { source: unit.number, number: 0 };
        let mut from = SourcePosition::default();
        while let Some(marker) = name.marker(self.folder)? {
            if marker.last {
                return Ok(());
            }
            (from, name.number) = (marker.next, name.number + 1);
        }
        let mut duplicates = self.duplicates.as_ref().map(|(_, path)| Duplicates::open(path)).transpose()?;
        let mut open = OpenPart::create(self, name)?;
        let mut end = from;
        for_each(
            Input { sources: unit.sources, options: self.options, from },
            self.threads,
            |document, record| self.work(document, record, unit),
            |worked, record, bytes| {
                watch(bytes as u64);
                let number = unit.first_document + record.at.index;
                let copy_of = match &mut duplicates {
                    Some(duplicates) => duplicates.copy_of(number)?,
                    None => None,
                };
                if open.is_full(self.part_bytes) {
                    name.number += 1;
                    let next = OpenPart::create(self, name)?;
                    std::mem::replace(&mut open, next).finish(self, record.at, false)?;
                }
                open.push(self, worked, copy_of)?;
                let SourcePosition { source, record, index } = record.at;
                end = SourcePosition { source, record: record + 1, index: index + 1 };
                Ok(true)
            },
        )?;
        open.finish(self, end, true)
    }

    fn work(
        &self,
        document: std::result::Result<CorpusDocument, String>,
        record: &Record,
        unit: &Unit<'_>,
    ) -> Worked {
        let mut document = match document {
            Ok(document) => document,
            Err(why) => return Worked::Bad(why),
        };
        // Whoever looks at a removed document wants to know where it stood.
        if !document.fields.contains_key("origin") {
            document.fields.insert("origin".into(), record.place(unit.sources).into());
        }
        for (stage, decide) in self.stages.iter().enumerate() {
            if let Verdict::Remove(reason) = decide.apply(&mut document) {
                return Worked::Removed { stage, document: Box::new(document), reason };
            }
        }
        Worked::Kept { line: document.to_json(&self.options.field), bytes: document.text.len() as u64 }
    }

    fn counts(&self) -> Vec<StageCount> {
        let before = self.duplicates.iter().map(|(name, _)| (*name).to_owned());
        let names = before.chain(self.stages.iter().map(|stage| stage.name().to_owned()));
        names.map(|name| StageCount { name, ..StageCount::default() }).collect()
    }
}

/// A part that is being written.
struct OpenPart {
    name: PartName,
    kept: LinesWriter,
    removed: Option<LinesWriter>,
    marker: PartMarker,
}

impl OpenPart {
    fn create(pass: &Pass<'_>, name: PartName) -> Result<OpenPart> {
        let removed =
            pass.removed.as_ref().map(|folder| LinesWriter::create(&name.file(folder))).transpose()?;
        let marker = PartMarker {
            next: SourcePosition::default(),
            last: false,
            documents: 0,
            bytes: 0,
            bad: 0,
            first_bad: None,
            stages: pass.counts(),
            samples: Vec::new(),
        };
        Ok(OpenPart { name, kept: LinesWriter::create(&name.file(pass.folder))?, removed, marker })
    }

    fn is_full(&self, part_bytes: u64) -> bool {
        self.marker.bytes >= part_bytes
    }

    fn push(&mut self, pass: &Pass<'_>, worked: Worked, copy_of: Option<String>) -> Result<()> {
        let shift = usize::from(pass.duplicates.is_some());
        let (stage, mut document, reason) = match (worked, copy_of) {
            (Worked::Bad(why), _) => {
                self.marker.bad += 1;
                self.marker.first_bad.get_or_insert(why);
                return Ok(());
            }
            (Worked::Kept { line, .. }, Some(kept)) => {
                let document = CorpusDocument::parse(
                    pass.options,
                    crate::source::SourceKind::JsonLines,
                    line.as_bytes(),
                );
                (0, document.map_err(CurateError::Invalid)?, format!("copy of {kept}"))
            }
            (Worked::Removed { document, .. }, Some(kept)) => (0, *document, format!("copy of {kept}")),
            (Worked::Kept { line, bytes }, None) => {
                self.marker.documents += 1;
                self.marker.bytes += bytes;
                self.marker.stages.iter_mut().for_each(|stage| stage.documents += 1);
                return self.kept.push(&line);
            }
            (Worked::Removed { stage, document, reason }, None) => (stage + shift, *document, reason),
        };
        self.marker.stages[..=stage].iter_mut().for_each(|stage| stage.documents += 1);
        let count = &mut self.marker.stages[stage];
        count.removed += 1;
        count.removed_bytes += document.text.len() as u64;
        let name = count.name.clone();
        if self.marker.samples.iter().filter(|sample| sample.stage == name).count() < SAMPLES {
            let text = document.text.chars().take(SAMPLE_CHARACTERS).collect();
            self.marker.samples.push(RemovedSample { stage: name.clone(), reason: reason.clone(), text });
        }
        if let Some(removed) = &mut self.removed {
            document.fields.insert(REMOVED.into(), format!("{name}: {reason}").into());
            removed.push(&document.to_json(&pass.options.field))?;
        }
        Ok(())
    }

    /// The marker comes last: it says that the files are whole.
    fn finish(mut self, pass: &Pass<'_>, next: SourcePosition, last: bool) -> Result<()> {
        self.kept.finish()?;
        self.removed.map_or(Ok(()), LinesWriter::finish)?;
        (self.marker.next, self.marker.last) = (next, last);
        self.name.write_marker(pass.folder, &self.marker)
    }
}

/// The duplicates of a pass, ascending.
struct Duplicates {
    lines: std::io::Lines<BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>>,
    next: Option<(u64, String)>,
    path: PathBuf,
}

impl Duplicates {
    fn open(path: &Path) -> Result<Duplicates> {
        let failed = |error| CurateError::file(path, "read")(error);
        let file = File::open(path).map_err(failed)?;
        let lines = BufReader::new(zstd::stream::read::Decoder::new(file).map_err(failed)?).lines();
        let mut duplicates = Duplicates { lines, next: None, path: path.to_owned() };
        duplicates.advance()?;
        Ok(duplicates)
    }

    /// The id of which a document is a copy; asked in ascending order.
    fn copy_of(&mut self, number: u64) -> Result<Option<String>> {
        while self.next.as_ref().is_some_and(|(next, _)| *next < number) {
            self.advance()?;
        }
        Ok(self.next.as_ref().filter(|(next, _)| *next == number).map(|(_, kept)| kept.clone()))
    }

    fn advance(&mut self) -> Result<()> {
        let line = self.lines.next().transpose().map_err(CurateError::file(&self.path, "read"))?;
        let wrong =
            || CurateError::Invalid(format!("{}: damaged; delete it, and run again", self.path.display()));
        let parse = |line: String| {
            let (number, kept) = line.split_once(' ').ok_or_else(wrong)?;
            Ok((number.parse().map_err(|_| wrong())?, kept.to_owned()))
        };
        self.next = line.map(parse).transpose()?;
        Ok(())
    }
}
