//! The recipe of a curation.

use super::filters::{ApplyRules, Classify, ClassifyChoice};
use super::stage::{Decontaminate, DocumentStage, Length};
use crate::decontaminate::BenchmarkIndex;
use crate::dedup::{DedupMethod, MinHash, MinHashSettings};
use crate::error::{CurateError, Result};
use crate::source::ReadOptions;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Bytes of text in a part unless told otherwise.
const PART_BYTES: u64 = 64 << 20;

/// What to read, what to do with it, and where to write it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CorpusRecipe {
    /// Files, folders and data sets of the hub.
    pub input: Vec<String>,
    /// The folder of the result.
    pub output: PathBuf,
    /// The field or column with the text.
    #[serde(default = "text")]
    pub field: String,
    /// Whether each line of a `.txt` file is a document.
    #[serde(default)]
    pub lines: bool,
    /// A part is closed after the document that brings it to so many bytes of text.
    #[serde(default = "part_bytes")]
    pub part_bytes: u64,
    /// Whether removed documents are written too, with the reason.
    #[serde(default)]
    pub keep_removed: bool,
    /// What is done, in order.
    #[serde(rename = "stage", default)]
    pub stages: Vec<StageRecipe>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
pub enum StageRecipe {
    /// Removes all but one of the documents that are equal after normalization.
    Exact {},
    /// Removes all but one of the documents of each cluster.
    #[serde(rename = "minhash")]
    MinHash {
        /// `fineweb` or `finemath`.
        #[serde(default = "fineweb")]
        preset: String,
        /// Words of a shingle.
        ngram: Option<usize>,
        /// Buckets.
        buckets: Option<usize>,
        /// Hashes of a bucket.
        rows: Option<usize>,
    },
    /// Removes documents that hold text of benchmarks.
    Decontaminate {
        /// Files and folders of items.
        benchmarks: Vec<String>,
        /// Words of an n-gram.
        #[serde(default = "ten")]
        ngram: usize,
        /// Share of a string that a document may hold.
        #[serde(default = "half")]
        threshold: f64,
    },
    /// Keeps documents by a fastText classifier: a preset, or a label and its least probability.
    Classify {
        /// The model.
        model: PathBuf,
        /// `language` (more than 0.65) or `dclm` (at least 0.018112).
        preset: Option<String>,
        /// The language to keep.
        #[serde(default = "english")]
        language: String,
        /// The label to keep.
        label: Option<String>,
        /// Its least probability.
        threshold: Option<f32>,
    },
    /// Removes documents by the rules of papers, each of which is a stage of the report.
    Rules {
        /// Names of [`crate::rules::Rules::NAMES`].
        #[serde(default)]
        rules: Vec<String>,
        /// A file of blocked words.
        #[serde(rename = "blocked-words")]
        blocked_words: Option<PathBuf>,
    },
    /// Removes documents with fewer or more bytes of text.
    Length {
        /// Fewest bytes.
        #[serde(default)]
        least: usize,
        /// Most bytes.
        #[serde(default = "most")]
        most: usize,
    },
}

fn text() -> String {
    "text".into()
}
fn part_bytes() -> u64 {
    PART_BYTES
}
fn fineweb() -> String {
    "fineweb".into()
}
fn english() -> String {
    "en".into()
}
fn ten() -> usize {
    10
}
fn half() -> f64 {
    0.5
}
fn most() -> usize {
    usize::MAX
}

/// A pass over the documents, and the stage behind it that looks at all of them.
pub(super) struct PassPlan {
    pub(super) stages: Vec<Box<dyn DocumentStage>>,
    pub(super) dedup: Option<(String, DedupMethod)>,
}

