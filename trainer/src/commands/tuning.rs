//! The flags of the commands that tune a model on examples, as keys of a recipe.

use super::export::export_checkpoint;
use super::flag_keys::{FlagKeys, FlagNames};
use super::run_flags::RunFlags;
use std::path::Path;
use thimble_trainer::checkpoint::{CheckpointChoice, CheckpointStore};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::init_from;
use thimble_trainer::recipe::{AdaptedMatrix, BUILT_IN, Precision, TrainingRecipe};
use thimble_trainer::shell::quote;

/// Steps between two measurements of the held-out examples.
const MEASURE_EVERY: u64 = 10;
/// Examples in one pass unless given.
const MICRO_BATCH: u64 = 2;
/// Tokens of an example, at most, unless given; and never more than the model's.
const CONTEXT: usize = 1024;

/// The flags of both commands, for errors. What resumes a run takes `--set` alone, so that keys which a resumed run may
/// change keep their names.
const NAMES: FlagNames = FlagNames(&[
    ("init_from", "MODEL"),
    ("data.files", "--data"),
    ("data.held_out", "--held-out"),
    ("stages.0.context", "--context"),
    ("stages.0.micro_batch", "--micro-batch"),
    ("stages.0.accumulate", "--batch"),
    ("stages.0.length", "--epochs"),
    ("adapter.rank", "--lora"),
    ("adapter.alpha", "--alpha"),
    ("adapter.matrices", "--matrices"),
    ("objective.targets", "--targets"),
    ("objective.packing", "--no-packing"),
    ("objective.beta", "--beta"),
    ("objective.loss", "--loss"),
    ("objective.label_smoothing", "--label-smoothing"),
    ("objective.sft_weight", "--sft-weight"),
    ("model.context", "the model's context of"),
]);

/// What a command takes where no flag says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct TuningDefaults {
    /// The command's name.
    pub(super) command: &'static str,
    /// The recipe that the flags change.
    pub(super) recipe: &'static str,
    /// The objective's kind, which ends the run's name.
    pub(super) kind: &'static str,
    /// Passes over the examples.
    pub(super) epochs: f64,
    /// Examples, or packed rows, of one optimizer step.
    pub(super) batch: u64,
    /// Learning rate of an adapter, which takes larger steps than the model's own weights.
    pub(super) adapter_learning_rate: f64,
}

#[derive(Debug, clap::Args)]
pub(super) struct TuningFlags {
    /// A Hugging Face folder, a .gguf or .thimble file, or the name of a model that `thimble pull` fetched. It comes before
    /// --data and --held-out, which take all names that follow them
    model: String,
    /// Files, folders or hf://datasets/OWNER/NAME with the examples
    #[arg(long, value_name = "FILES", num_args = 1.., required = true)]
    data: Vec<String>,
    /// A share of the examples (0.1) or files that are not trained on and measured [default: none]
    #[arg(long, value_name = "SHARE or FILES", num_args = 1..)]
    held_out: Vec<String>,
    /// Passes over the examples [default: 2 over conversations, 1 over pairs]
    #[arg(long, value_name = "N", value_parser = super::shared::positive)]
    epochs: Option<f64>,
    /// Highest learning rate [default: 5e-5 on conversations, 1e-6 on pairs; with --lora 5e-4 and 1e-5]
    #[arg(long, value_name = "X", value_parser = super::shared::positive)]
    learning_rate: Option<f64>,
    /// Examples of one optimizer step, or rows that hold several [default: 4 rows of conversations, 16 pairs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    batch: Option<u64>,
    /// Examples in one pass, which divides --batch; more are faster and take more memory [default: 2, or 1 where --batch is
    /// odd]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    micro_batch: Option<u64>,
    /// Most tokens of an example; of longer ones the start is kept [default: 1024, at most the model's]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    context: Option<u32>,
    /// Train adapters of this rank (LoRA) and leave the model's weights as they are [default: all weights are trained]
    #[arg(long, value_name = "RANK")]
    lora: Option<u32>,
    /// Scale of the adapters times their rank [default: twice the rank]
    #[arg(long, value_name = "X", requires = "lora", value_parser = super::shared::positive)]
    alpha: Option<f64>,
    /// Matrices that get an adapter [default: all]
    #[arg(long, value_name = "NAMES", requires = "lora", value_delimiter = ',')]
    matrices: Vec<AdaptedMatrix>,
    /// Seeds the order of the examples and the adapters [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// A recipe that the flags change, as a file or the name of a built-in one [default: the command's own]
    #[arg(long, value_name = "FILE or NAME")]
    recipe: Option<String>,
}

