//! The loader: packing, seeded shuffling, and a mixture per stage.
//!
//! Each set is an endless stream. Every epoch shuffles its documents by seed, name and epoch, concatenates them, and
//! reads them in lanes that start at different offsets. Windows are cut from a lane; each starts with the last target
//! of the one before, so every token but a lane's very first is a target once per epoch, whatever the contexts. A hash
//! of seed, stage and the window's number selects its set. So the order of the data depends on the recipe and the step
//! alone, and a [`LoaderPosition`] of a few numbers is the whole state.

mod order;
mod position;
mod stream;
#[cfg(test)]
mod tests;
mod validation;

pub(in crate::data) use order::{hash, shuffle};
pub use position::{LanePosition, LoaderPosition, SetPosition};
pub use validation::ValidationSet;

use super::TrainingBatch;
use super::token_set::TokenSet;
use crate::error::{Error, Result};
use crate::recipe::{Stage, TrainingRecipe};
use std::collections::BTreeMap;
use std::path::Path;
use stream::{TokenStream, WindowOrigin};

/// Draws batches of windows from the token sets of a recipe.
pub struct Loader {
    seed: u64,
    vocab: usize,
    stages: Vec<Stage>,
    validation: Option<(String, std::path::PathBuf)>,
    /// In the order of their names.
    streams: Vec<TokenStream>,
    stage: usize,
    samples: u64,
    /// Stream and origin of each row of the last batch.
    last: Vec<(usize, WindowOrigin)>,
}

impl Loader {
    /// Opens every set that a stage draws from.
    ///
    /// Errors: a set that is missing, damaged or empty, tokenizers that differ, a vocabulary beyond the model's, a
    /// stage shorter than one step or than its warm-up.
    pub fn open(recipe: &TrainingRecipe) -> Result<Loader> {
        let mut streams: Vec<TokenStream> = Vec::new();
        for (name, path) in &recipe.data.sets {
            if !recipe.stages.iter().any(|stage| stage.share(name) > 0.0) {
                continue;
            }
            let set = open_set(name, path, recipe.model.vocab)?;
            if let Some(first) = streams.first() {
                same_tokenizer((&first.name, &first.set), (name, &set))?;
            }
            streams.push(TokenStream::new(name, set, recipe.seed));
        }
        let loader = Loader {
            seed: recipe.seed,
            vocab: recipe.model.vocab,
            stages: recipe.stages.clone(),
            validation: recipe.validation.as_ref().and_then(|validation| {
                let set = validation.set.as_ref()?;
                Some((set.clone(), recipe.data.sets.get(set)?.clone()))
            }),
            streams,
            stage: 0,
            samples: 0,
            last: Vec::new(),
        };
        for (index, stage) in loader.stages.iter().enumerate() {
            stage.check_steps(index, loader.steps(index), loader.epoch_tokens(index))?;
        }
        Ok(loader)
    }

    /// Tokens of all sets of a stage's mixture together: one epoch of it.
    pub fn epoch_tokens(&self, stage: usize) -> u64 {
        let stage = &self.stages[stage];
        let drawn = self.streams.iter().filter(|stream| stage.share(&stream.name) > 0.0);
        drawn.map(|stream| stream.set.tokens()).sum()
    }

    /// Optimizer steps of a stage.
    pub fn steps(&self, stage: usize) -> u64 {
        self.stages[stage].steps(Some(self.epoch_tokens(stage))).unwrap_or(0)
    }

    /// Hash of the tokenizer that all sets were made with.
    pub fn tokenizer_hash(&self) -> &str {
        self.streams.first().map_or("", |stream| stream.set.tokenizer_hash())
    }

    /// The folder of a set, which holds the tokenizer.
    pub fn tokenizer_folder(&self) -> Option<&Path> {
        self.streams.first().map(|stream| stream.set.folder())
    }

    /// The id that ends every document.
    pub fn end_of_document(&self) -> u32 {
        self.streams.first().map_or(0, |stream| stream.set.manifest().end_of_document)
    }

