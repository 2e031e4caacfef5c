//! `thimble convert`: a model of another format becomes a `.thimble` file, or any of them a GGUF file.

use crate::conversion::{self, Request};
use crate::failure::Failure;
use crate::flags::ConvertFlags;
use crate::model::Location;
use crate::recipe::QuantizationRecipe;
use crate::{interrupt, report};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use thimble_converter::write_gguf::GgufType;
use thimble_files::OutputFiles;

/// What the file is to be.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetFlags {
    /// Format of FILE [default: gguf for a name that ends so, else thimble]
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Option<Format>,
    /// GGUF only: type of the matrices: keep, F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0 or Q4_K [default: keep]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

/// Formats that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For this runtime
    Thimble,
    /// For llama.cpp
    Gguf,
}

/// From where to where.
pub(crate) struct Job {
    source: Location,
    output: PathBuf,
    target: Target,
    report: Option<report::Job>,
}

enum Target {
    Thimble(Box<QuantizationRecipe>),
    Gguf(GgufType),
}

impl Job {
    /// Refuses an unknown encoding before anything is read.
    pub(crate) fn resolve(flags: ConvertFlags) -> Result<Job, Failure> {
        let mut files = OutputFiles::default();
        flags.recipe.files(&mut files)?;
        flags.report.files(&mut files)?;
        files.writes("-o", &flags.output)?;
        let recipe = flags.recipe.resolve()?;
        let report = flags.report.resolve()?;
        let gguf = flags.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        let format = flags.target.to.unwrap_or(if gguf { Format::Gguf } else { Format::Thimble });
        let kind = flags.target.kind.as_deref();
        let target = match (format, kind) {
            (Format::Thimble, None) => Target::Thimble(Box::new(recipe)),
            (Format::Thimble, Some(_)) => {
                return Err(Failure::Usage(
                    "--type is for GGUF files: add --to gguf, or use --quant".to_string(),
                ));
            }
            (Format::Gguf, _) if recipe != QuantizationRecipe::default() => {
                return Err(Failure::Usage(
                    "--quant, --recipe, --calibrate, --target-bits and --target-bytes are for .thimble files: GGUF files take --type"
                        .to_string(),
                ));
            }
            (Format::Gguf, _) if report.is_some() => {
                return Err(Failure::Usage("--report is for .thimble files".to_string()));
            }
            (Format::Gguf, kind) => Target::Gguf(kind.map_or(Ok(GgufType::Keep), gguf_type)?),
        };
        Ok(Job { source: Location::source(&flags.source)?, output: flags.output, target, report })
    }

    /// Converts; a summary goes to stderr.
    pub(crate) fn run(self, _stdout: &mut dyn Write) -> Result<(), Failure> {
        interrupt::tidying()?;
        let source = self.source.fetch_source()?;
        match self.target {
            Target::Thimble(recipe) => {
                let report = self.report.map(|report| report.placed(&source)).transpose()?;
                let request = Request { recipe: *recipe, origin: None };
                let summary = conversion::convert(&source, &self.output, &request)?;
                match report {
                    Some(report) => report.run(&source, &self.output, &request.recipe, summary),
                    None => Ok(()),
                }
            }
            Target::Gguf(kind) => conversion::write_gguf(&source, &self.output, kind),
        }
    }
}

/// The type of this name; names the nearest where there is none.
fn gguf_type(name: &str) -> Result<GgufType, Failure> {
    name.parse().map_err(|error| {
        let names = GgufType::names();
        let distance =
            |known: &&String| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
        let nearest = names.iter().min_by_key(distance).filter(|known| distance(known) <= 3);
        let meant = nearest.map_or_else(String::new, |known| format!(": did you mean {known}?"));
        Failure::Usage(format!("--type: {error}{meant}"))
    })
}