impl TuningFlags {
    /// Trains as these flags and the command's own `more` say, and exports the result.
    ///
    /// # Errors
    /// The flags contradict each other, or as [`RunFlags::train`]; keys that flags write are named by the flags.
    pub(super) fn train(&self, run: RunFlags, defaults: TuningDefaults, more: FlagKeys) -> Result<()> {
        let attempt = || {
            let keys = self.keys(defaults)?.and(more);
            let recipe = keys.apply(&run.overrides, |sets| match &self.recipe {
                Some(recipe) => TrainingRecipe::load(recipe, sets),
                None => Ok(TrainingRecipe::parse(defaults.recipe, "the command's recipe", sets)?),
            })?;
            self.check_kind(&recipe, defaults)?;
            let folder = run.folder(&recipe);
            run.train(&recipe)?;
            finish(&folder)
        };
        attempt().map_err(|error| NAMES.reword(error))
    }

    /// Refuses a recipe of another objective than the command's.
    fn check_kind(&self, recipe: &TrainingRecipe, defaults: TuningDefaults) -> Result<()> {
        let (found, TuningDefaults { command, kind, .. }) = (recipe.objective.kind(), defaults);
        if found == kind {
            return Ok(());
        }
        let built_in: Vec<&str> = BUILT_IN
            .iter()
            .filter(|(_, text)| text.contains(&format!("kind = \"{kind}\"")))
            .map(|(name, _)| *name)
            .collect();
        Err(Error::Usage(format!(
            "--recipe {}: {command} expects a recipe of objective.kind = \"{kind}\", found \"{found}\"; built-in ones are {}",
            self.recipe.as_deref().unwrap_or_default(),
            built_in.join(", ")
        )))
    }

    /// The flags as keys of the recipe.
    fn keys(&self, defaults: TuningDefaults) -> Result<FlagKeys> {
        let mut keys = FlagKeys::default();
        let typed = |flag: &str, values: &[String]| format!("{flag} {}", values.join(" "));
        keys.implied(format!("name={}", text(&run_name(&self.model, defaults.kind))));
        if self.recipe.is_some() {
            // The shape is MODEL's.
            keys.implied("model=none".to_owned());
        }
        keys.typed("MODEL", format!("init_from={}", text(&self.model)));
        keys.typed(typed("--data", &self.data), format!("data.files={}", list(&self.data)));
        if let Some(held_out) = self.held_out()? {
            keys.typed(typed("--held-out", &self.held_out), format!("data.held_out={held_out}"));
        }
        // What a recipe says holds unless a flag says otherwise.
        let own = self.recipe.is_none();
        let batch = self.batch.unwrap_or(defaults.batch);
        if own || self.batch.is_some() || self.micro_batch.is_some() {
            let micro_batch =
                self.micro_batch.unwrap_or(if batch.is_multiple_of(MICRO_BATCH) { MICRO_BATCH } else { 1 });
            if !batch.is_multiple_of(micro_batch) {
                return Err(Error::Usage(format!(
                    "--batch {batch} --micro-batch {micro_batch}: expected a micro-batch that divides the batch"
                )));
            }
            keys.given("--micro-batch", self.micro_batch, format!("stages.0.micro_batch={micro_batch}"));
            keys.given("--batch", self.batch, format!("stages.0.accumulate={}", batch / micro_batch));
        }
        if own || self.epochs.is_some() {
            let epochs = self.epochs.unwrap_or(defaults.epochs);
            keys.given("--epochs", self.epochs, format!("stages.0.length={{ epochs = {epochs:?} }}"));
        }
        let context = match self.context {
            None if own => Some(init_from::open(&self.model)?.config.context.min(CONTEXT)),
            given => given.map(|context| context as usize),
        };
        if let Some(context) = context {
            keys.given("--context", self.context, format!("stages.0.context={context}"));
        }
        let of_adapter = self.lora.filter(|_| own).map(|_| defaults.adapter_learning_rate);
        if let Some(rate) = self.learning_rate.or(of_adapter) {
            keys.given("--learning-rate", self.learning_rate, format!("stages.0.schedule.peak={rate:?}"));
        }
        if own && !self.held_out.is_empty() {
            keys.implied(format!("validation.every={MEASURE_EVERY}"));
        }
        if let Some(rank) = self.lora {
            keys.typed(format!("--lora {rank}"), format!("adapter.rank={rank}"));
            if let Some(alpha) = self.alpha {
                keys.typed(format!("--alpha {alpha}"), format!("adapter.alpha={alpha:?}"));
            }
            if !self.matrices.is_empty() {
                let name = |matrix| toml::Value::try_from(matrix).map(|value| value.to_string());
                let names = self.matrices.iter().map(name).collect::<std::result::Result<Vec<_>, _>>();
                let names = names.map_err(|error| Error::Invalid(error.to_string()))?.join(", ");
                keys.typed(format!("--matrices {names}"), format!("adapter.matrices=[{names}]"));
            }
        }
        if let Some(seed) = self.seed {
            keys.typed(format!("--seed {seed}"), format!("seed={seed}"));
        }
        Ok(keys)
    }

