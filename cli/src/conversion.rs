//! The converter behind a progress bar.

use crate::failure::Failure;
use crate::recipe::QuantizationRecipe;
use crate::{progress, target, terminal};
use indicatif::ProgressBar;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use thimble_converter::write_gguf::GgufType;
use thimble_converter::{
    ConversionOptions, ConversionProgress, ConversionStage, ConversionSummary, ConvertError,
};
use thimble_runtime::format::Encoding;

pub(crate) use thimble_converter::Quant;

/// How to convert.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// How to store the weights.
    pub(crate) recipe: QuantizationRecipe,
    /// Where the source was fetched from, for the file's provenance; otherwise its name.
    pub(crate) origin: Option<String>,
}

/// Writes the model in `source` to `target`, atomically; says on stderr what became of it.
pub(crate) fn convert(source: &Path, target: &Path, request: &Request) -> Result<ConversionSummary, Failure> {
    let target = &place(target, source)?;
    let summary = quietly(source, target, request)?;
    tell(target, [summary.bytes, summary.config.parameters()], &summary.notes);
    if let Some(hint) = hint(source, request, &summary) {
        terminal::note(&hint);
    }
    if request.recipe.calibration.is_some() && summary.rounding == 0.0 {
        terminal::note("note: nothing was rounded, so --calibrate changed nothing");
    }
    if let Some((table, divergence)) = &summary.chosen {
        terminal::note(&format!("expected divergence from the source: {divergence:.4} nats per token, with"));
        for rule in &table.rules {
            terminal::note(&format!("  {:<24} {}", rule.pattern, rule.encoding));
        }
    }
    Ok(summary)
}

/// How the weights of a folder were stored for want of a choice, and what four bits would make of them.
fn hint(source: &Path, request: &Request, summary: &ConversionSummary) -> Option<String> {
    if request.recipe != QuantizationRecipe::default() || !source.is_dir() {
        return None;
    }
    let model = thimble_converter::read::open(source).ok()?;
    let bytes = |quant| model.weight_bytes(quant).ok();
    let smaller = (summary.bytes + bytes(Quant::Q4)?).checked_sub(bytes(Quant::Keep)?)?;
    let matrices = summary.tensors.iter().filter(|tensor| tensor.encoding != Encoding::Vector);
    let names: BTreeSet<&str> = matrices.map(|tensor| tensor.encoding.name()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(" and ");
    let (now, then) = (megabytes(summary.bytes), megabytes(smaller));
    Some(format!("stored as {names} ({now} MB); --quant q4 makes about {then} MB"))
}

/// Millions of bytes in as many digits as help.
fn megabytes(bytes: u64) -> String {
    let digits = if bytes < 100_000_000 { 1 } else { 0 };
    format!("{:.digits$}", bytes as f64 / 1e6)
}

/// Writes the model in `source` to the GGUF file `target`, atomically; says on stderr what became of it.
pub(crate) fn write_gguf(source: &Path, target: &Path, kind: GgufType) -> Result<(), Failure> {
    let target = &place(target, source)?;
    let bar = progress::bytes("converting", 0);
    let written = thimble_converter::read::open(source).and_then(|model| {
        thimble_converter::write_gguf::write_gguf(&model, target, kind, &mut |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        })
    });
    bar.finish_and_clear();
    let summary = written.map_err(|error| failed(source, error))?;
    tell(target, [summary.bytes, summary.parameters], &summary.notes);
    for (name, (tensors, bytes)) in &summary.types {
        terminal::note(&format!("  {name:<5} {tensors:>4} tensors {bytes:>12} bytes"));
    }
    if summary.rounding > 0.0 {
        terminal::note(&format!("rounding changed weights by {:.3}%", 100.0 * summary.rounding));
    }
    Ok(())
}

/// Where `target` really goes, unless that would replace the source.
pub(crate) fn place(target: &Path, source: &Path) -> Result<PathBuf, Failure> {
    let target = thimble_files::resolve(target)?;
    if target::replaces(&target, source) {
        let what = target.display();
        let reason = format!("{what} belongs to the source and would be replaced: write to another file");
        return Err(Failure::Usage(reason));
    }
    Ok(target)
}

/// What was written, and what deserves to be said about it.
pub(crate) fn tell(target: &Path, [bytes, parameters]: [u64; 2], notes: &[String]) {
    let bits = bytes as f64 * 8.0 / parameters as f64;
    let megabytes = bytes as f64 / 1e6;
    terminal::note(&format!("wrote {} ({megabytes:.1} MB, {bits:.2} bits per weight)", target.display()));
    for note in notes {
        terminal::note(&format!("note: {note}"));
    }
}

/// The converter's error as a sentence about the source.
pub(crate) fn failed(source: &Path, error: ConvertError) -> Failure {
    Failure::Convert {
        path: source.to_path_buf(),
        reason: error.to_string(),
        writing: matches!(error, ConvertError::Write { .. } | ConvertError::DiskFull { .. }),
    }
}

/// Writes the model in `source` to `target`, atomically, and says nothing.
pub(crate) fn quietly(source: &Path, target: &Path, request: &Request) -> Result<ConversionSummary, Failure> {
    let QuantizationRecipe { quant, table, target: size, sensitivities, calibration } =
        request.recipe.clone();
    let source_name = request.origin.clone();
    let options = ConversionOptions {
        quant,
        table,
        target: size,
        sensitivities,
        calibration,
        source: source_name,
        ..ConversionOptions::default()
    };
    let mut shown: Option<(ConversionStage, ProgressBar)> = None;
    let summary = thimble_converter::convert(
        source,
        target,
        &options,
        &mut |ConversionProgress { stage, done, total, .. }| {
            if shown.as_ref().is_none_or(|(old, _)| *old != stage) {
                if let Some((_, bar)) = shown.take() {
                    bar.finish_and_clear();
                }
                shown = Some((stage, bar(stage)));
            }
            if let Some((_, bar)) = &shown {
                bar.set_length(total);
                bar.set_position(done);
            }
        },
    );
    if let Some((_, bar)) = shown {
        bar.finish_and_clear();
    }
    summary.map_err(|error| failed(source, error))
}

/// The bar of a stage.
fn bar(stage: ConversionStage) -> ProgressBar {
    match stage {
        ConversionStage::Measuring => progress::steps("measuring tensors", 0),
        ConversionStage::Calibrating => progress::steps("calibrating layers", 0),
        ConversionStage::Writing => progress::bytes("converting", 0),
    }
}
