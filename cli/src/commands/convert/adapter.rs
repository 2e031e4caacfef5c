//! `thimble convert` of adapters: to `.adapter` files, or merged into the weights of a model.

use crate::adapters::WeightedPath;
use crate::conversion;
use crate::failure::Failure;
use crate::flags::recipe::QuantizationRecipe;
use crate::model::Location;
use crate::terminal;
use clap::Args;
use std::path::{Path, PathBuf};
use thimble_converter::{Quant, adapter, read};
use thimble_files::OutputFiles;

/// `--base` and `--merge`.
#[derive(Args, Debug)]
pub(super) struct AdapterFlags {
    /// For an adapter: the model that it was trained on, so that others are refused later [default: what the adapter names,
    /// if it is on this machine]
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    /// For a model: merge an adapter (an .adapter file or a folder of the PEFT library) into the weights before they are
    /// encoded; WEIGHT scales what it changes [default: 1]. Several can be given
    #[arg(long, value_name = "ADAPTER[:WEIGHT]")]
    merge: Vec<WeightedPath>,
    /// Merge adapters that were trained on another model of the same shape
    #[arg(long, requires = "merge")]
    any_base: bool,
}

/// What to write of an adapter.
pub(super) struct AdapterTarget {
    base: Option<Location>,
    quant: Quant,
}

impl AdapterFlags {
    /// Registers the files of the flags.
    pub(super) fn register(&self, files: &mut OutputFiles) {
        self.merge.iter().for_each(|merged| files.reads("--merge", &merged.path));
    }

    /// What the flags mean for an adapter; refuses those that are for models.
    pub(super) fn target(self, recipe: &QuantizationRecipe, other: bool) -> Result<AdapterTarget, Failure> {
        let quant = recipe.quant;
        if other || !self.merge.is_empty() || *recipe != quant.into() {
            let reason =
                "SOURCE is an adapter, which takes only -o, --base and --quant keep, f32, f16 or bf16";
            return Err(Failure::Usage(reason.to_string()));
        }
        let base = self.base.as_deref().map(Location::source).transpose()?;
        Ok(AdapterTarget { base, quant })
    }

    /// Adds what the flags mean for a model to its recipe; refuses those that are for adapters.
    pub(super) fn merge_into(self, recipe: &mut QuantizationRecipe) -> Result<(), Failure> {
        if self.base.is_some() {
            let reason = "--base is for adapters: SOURCE is a model";
            return Err(Failure::Usage(reason.to_string()));
        }
        recipe.merge = self.merge.into_iter().map(|WeightedPath { path, weight }| (path, weight)).collect();
        recipe.any_base = self.any_base;
        Ok(())
    }
}

impl AdapterTarget {
    /// Writes the adapter in `source` to `target`, atomically, and a summary to stderr.
    pub(super) fn write(self, source: &Path, target: &Path) -> Result<(), Failure> {
        let target = &conversion::resolve_target(target, source)?;
        let fail = |error| conversion::failure(source, error);
        let mut adapter = adapter::open(source).map_err(fail)?;
        let base = match self.base {
            Some(base) => Some(base.fetch_source()?),
            None if adapter.fingerprint.is_none() => adapter.base.as_deref().and_then(on_this_machine),
            None => None,
        };
        if let Some(base) = &base {
            let model = read::open(base).map_err(|error| conversion::failure(base, error))?;
            adapter = adapter.with_base(&model).map_err(fail)?;
        }
        let summary = adapter.write(target, self.quant).map_err(fail)?;
        terminal::note(&format!(
            "wrote {} ({:.1} MB, {} matrices of rank {} at most)",
            target.display(),
            summary.bytes as f64 / 1e6,
            summary.matrices,
            summary.rank
        ));
        if !summary.has_fingerprint {
            terminal::note(
                "note: the base model is not known, so another model of the same shape would not be refused; --base MODEL tells it",
            );
        }
        Ok(())
    }
}

/// The model that an adapter names, if it is on this machine.
fn on_this_machine(named: &str) -> Option<PathBuf> {
    let path = PathBuf::from(named);
    if path.exists() {
        return read::open(&path).is_ok().then_some(path);
    }
    Location::resolve(Some(named)).ok()?.local().ok()
}
