//! `thimble convert --report`: what a quantization recipe costs, compared with others for the same source.

use crate::failure::Failure;
use crate::flags::recipe::QuantizationRecipe;
use crate::model::Location;
use crate::temporary_models::TemporaryModels;
use crate::workspace::{self, Mapped};
use crate::{conversion, input, progress, terminal};
use clap::Args;
use std::path::{Path, PathBuf};
use thimble_converter::report::{self, Cost, Report, ReportFormat, Trial};
use thimble_converter::{ConversionSummary, Quant, SizeTarget};
use thimble_eval::divergence::{Divergence, Pair, divergence};
use thimble_files::OutputFiles;
use thimble_host::InferenceSettings;
use thimble_runtime::Token;
use thimble_runtime::tokenizer::Specials;

/// Tokens per window, if the context is long enough.
const WINDOW: usize = 512;
/// Windows to compare.
const WINDOWS: usize = 16;

/// `--report` and what refines it.
#[derive(Args, Debug)]
pub(crate) struct ReportFlags {
    /// Also write a report that compares the file with other recipes: sizes, divergence from the source, the error of each
    /// tensor and a plot (.html), or the tables alone (.md)
    #[cfg_attr(not(feature = "plot"), doc = "(.html is not in this build: requires the feature `plot`)")]
    #[arg(long, value_name = "FILE.html|FILE.md")]
    report: Option<PathBuf>,
    /// Other encodings in the report, separated by commas, or `none`
    #[arg(long, value_name = "NAMES", default_value = "q8,q6,q5,q4,q3", requires = "report")]
    report_recipes: String,
    /// Measure divergence on this text, which should differ from that of --calibrate [default: a built-in text]
    #[arg(long, value_name = "TEXT", requires = "report")]
    report_text: Option<PathBuf>,
}

/// The meaning of the flags.
pub(crate) struct RequestedReport {
    path: PathBuf,
    format: ReportFormat,
    others: Vec<Quant>,
    /// The text to measure divergence on, and its name.
    text: (String, String),
}

impl ReportFlags {
    /// Registers the files of the flags.
    pub(crate) fn register(&self, files: &mut OutputFiles) -> Result<(), Failure> {
        self.report_text.iter().for_each(|path| files.reads("--report-text", path));
        self.report.as_ref().map_or(Ok(()), |path| files.writes("--report", path).map(drop))?;
        Ok(())
    }

    /// Reads the text; refuses unknown encodings and formats before a model is opened. `None` without --report.
    pub(crate) fn resolve(self) -> Result<Option<RequestedReport>, Failure> {
        let Some(path) = self.report else { return Ok(None) };
        let format = ReportFormat::of(&path).ok_or_else(|| {
            let found = path.display();
            Failure::Usage(format!("--report: expected a name that ends in .html or .md, found {found}"))
        })?;
        if format == ReportFormat::Html && cfg!(not(feature = "plot")) {
            return Err(Failure::NotBuilt { what: "--report FILE.html", feature: "plot" });
        }
        let others = match self.report_recipes.as_str() {
            "none" => Vec::new(),
            names => {
                let others: Result<_, _> = names.split(',').map(|name| name.trim().parse()).collect();
                others.map_err(|error| Failure::Usage(format!("--report-recipes: {error}")))?
            }
        };
        let text = match &self.report_text {
            Some(path) => {
                (input::file(path)?, path.file_name().unwrap_or_default().to_string_lossy().into_owned())
            }
            None => (report::default_text().to_owned(), "a built-in text".to_owned()),
        };
        Ok(Some(RequestedReport { path, format, others, text }))
    }
}

impl RequestedReport {
    /// The same with links in its path resolved; refused if writing there would replace the source.
    pub(crate) fn resolve_target(self, source: &Path) -> Result<RequestedReport, Failure> {
        Ok(RequestedReport { path: conversion::resolve_target(&self.path, source)?, ..self })
    }

    /// Measures the file made from `source`, and temporary files with the other encodings, and writes the report.
    pub(crate) fn write(
        self,
        source: &Path,
        made: &Path,
        recipe: &QuantizationRecipe,
        summary: ConversionSummary,
    ) -> Result<(), Failure> {
        let (text, named) = &self.text;
        let mut temporary = TemporaryModels::default();
        let reference = temporary.open(&Location::Path(source.to_path_buf()))?;
        let file = reference.file()?;
        let tokens = workspace::encode_text(&file, text, Specials::Parse)?;
        let window = WINDOW.min(file.config().context);
        let windows: Vec<&[Token]> = tokens.chunks_exact(window).take(WINDOWS).collect();
        if windows.is_empty() {
            let found = tokens.len();
            let reason = format!(
                "--report-text has {found} tokens, fewer than one window of {window}: use a longer text"
            );
            return Err(Failure::Other(reason));
        }
        let measure = |path: &Path, name: &str| -> Result<Divergence, Failure> {
            let model = Mapped::open(path)?;
            let pair = Pair { adapters: &[], model: model.file()?, reference: reference.file()? };
            let bar = progress::steps(&format!("measuring {name}"), windows.len() as u64);
            let found = divergence(pair, &windows, &InferenceSettings::default(), &mut |done| {
                bar.set_position(done as u64)
            });
            bar.finish_and_clear();
            found.map_err(Failure::other)
        };
        let name = label(recipe);
        let first = measure(made, &name)?;
        let mut trials = vec![Trial { recipe: name, summary, cost: cost(&first) }];
        for quant in self.others {
            if trials.iter().any(|trial| trial.recipe == quant.name()) {
                continue;
            }
            let recipe = QuantizationRecipe {
                calibration: recipe.calibration.clone(),
                ..QuantizationRecipe::from(quant)
            };
            let path = temporary.folder()?.join("trial.thimble");
            let summary = conversion::run(source, &path, &recipe, None)?;
            let found = measure(&path, quant.name())?;
            std::fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, error))?;
            trials.push(Trial { recipe: quant.name().to_owned(), summary, cost: cost(&found) });
        }
        let calibrated = if recipe.calibration.is_some() { "; quantized recipes are calibrated" } else { "" };
        let report = Report {
            source: source.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            perplexity: first.reference_perplexity,
            text: format!("{} windows of {window} tokens of {named}{calibrated}", windows.len()),
            trials,
        };
        report.write(&self.path, self.format).map_err(|error| conversion::failure(source, error))?;
        terminal::note(&format!("wrote {}", self.path.display()));
        Ok(())
    }
}

/// The recipe's name in the tables.
fn label(recipe: &QuantizationRecipe) -> String {
    match (recipe.target, &recipe.table) {
        (Some(SizeTarget::Bits(bits)), _) => format!("{bits} bits"),
        (Some(SizeTarget::Bytes(bytes)), _) => format!("{:.1} MB", bytes as f64 / 1e6),
        (None, Some(_)) => "table".to_owned(),
        (None, None) => recipe.quant.name().to_owned(),
    }
}

fn cost(found: &Divergence) -> Cost {
    Cost {
        mean: found.kl.mean,
        standard_error: found.kl.standard_error,
        percentile_99: found.kl.percentile_99,
        top_1_agreement: found.top_1_agreement,
        perplexity: found.perplexity,
    }
}
