//! `thimble-train quantize-aware`.

use super::flag_keys::FlagNames;
use super::run_flags::RunFlags;
use super::tokenize::ReadFlags;
use std::path::{Path, PathBuf};
use thimble_converter::SourceModel;
use thimble_converter::export::{Dtype, write_metadata};
use thimble_trainer::checkpoint::RECIPE;
use thimble_trainer::data::source::TextSource;
use thimble_trainer::data::token_set::DEFAULT_SHARD_TOKENS;
use thimble_trainer::data::tokenize::{Holdout, HoldoutSize, TokenizeJob, run};
use thimble_trainer::data::tokenizer::Encoder;
use thimble_trainer::error::{Error, Result};
use thimble_trainer::init_from;
use thimble_trainer::quantization;
use thimble_trainer::recipe::TrainingRecipe;
use thimble_trainer::training::claim;

/// Train a model for a quantized file: it learns to predict, with rounded weights, what it predicted before.
///
/// `thimble-train export RUN -o FOLDER` and `thimble convert FOLDER --quant` of the same name give a file with the very
/// numbers that were trained. --set changes any key of the recipe, as in --set stages.0.schedule.peak=1e-4.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// A Hugging Face folder, a GGUF or .thimble file, or the name of a model that `thimble pull` fetched
    model: String,
    /// The encodings to train for: a name of `thimble convert --quant` (q3, q4, ...), or the file of a recipe for
    /// `thimble convert --recipe`
    #[arg(long, value_name = "NAME|RECIPE.toml")]
    quant: String,
    /// Text to train on: files (.txt, .jsonl, plain, .gz or .zst; .parquet) or folders
    #[arg(long, required = true, num_args = 1.., value_name = "FILE|FOLDER")]
    data: Vec<String>,
    /// Tokens to train on
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    tokens: u64,
    /// Documents to hold out, on which the divergence is measured
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    held_out: u64,
    #[command(flatten)]
    reading: ReadFlags,
    /// Skip and count records that cannot be read, instead of stopping at the first one
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    run: RunFlags,
}

/// The flags, for errors.
const NAMES: FlagNames = FlagNames(&[
    ("init_from", "MODEL"),
    ("objective.quant", "--quant"),
    ("quant =", "--quant"),
    ("data.sets.train", "--data"),
    ("data.sets.held_out", "--held-out"),
    ("lower --holdout", "lower --held-out"),
    ("model.context", "the model's context of"),
]);

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        self.train().map_err(|error| NAMES.reword(error))
    }

    fn train(self) -> Result<()> {
        let name = self.name();
        let folder = self.run.folder_named(&name);
        let saved = folder.join(RECIPE);
        if self.run.resumes() && saved.is_file() {
            let recipe = self.run.load(&saved.display().to_string())?;
            return self.run.train(&recipe);
        }
        quantization::options(&self.quant)?;
        let source = init_from::open(&self.model)?;
        let context = CONTEXT.min(source.config.context as u64);
        claim(&folder)?;
        self.tokenize(&source, &folder, context)?;
        let text = self.recipe(&name, &folder, context);
        let recipe = TrainingRecipe::parse(&text, "quantize-aware", &self.run.overrides)?;
        self.run.train(&recipe)
    }

    /// The last part of the model's name, and the encoding's.
    fn name(&self) -> String {
        let stem = |text: &str| {
            let path = Path::new(text).file_stem().unwrap_or_default();
            path.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c), "-")
        };
        format!("{}-{}", stem(&self.model), stem(&self.quant))
    }

    /// Writes the model's tokenizer and the text as token sets into the run folder.
    fn tokenize(&self, source: &SourceModel, folder: &Path, context: u64) -> Result<()> {
        let tokenizer = folder.join("tokenizer");
        std::fs::create_dir_all(&tokenizer).map_err(Error::file(&tokenizer, "create"))?;
        // The last file that is written.
        if !tokenizer.join("README.md").exists() {
            write_metadata(source, &tokenizer, Dtype::F32, |_| ())
                .map_err(|error| Error::Invalid(format!("{}: {error}", self.model)))?;
        }
        let read = self.reading.options();
        let sources = TextSource::resolve(&self.data, &read)?;
        let encoder = Encoder::open(&tokenizer)?;
        let sets = sets(folder);
        let job = TokenizeJob {
            sources: &sources,
            read,
            skip_bad: self.skip_bad,
            end_of_document: encoder.end_of_document(None)?,
            encoder: &encoder,
            shard_tokens: DEFAULT_SHARD_TOKENS,
            threads: self.run.threads(),
            output: sets[0].clone(),
            holdout: Some(Holdout {
                share: HoldoutSize::Documents(self.held_out),
                seed: 0,
                output: sets[1].clone(),
            }),
        };
        let summary = run(&job, &mut |_| ())?;
        if summary.holdout.is_some_and(|set| set.tokens <= context) {
            return Err(Error::Usage(format!(
                "--held-out {}: expected documents of more than {context} tokens together, found fewer; hold more out",
                self.held_out
            )));
        }
        Ok(())
    }

    fn recipe(&self, name: &str, folder: &Path, context: u64) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let [train, held_out] = sets(folder).map(|path| quoted(&path.display().to_string()));
        let (model, quant, name) = (quoted(&self.model), quoted(&self.quant), quoted(name));
        let steps = self.tokens.div_ceil(context * MICRO_BATCH);
        let peak = PEAK.min(NOISE / (steps as f64).sqrt());
        let floor = FLOOR * peak;
        let (warmup, every) = ((steps / 20).max(1), (steps / 20).max(1));
        format!(
            "name = {name}
init_from = {model}

[objective]
kind = \"distill\"
quant = {quant}

[data.sets]
train = {train}
held_out = {held_out}

[optimizer]
weight_decay = 0.0

[validation]
set = \"held_out\"
every = {every}
windows = 16
spread = true

[checkpoint]
every = {every}
last = 1

[[stages]]
name = \"quantize\"
length = {{ steps = {steps} }}
context = {context}
micro_batch = {MICRO_BATCH}
mixture = {{ train = 1.0 }}
schedule = {{ kind = \"cosine\", peak = {peak:.1e}, floor = {floor:.1e}, warmup = {warmup} }}
"
        )
    }
}

/// Tokens of a window, if the model takes as many, and windows of a step.
const CONTEXT: u64 = 512;
const MICRO_BATCH: u64 = 2;
/// The learning rate after the warm-up, in steps between the numbers of the encoding.
const PEAK: f64 = 1.2e-2;
/// What the rate times the square root of the number of updates may be at most: about as far, in steps, the noise of the
/// gradients moves a weight, and from 0.5 on it would round otherwise.
const NOISE: f64 = 0.25;
/// The share of the rate that is left at the end.
const FLOOR: f64 = 0.025;

/// The token sets to train on and to measure on.
fn sets(folder: &Path) -> [PathBuf; 2] {
    ["train", "held-out"].map(|name| folder.join("tokens").join(name))
}