    /// The value of `data.held_out`.
    fn held_out(&self) -> Result<Option<String>> {
        match &self.held_out[..] {
            [] => Ok(None),
            [share] if share.parse::<f64>().is_ok() => Ok(Some(share.clone())),
            files if files.iter().any(|file| file.parse::<f64>().is_ok()) => {
                Err(Error::Usage("--held-out: expected one share or files, found both".into()))
            }
            files => Ok(Some(list(files))),
        }
    }
}

/// Exports the tuned model, and says how to talk to it.
pub(super) fn finish(run: &Path) -> Result<()> {
    let output = run.join("export");
    if output.exists() {
        eprintln!("{} exists already: the tuned model was exported before", output.display());
        return Ok(());
    }
    let checkpoint = CheckpointStore::new(run, 1).choose(CheckpointChoice::BestOfLastStage)?;
    let (state, _) = export_checkpoint(run, &checkpoint, Precision::F32, &output)?;
    let [folder, file] = [&output, &run.join("tuned.thimble")].map(|path| quote(path));
    println!("wrote {} (step {})", output.display(), state.step);
    println!("to talk to it: thimble chat {folder}");
    println!("to make one file of it: thimble convert {folder} --quant q8 -o {file}");
    Ok(())
}

/// A string of TOML.
fn text(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

/// A list of strings of TOML.
fn list(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| text(value)).collect::<Vec<_>>().join(", "))
}

/// The name of a run that tunes a model: the model's, with the kind of the tuning.
fn run_name(model: &str, kind: &str) -> String {
    let path = Path::new(model);
    let stem = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gguf" | "thimble" | "safetensors") => path.file_stem(),
        _ => path.file_name(),
    };
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' });
    let plain: String = plain.collect();
    match plain.trim_start_matches('.') {
        "" => format!("model-{kind}"),
        plain => format!("{plain}-{kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::run_name;

    #[test]
    fn runs_are_named_after_their_model() {
        for (model, name) in [
            ("smollm2-135m-instruct", "smollm2-135m-instruct-sft"),
            ("/models/SmolLM2 135M/", "SmolLM2-135M-sft"),
            ("a/b.Q4_1.gguf", "b.Q4_1-sft"),
            ("org/Model.v2", "Model.v2-sft"),
            ("..", "model-sft"),
        ] {
            assert_eq!(run_name(model, "sft"), name);
        }
    }
}