impl CorpusRecipe {
    /// Reads a recipe. Paths in it are relative to the recipe's folder.
    ///
    /// # Errors
    /// A file that cannot be read, keys that are unknown or missing.
    pub fn read(path: &Path) -> Result<CorpusRecipe> {
        let text = std::fs::read_to_string(path).map_err(CurateError::file(path, "read"))?;
        let mut recipe: CorpusRecipe = toml::from_str(&text)
            .map_err(|error| CurateError::Usage(format!("{}: {error}", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let place = |name: &mut String| {
            if !name.contains("://") {
                *name = folder.join(&*name).to_string_lossy().into_owned();
            }
        };
        recipe.input.iter_mut().for_each(place);
        for stage in &mut recipe.stages {
            match stage {
                StageRecipe::Decontaminate { benchmarks, .. } => benchmarks.iter_mut().for_each(place),
                StageRecipe::Classify { model, .. } => *model = folder.join(&*model),
                StageRecipe::Rules { blocked_words: Some(path), .. } => *path = folder.join(&*path),
                _ => {}
            }
        }
        recipe.output = folder.join(&recipe.output);
        Ok(recipe)
    }

    /// How documents are extracted.
    pub fn read_options(&self) -> ReadOptions {
        ReadOptions {
            field: self.field.clone(),
            lines: self.lines,
            whole_rows: true,
            ..ReadOptions::default()
        }
    }

    /// How often every document is read: by each pass, and by each stage that looks at all documents.
    pub fn readings(&self) -> usize {
        let all = |stage: &&StageRecipe| matches!(stage, StageRecipe::Exact {} | StageRecipe::MinHash { .. });
        1 + 2 * self.stages.iter().filter(all).count()
    }

    /// Opens every stage, and groups them into passes.
    pub(super) fn passes(&self) -> Result<Vec<PassPlan>> {
        let mut passes = vec![PassPlan { stages: Vec::new(), dedup: None }];
        for (number, stage) in self.stages.iter().enumerate() {
            let fault = |error| CurateError::Usage(format!("stage {}: {error}", number + 1));
            let last = passes.len() - 1;
            match stage.open().map_err(fault)? {
                Opened::Each(stages) => passes[last].stages.extend(stages),
                Opened::All(name, method) => {
                    passes[last].dedup = Some((name, method));
                    passes.push(PassPlan { stages: Vec::new(), dedup: None });
                }
            }
        }
        Ok(passes)
    }
}

enum Opened {
    Each(Vec<Box<dyn DocumentStage>>),
    All(String, DedupMethod),
}

fn one(stage: impl DocumentStage + 'static) -> Opened {
    Opened::Each(vec![Box::new(stage)])
}

impl StageRecipe {
    fn open(&self) -> Result<Opened> {
        Ok(match self {
            StageRecipe::Exact {} => Opened::All("exact".into(), DedupMethod::Exact),
            StageRecipe::MinHash { preset, ngram, buckets, rows } => {
                let sizes = match preset.as_str() {
                    "fineweb" => MinHashSettings::FINEWEB,
                    "finemath" => MinHashSettings::FINEMATH,
                    other => {
                        let what = format!("preset: expected \"fineweb\" or \"finemath\", found {other:?}");
                        return Err(CurateError::Usage(what));
                    }
                };
                let settings = MinHashSettings {
                    ngram: ngram.unwrap_or(sizes.ngram),
                    buckets: buckets.unwrap_or(sizes.buckets),
                    rows: rows.unwrap_or(sizes.rows),
                };
                Opened::All("minhash".into(), DedupMethod::MinHash(MinHash::new(settings)?))
            }
            StageRecipe::Decontaminate { benchmarks, ngram, threshold } => {
                if !(0.0..=1.0).contains(threshold) {
                    let what = format!("threshold: expected a share from 0 to 1, found {threshold}");
                    return Err(CurateError::Usage(what));
                }
                let index = BenchmarkIndex::read(benchmarks, *ngram)?;
                one(Decontaminate { index, threshold: *threshold })
            }
            StageRecipe::Classify { model, preset, language, label, threshold } => {
                let choice = ClassifyChoice {
                    preset: preset.as_deref(),
                    language,
                    label: label.as_deref(),
                    threshold: *threshold,
                };
                one(Classify::open(model, &choice)?)
            }
            StageRecipe::Rules { rules, blocked_words } => {
                let all = ApplyRules::open(rules, blocked_words.as_deref())?;
                Opened::Each(all.into_iter().map(|rules| Box::new(rules) as Box<dyn DocumentStage>).collect())
            }
            &StageRecipe::Length { least, most } => one(Length { least, most }),
        })
    }
}
