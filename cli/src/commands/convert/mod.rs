//! `thimble convert`: from any format to a `.thimble` or a GGUF file, and adapters to `.adapter` files.

mod adapter;
mod report;

use crate::failure::Failure;
use crate::flags::recipe::{QuantizationRecipe, RecipeFlags};
use crate::model::Location;
use crate::{conversion, interrupt};
use adapter::{AdapterFlags, AdapterTarget};
use clap::{Args, ValueEnum};
use report::{ReportFlags, RequestedReport};
use std::path::PathBuf;
use thimble_converter::write_gguf::GgufType;
use thimble_files::OutputFiles;

/// `thimble convert`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A Hugging Face folder (config.json, tokenizer.json, *.safetensors), a .gguf or a .thimble file, or a name from
    /// `thimble list`; an existing path comes before a name. Or an adapter: a folder of the PEFT library, or an .adapter file
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Format of FILE [default: gguf if its name ends in .gguf, otherwise thimble]
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Option<Format>,
    /// For GGUF: type of the matrices: keep, F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0 or Q4_K [default: keep]
    #[arg(long = "type", value_name = "TYPE", value_parser = gguf_type)]
    kind: Option<GgufType>,
    #[command(flatten)]
    adapters: AdapterFlags,
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    report: ReportFlags,
}

/// Formats that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For this runtime
    Thimble,
    /// For llama.cpp
    Gguf,
}

/// What to convert, to what.
pub(crate) struct Job {
    source: Location,
    output: PathBuf,
    target: Target,
    report: Option<RequestedReport>,
}

enum Target {
    Adapter(AdapterTarget),
    Thimble(Box<QuantizationRecipe>),
    Gguf(GgufType),
}

impl Job {
    /// Locates the source; refuses contradictions before anything is read.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let mut files = OutputFiles::default();
        flags.recipe.register(&mut files)?;
        flags.adapters.register(&mut files);
        flags.report.register(&mut files)?;
        files.writes("-o", &flags.output)?;
        let mut recipe = flags.recipe.resolve()?;
        let report = flags.report.resolve()?;
        if thimble_converter::adapter::is_adapter(&flags.source) {
            let target = flags.adapters.target(&recipe, report.is_some() || flags.to.is_some())?;
            let (source, target) = (Location::Path(flags.source), Target::Adapter(target));
            return Ok(Job { source, output: flags.output, target, report: None });
        }
        flags.adapters.merge_into(&mut recipe)?;
        if report.is_some() && !recipe.merge.is_empty() {
            let reason = "--report compares with the source, which --merge changes: leave one of them out";
            return Err(Failure::Usage(reason.to_string()));
        }
        let gguf = flags.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        let format = flags.to.unwrap_or(if gguf { Format::Gguf } else { Format::Thimble });
        let target = match (format, flags.kind) {
            (Format::Thimble, None) => Target::Thimble(Box::new(recipe)),
            (Format::Thimble, Some(_)) => {
                return Err(Failure::Usage(
                    "--type is for GGUF files: add --to gguf, or use --quant".to_string(),
                ));
            }
            (Format::Gguf, _) if recipe != QuantizationRecipe::default() => {
                return Err(Failure::Usage(
                    "--quant, --recipe, --calibrate, --target-bits, --target-bytes and --merge are for .thimble files: GGUF files take --type"
                        .to_string(),
                ));
            }
            (Format::Gguf, _) if report.is_some() => {
                let reason =
                    "--report works only when writing a .thimble file: leave it out, or write FILE.thimble";
                return Err(Failure::Usage(reason.to_string()));
            }
            (Format::Gguf, kind) => Target::Gguf(kind.unwrap_or_default()),
        };
        Ok(Job { source: Location::source(&flags.source)?, output: flags.output, target, report })
    }

    /// Converts; a summary goes to stderr.
    pub(crate) fn run(self) -> Result<(), Failure> {
        interrupt::remove_unfinished_files()?;
        let source = self.source.fetch_source()?;
        match self.target {
            Target::Thimble(recipe) => {
                let report = self.report.map(|report| report.resolve_target(&source)).transpose()?;
                let summary = conversion::convert(&source, &self.output, &recipe, None)?;
                match report {
                    Some(report) => report.write(&source, &self.output, &recipe, summary),
                    None => Ok(()),
                }
            }
            Target::Adapter(target) => target.write(&source, &self.output),
            Target::Gguf(kind) => conversion::write_gguf(&source, &self.output, kind),
        }
    }
}

/// The type of this name; the error suggests a similar one.
fn gguf_type(name: &str) -> Result<GgufType, String> {
    name.parse().map_err(|error| {
        let names = GgufType::names();
        let distance =
            |known: &&String| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
        let nearest = names.iter().min_by_key(distance).filter(|known| distance(known) <= 3);
        let suggestion = nearest.map_or_else(String::new, |known| format!(": did you mean {known}?"));
        format!("{error}{suggestion}")
    })
}
