//! A report on quantization recipes of a model: sizes, divergences, their trade-off as a plot, the error of each tensor.

#[cfg(feature = "plot")]
mod html;
mod markdown;
#[cfg(feature = "plot")]
mod plot;

use crate::write::write_error;
use crate::{ConversionSummary, ConvertError};
use std::path::Path;

/// The default text to measure divergences on: excerpts of books in the public domain (Standard Ebooks' editions, CC0),
/// disjoint from [`crate::calibrate::default_text`].
pub fn default_text() -> &'static str {
    include_str!("text.txt")
}

/// The divergence of a file from its source, as `thimble divergence` measures it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Mean KL divergence from the source, nats per token.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The 99th percentile of the KL divergence.
    pub percentile_99: f64,
    /// Fraction of positions with the same most probable token.
    pub top_1_agreement: f64,
    /// Perplexity of the file.
    pub perplexity: f64,
}

/// A quantization recipe applied to the source.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The recipe's name.
    pub recipe: String,
    /// The result of the conversion.
    pub summary: ConversionSummary,
    /// The divergence from the source.
    pub cost: Cost,
}

impl Trial {
    /// Bits of the file per parameter.
    fn bits(&self) -> f64 {
        self.summary.bytes as f64 * 8.0 / self.summary.config.parameters() as f64
    }

    fn megabytes(&self) -> f64 {
        self.summary.bytes as f64 / 1e6
    }
}

/// A source and its trials.
#[derive(Clone, Debug)]
pub struct Report {
    /// The source's name.
    pub source: String,
    /// Perplexity of the source, with f32 activations.
    pub perplexity: f64,
    /// A description of the text that divergences were measured on.
    pub text: String,
    /// First the requested file, then the other recipes.
    pub trials: Vec<Trial>,
}

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    /// A self-contained page.
    Html,
    /// Tables, without the plot.
    Markdown,
}

impl ReportFormat {
    /// The format for a file name; `None` for unknown extensions.
    pub fn of(path: &Path) -> Option<ReportFormat> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "html" | "htm" => Some(ReportFormat::Html),
            "md" | "markdown" => Some(ReportFormat::Markdown),
            _ => None,
        }
    }
}

impl Report {
    /// Renders the report.
    ///
    /// # Errors
    /// The plot cannot be drawn.
    pub fn render(&self, format: ReportFormat) -> Result<String, ConvertError> {
        match format {
            #[cfg(feature = "plot")]
            ReportFormat::Html => html::page(self),
            #[cfg(not(feature = "plot"))]
            ReportFormat::Html => {
                Err(ConvertError::MissingFeature { what: "a page with a plot", feature: "plot" })
            }
            ReportFormat::Markdown => Ok(markdown::page(self)),
        }
    }

    /// Writes the report to `path`, atomically.
    pub fn write(&self, path: &Path, format: ReportFormat) -> Result<(), ConvertError> {
        let page = self.render(format)?;
        thimble_files::write(path, page.as_bytes())
            .map_err(|error| write_error(path, page.len() as u64, error))
    }

    /// Column heads of the table of trials.
    const HEADS: [&'static str; 9] = [
        "recipe",
        "MB",
        "bits per weight",
        "mean KL",
        "±",
        "99th percentile",
        "same top token",
        "perplexity",
        "encodings",
    ];

    /// The table of trials, by size.
    fn rows(&self) -> Vec<[String; 9]> {
        let mut trials: Vec<&Trial> = self.trials.iter().collect();
        trials.sort_by_key(|trial| trial.summary.bytes);
        let row = |trial: &Trial| {
            let Cost { mean, standard_error, percentile_99, top_1_agreement, perplexity } = trial.cost;
            let encodings = trial.summary.encodings.iter().filter(|(name, _)| !name.contains("vector"));
            let encodings: Vec<String> =
                encodings.map(|(name, (count, _))| format!("{count} {name}")).collect();
            [
                trial.recipe.clone(),
                format!("{:.1}", trial.megabytes()),
                format!("{:.2}", trial.bits()),
                format!("{mean:.5}"),
                format!("{standard_error:.5}"),
                format!("{percentile_99:.4}"),
                format!("{:.1}%", 100.0 * top_1_agreement),
                format!("{perplexity:.3}"),
                encodings.join(", "),
            ]
        };
        trials.into_iter().map(row).collect()
    }

    /// Column heads of the table of tensors.
    const TENSOR_HEADS: [&'static str; 5] = ["tensor", "shape", "encoding", "bytes", "error"];

    /// The matrices of the requested file, by decreasing error.
    fn tensors(&self) -> Vec<[String; 5]> {
        let mut tensors: Vec<_> =
            self.trials.first().map_or(&[][..], |trial| &trial.summary.tensors).iter().collect();
        tensors.retain(|tensor| tensor.rows > 1);
        tensors.sort_by(|a, b| b.error.total_cmp(&a.error));
        let row = |tensor: &&crate::TensorSummary| {
            [
                tensor.name.clone(),
                format!("{} x {}", tensor.rows, tensor.columns),
                tensor.encoding.name().to_owned(),
                tensor.bytes.to_string(),
                format!("{:.3}%", 100.0 * tensor.error),
            ]
        };
        tensors.iter().map(row).collect()
    }

    /// Explains the figures.
    fn explanation(&self) -> String {
        format!(
            "KL divergence of each file, as it runs, from the source ({}, perplexity {:.3} with f32 activations) in nats \
             per token, on {}. The error of a tensor is the root mean square of what rounding changed, relative to that of \
             the weights; with calibration it may be larger where the model's outputs are closer.",
            self.source, self.perplexity, self.text
        )
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