    /// Opens the held-out set; none where the recipe has none.
    ///
    /// Errors as [`Loader::open`], and where the set is too short for one window of a stage.
    pub fn validation(&self) -> Result<Option<ValidationSet>> {
        let Some((name, path)) = &self.validation else { return Ok(None) };
        let set = open_set(name, path, self.vocab)?;
        if let Some(first) = self.streams.first() {
            same_tokenizer((&first.name, &first.set), (name, &set))?;
        }
        let validation = ValidationSet::new(name, set, self.vocab);
        for stage in &self.stages {
            validation.windows(stage.context, None)?;
        }
        Ok(Some(validation))
    }

    /// Fills `batch` with the next `sequences` windows of `context` inputs for `stage`; another stage than before
    /// begins at its first sample and keeps the position in each set.
    ///
    /// Errors where a shard cannot be read, or an id is beyond the model's vocabulary, with its place. The position is
    /// then within the batch: [`Loader::seek`] goes back.
    pub fn next(
        &mut self,
        stage: usize,
        sequences: usize,
        context: usize,
        batch: &mut TrainingBatch,
    ) -> Result<()> {
        if stage >= self.stages.len() {
            return Err(Error::Invalid(format!("stage {stage} of {} was asked for", self.stages.len())));
        }
        if sequences == 0 || context == 0 {
            return Err(Error::Invalid(format!(
                "a batch of {sequences} windows of {context} tokens is empty"
            )));
        }
        if stage != self.stage {
            self.enter(stage);
        }
        batch.resize(sequences, context);
        self.last.clear();
        let rows =
            batch.ids.chunks_exact_mut(context + 1).zip(batch.document_start.chunks_exact_mut(context));
        for (ids, document_start) in rows {
            let index = self.draw(stage, self.samples);
            let span = self.streams[index].next(ids, document_start)?;
            self.samples += 1;
            self.last.push((index, span));
            if let Some(at) = ids.iter().position(|id| *id as usize >= self.vocab) {
                return Err(Error::Invalid(format!(
                    "id {} at position {at} of a window is beyond the model's vocabulary of {}; the token set is \
                     damaged: {}",
                    ids[at],
                    self.vocab,
                    self.row(self.last.len() - 1)
                )));
            }
        }
        Ok(())
    }

    /// The position after the last batch.
    pub fn position(&self) -> LoaderPosition {
        let sets = self.streams.iter().map(|stream| (stream.name.clone(), stream.position.clone())).collect();
        LoaderPosition { stage: self.stage, samples: self.samples, sets }
    }

    /// Moves to a position that [`Loader::position`] gave; the same batches follow, bit for bit.
    ///
    /// A set that the position does not contain starts at its beginning. Errors where the position is of other sets or
    /// stages; the loader then stays where it was.
    pub fn seek(&mut self, position: &LoaderPosition) -> Result<()> {
        let wrong =
            |what: String| Err(Error::Invalid(format!("the saved data position does not fit: {what}")));
        if position.stage >= self.stages.len() {
            return wrong(format!("stage {} of {}", position.stage, self.stages.len()));
        }
        for name in position.sets.keys() {
            if !self.streams.iter().any(|stream| stream.name == *name) {
                return wrong(format!("set `{name}` is no longer in a stage's mixture"));
            }
        }
        for stream in &self.streams {
            let (name, tokens) = (&stream.name, stream.set.tokens());
            // A set that a later recipe adds starts at its beginning.
            let Some(saved) = position.sets.get(name) else { continue };
            if saved.set_tokens != tokens {
                return wrong(format!(
                    "set `{name}` had {} tokens, but {} has {tokens}; restore the original set",
                    saved.set_tokens,
                    stream.set.folder().display()
                ));
            }
            if saved.set_hash != stream.position.set_hash {
                return wrong(format!(
                    "set `{name}` had other content than {} has now; restore the original set",
                    stream.set.folder().display()
                ));
            }
            if !stream.has(saved) {
                return wrong(format!("the place in set `{name}` is not one of its {tokens} tokens"));
            }
        }
        (self.stage, self.samples) = (position.stage, position.samples);
        for stream in &mut self.streams {
            let saved = position.sets.get(&stream.name).cloned();
            stream.position = saved.unwrap_or_else(|| stream::unread(&stream.set));
        }
        self.last.clear();
        Ok(())
    }

