//! The converter behind a progress bar.

use crate::failure::Failure;
use crate::{progress, target, terminal};
use std::path::Path;
use thimble_converter::{ConvertError, Options, Summary};

pub(crate) use thimble_converter::Quant;

/// How to convert.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// How to store the weights.
    pub(crate) quant: Quant,
    /// Where the source was fetched from, for the file's provenance; otherwise its name.
    pub(crate) origin: Option<String>,
}

/// The encoding of this name.
pub(crate) fn quant(name: &str) -> Result<Quant, Failure> {
    name.parse().map_err(|error: ConvertError| Failure::Usage(format!("--quant: {error}")))
}

/// Writes the model in `source` to `target`, atomically; says on stderr what became of it.
pub(crate) fn convert(source: &Path, target: &Path, request: &Request) -> Result<(), Failure> {
    let target = &target::real(target)?;
    if target::replaces(target, source) {
        let what = target.display();
        let reason = format!("{what} belongs to the source and would be replaced: write to another file");
        return Err(Failure::Usage(reason));
    }
    let summary = quietly(source, target, request)?;
    let bits = summary.bytes as f64 * 8.0 / summary.config.parameters() as f64;
    let megabytes = summary.bytes as f64 / 1e6;
    terminal::note(&format!("wrote {} ({megabytes:.1} MB, {bits:.2} bits per weight)", target.display()));
    for note in &summary.notes {
        terminal::note(&format!("note: {note}"));
    }
    Ok(())
}

/// Writes the model in `source` to `target`, atomically, and says nothing.
pub(crate) fn quietly(source: &Path, target: &Path, request: &Request) -> Result<Summary, Failure> {
    let options = Options { quant: request.quant, source: request.origin.clone(), ..Options::default() };
    let bar = progress::bytes("converting", 0);
    let summary = thimble_converter::convert(source, target, &options, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    summary.map_err(|error| Failure::Convert {
        path: source.to_path_buf(),
        reason: error.to_string(),
        writing: matches!(error, ConvertError::Write { .. } | ConvertError::DiskFull { .. }),
    })
}
