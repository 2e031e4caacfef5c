//! The converter with progress bars and notes on stderr.

use crate::failure::Failure;
use crate::flags::recipe::QuantizationRecipe;
use crate::{progress, target, terminal};
use indicatif::ProgressBar;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use thimble_converter::write_gguf::GgufType;
use thimble_converter::{
    ConversionOptions, ConversionProgress, ConversionStage, ConversionSummary, ConvertError, Quant,
};
use thimble_runtime::format::Encoding;

/// Writes the model in `source` to `target`, atomically, and a summary to stderr. `origin` is where the source was fetched
/// from, for the file's provenance; by default its name.
pub(crate) fn convert(
    source: &Path,
    target: &Path,
    recipe: &QuantizationRecipe,
    origin: Option<String>,
) -> Result<ConversionSummary, Failure> {
    let target = &resolve_target(target, source)?;
    let summary = run(source, target, recipe, origin)?;
    report_written(target, [summary.bytes, summary.config.parameters()], &summary.notes);
    if let Some(hint) = hint(source, recipe, &summary) {
        terminal::note(&hint);
    }
    if recipe.calibration.is_some() && summary.rounding == 0.0 {
        terminal::note("note: nothing was rounded, so --calibrate changed nothing");
    }
    if let Some((table, divergence)) = &summary.chosen {
        terminal::note(&format!(
            "expected divergence from the source: {divergence:.4} nats per token, with these encodings:"
        ));
        for rule in &table.rules {
            terminal::note(&format!("  {:<24} {}", rule.pattern, rule.encoding));
        }
    }
    Ok(summary)
}

/// If no recipe was chosen for a folder: how its weights were stored, and the size with 4 bits.
fn hint(source: &Path, recipe: &QuantizationRecipe, summary: &ConversionSummary) -> Option<String> {
    if *recipe != QuantizationRecipe::default() || !source.is_dir() {
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

/// Megabytes, with a decimal where it matters.
fn megabytes(bytes: u64) -> String {
    let digits = if bytes < 100_000_000 { 1 } else { 0 };
    format!("{:.digits$}", bytes as f64 / 1e6)
}

/// Writes the model in `source` to the GGUF file `target`, atomically, and a summary to stderr.
pub(crate) fn write_gguf(source: &Path, target: &Path, kind: GgufType) -> Result<(), Failure> {
    let target = &resolve_target(target, source)?;
    let summary = with_progress(source, |progress| {
        let model = thimble_converter::read::open(source)?;
        thimble_converter::write_gguf::write_gguf(&model, target, kind, progress)
    })?;
    report_written(target, [summary.bytes, summary.parameters], &summary.notes);
    for (name, (tensors, bytes)) in &summary.types {
        terminal::note(&format!("  {name:<5} {tensors:>4} tensors {bytes:>12} bytes"));
    }
    if summary.rounding > 0.0 {
        terminal::note(&format!(
            "rounding error: {:.3}% of the weights' magnitude (relative RMS)",
            100.0 * summary.rounding
        ));
    }
    Ok(())
}

/// `target` with links resolved; refused if writing there would replace the source.
pub(crate) fn resolve_target(target: &Path, source: &Path) -> Result<PathBuf, Failure> {
    let target = thimble_files::resolve(target)?;
    if target::replaces(&target, source) {
        let what = target.display();
        let reason = format!("{what} belongs to the source and would be replaced: write to another file");
        return Err(Failure::Usage(reason));
    }
    Ok(target)
}

/// Reports a written file with its notes on stderr.
pub(crate) fn report_written(target: &Path, [bytes, parameters]: [u64; 2], notes: &[String]) {
    let bits = bytes as f64 * 8.0 / parameters as f64;
    let megabytes = bytes as f64 / 1e6;
    terminal::note(&format!("wrote {} ({megabytes:.1} MB, {bits:.2} bits per weight)", target.display()));
    for note in notes {
        terminal::note(&format!("note: {note}"));
    }
}

/// The converter's error, with its source.
pub(crate) fn failure(source: &Path, error: ConvertError) -> Failure {
    Failure::Convert {
        path: source.to_path_buf(),
        reason: error.to_string(),
        writing: matches!(error, ConvertError::Write { .. } | ConvertError::DiskFull { .. }),
    }
}

/// Writes the model in `source` to `target`, atomically, without a summary.
pub(crate) fn run(
    source: &Path,
    target: &Path,
    recipe: &QuantizationRecipe,
    origin: Option<String>,
) -> Result<ConversionSummary, Failure> {
    let QuantizationRecipe { quant, table, target: size, sensitivities, calibration, merge, any_base } =
        recipe.clone();
    let options = ConversionOptions {
        quant,
        table,
        target: size,
        sensitivities,
        calibration,
        merge,
        any_base,
        source: origin,
        ..ConversionOptions::default()
    };
    with_progress(source, |progress| thimble_converter::convert(source, target, &options, progress))
}

/// Does `work` with the model in `source`, with a progress bar for each of its stages.
pub(crate) fn with_progress<T>(
    source: &Path,
    work: impl FnOnce(&mut dyn FnMut(ConversionProgress<'_>)) -> Result<T, ConvertError>,
) -> Result<T, Failure> {
    let mut shown: Option<(ConversionStage, ProgressBar)> = None;
    let done = work(&mut |ConversionProgress { stage, done, total, .. }| {
        if shown.as_ref().is_none_or(|(old, _)| *old != stage) {
            let old = shown.replace((stage, stage_bar(stage)));
            old.iter().for_each(|(_, bar)| bar.finish_and_clear());
        }
        if let Some((_, bar)) = &shown {
            bar.set_length(total);
            bar.set_position(done);
        }
    });
    shown.iter().for_each(|(_, bar)| bar.finish_and_clear());
    done.map_err(|error| failure(source, error))
}

fn stage_bar(stage: ConversionStage) -> ProgressBar {
    match stage {
        ConversionStage::Measuring => progress::steps("measuring tensors", 0),
        ConversionStage::Calibrating => progress::steps("calibrating layers", 0),
        ConversionStage::Writing => progress::bytes("writing", 0),
    }
}