    /// Each set's share of the tokens of this stage so far, by name; empty before the stage's first batch.
    pub fn drawn_shares(&self) -> BTreeMap<String, f64> {
        let total: u64 = self.streams.iter().map(|stream| stream.position.stage_tokens).sum();
        let drawn = self.streams.iter().filter(|_| total > 0);
        drawn.map(|s| (s.name.clone(), s.position.stage_tokens as f64 / total as f64)).collect()
    }

    /// Sample, set, shard, documents and tokens of each row of the last batch, one line each; empty before the first.
    pub fn last_rows(&self) -> Vec<String> {
        let rows = self.last.len();
        let first = self.samples - rows as u64;
        (0..rows).map(|row| format!("sample {}: {}", first + row as u64, self.row(row))).collect()
    }

    fn row(&self, row: usize) -> String {
        let (index, span) = self.last[row];
        let stream = &self.streams[index];
        let place = |(document, token): (usize, usize)| {
            let (shard, within) = stream.set.locate(document);
            format!("{shard} document {within} token {token}")
        };
        format!(
            "set `{}`, epoch {} at token {}, {} document{}: {} to {}",
            stream.name,
            span.epoch,
            span.offset,
            span.documents,
            if span.documents == 1 { "" } else { "s" },
            place(span.first),
            place(span.last)
        )
    }

    fn enter(&mut self, stage: usize) {
        (self.stage, self.samples) = (stage, 0);
        self.streams.iter_mut().for_each(|stream| stream.position.stage_tokens = 0);
    }

    /// The stream of a stage's sample: a function of seed, stage and sample alone.
    fn draw(&self, stage: usize, sample: u64) -> usize {
        let at = crate::random::unit(order::hash(&[self.seed, stage as u64, sample]));
        let mut sum = 0.0;
        let mut chosen = 0;
        for (index, stream) in self.streams.iter().enumerate() {
            let share = self.stages[stage].share(&stream.name);
            if share > 0.0 {
                (sum, chosen) = (sum + share, index);
                if at < sum {
                    break;
                }
            }
        }
        chosen
    }
}

fn open_set(name: &str, path: &Path, vocab: usize) -> Result<TokenSet> {
    let set = TokenSet::open(path).map_err(|error| Error::Invalid(format!("data.sets.{name}: {error}")))?;
    let there = |what: String| Error::Invalid(format!("data.sets.{name}: {}: {what}", path.display()));
    if set.tokens() == 0 {
        return Err(there("the token set is empty; tokenize some text into it".into()));
    }
    if u32::try_from(set.documents()).is_err() {
        let what = format!("{} documents are more than 2^32, the most one set is read with", set.documents());
        return Err(there(what));
    }
    let ids = set.manifest().vocab as usize;
    if ids > vocab {
        return Err(there(format!(
            "its tokenizer has {ids} ids, the model {vocab} (model.vocab); use the tokenizer that the model is for, or \
             raise model.vocab"
        )));
    }
    Ok(set)
}

fn same_tokenizer(one: (&str, &TokenSet), other: (&str, &TokenSet)) -> Result<()> {
    let describe = |(name, set): (&str, &TokenSet)| {
        format!("`{name}` ({}) was made with tokenizer {}", set.folder().display(), set.tokenizer_hash())
    };
    let same_end = one.1.manifest().end_of_document == other.1.manifest().end_of_document;
    if one.1.tokenizer_hash() == other.1.tokenizer_hash() && same_end {
        return Ok(());
    }
    let what = if same_end { "tokenizer" } else { "end-of-document id" };
    Err(Error::Invalid(format!(
        "the token sets differ in their {what}: {}, {}; tokenize one of them again",
        describe(one),
        describe(other)
    )))
}
