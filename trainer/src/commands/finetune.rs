//! `thimble-train finetune`.

use super::run_flags::RunFlags;
use super::tuning::{finish, list, run_name, text};
use std::path::Path;
use thimble_trainer::error::{Error, Result};
use thimble_trainer::init_from;
use thimble_trainer::recipe::{SftTargets, TrainingRecipe};

/// Tune a model on conversations.
///
/// The recipe is made of the flags, stands in the run folder, and is trained as `pretrain` trains one. Rows are
/// recognized by their fields: messages, conversations (ShareGPT), instruction with output (alpaca), or prompt with
/// completion. The tuned model is exported to RUN/export.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// The model: a Hugging Face folder, a GGUF or .thimble file, or a name that `thimble list` shows
    model: String,
    /// Conversations: .jsonl, .json (both also .gz, .zst), .parquet, folders, or hf://datasets/OWNER/NAME
    #[arg(long, num_args = 1.., value_name = "FILES")]
    data: Vec<String>,
    /// Conversations to measure the loss on: files, or a share of the data such as 0.05
    #[arg(long, num_args = 1.., value_name = "FILES|SHARE")]
    held_out: Vec<String>,
    /// A recipe to begin with; the other flags change it [default: a recipe for small sets]
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    /// Passes over the data [default: 2]
    #[arg(long, value_parser = super::shared::positive)]
    epochs: Option<f64>,
    /// Peak of the cosine schedule [default: 5e-5, or 5e-4 with --lora]
    #[arg(long, value_parser = super::shared::positive, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Rows of one optimizer step [default: 8]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,
    /// Tokens of a row; longer conversations keep their start [default: 1024, at most the model's]
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Which tokens are trained [default: assistant]
    #[arg(long, value_enum)]
    targets: Option<SftTargets>,
    /// Train low-rank adapters of this rank instead of all weights
    #[arg(long, value_name = "RANK")]
    lora: Option<usize>,
    /// The adapters' factor times the rank [default: twice the rank]
    #[arg(long, requires = "lora", value_parser = super::shared::positive)]
    alpha: Option<f64>,
    #[command(flatten)]
    run: RunFlags,
}

/// What the flags change. `beta2` and `weight_decay` are those of TRL.
const RECIPE: &str = r#"
name = "finetune"
seed = 1

[objective]
kind = "sft"

[optimizer]
beta2 = 0.999
weight_decay = 0.0
clip = 1.0

[sample]
every = 100
prompts = ["Who are you?", "Why is the sky blue? Answer in two sentences."]
tokens = 48
temperature = 0.0

[checkpoint]
every = 50
last = 2

[[stages]]
name = "sft"
length = { epochs = 2.0 }
context = 1024
micro_batch = 1
accumulate = 8
schedule = { kind = "cosine", peak = 5e-5 }
"#;

/// Tokens of a row unless the flags say.
const CONTEXT: usize = 1024;

/// Tokens of one pass through the model, about: more need more memory and are no faster.
const PASS_TOKENS: usize = 2048;

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let recipe = self.recipe()?;
        let run = self.run.folder(&recipe);
        self.run.train(&recipe)?;
        finish(&run)
    }

    fn recipe(&self) -> Result<TrainingRecipe> {
        let (text, origin) = match &self.recipe {
            Some(path) => {
                (std::fs::read_to_string(path).map_err(Error::file(Path::new(path), "read"))?, &**path)
            }
            None => (RECIPE.to_owned(), "the recipe of finetune"),
        };
        let mut overrides = self.overrides()?;
        overrides.extend(self.run.overrides.iter().cloned());
        Ok(TrainingRecipe::parse(&text, origin, &overrides)?)
    }

    /// What the flags say, as overrides of recipe keys.
    fn overrides(&self) -> Result<Vec<String>> {
        let mut set = vec![format!("init_from={}", text(&self.model))];
        let mut given =
            |key: &str, value: Option<String>| set.extend(value.map(|value| format!("{key}={value}")));
        let without_recipe = self.recipe.is_none();
        given("name", without_recipe.then(|| text(&run_name(&self.model, "sft"))));
        given("data.files", (!self.data.is_empty()).then(|| list(&self.data)));
        let held_out = match &self.held_out[..] {
            [] => None,
            [one] if one.parse::<f64>().is_ok() => Some(one.clone()),
            files => Some(list(files)),
        };
        let measures = held_out.is_some() && without_recipe;
        given("data.held_out", held_out);
        given("validation.every", measures.then(|| "25".to_owned()));
        given("stages.*.length", self.epochs.map(|epochs| format!("{{ epochs = {epochs:?} }}")));
        let context = match self.context {
            None if without_recipe => Some(CONTEXT.min(init_from::open(&self.model)?.config.context)),
            given => given,
        };
        given("stages.*.context", context.map(|context| context.to_string()));
        let context = context.unwrap_or(CONTEXT);
        if let Some(batch) = self.batch.map(usize::from).or(without_recipe.then_some(8)) {
            let micro = (1..=batch).rev().find(|micro| batch % micro == 0 && micro * context <= PASS_TOKENS);
            let micro = micro.unwrap_or(1);
            given("stages.*.micro_batch", Some(micro.to_string()));
            given("stages.*.accumulate", Some((batch / micro).to_string()));
        }
        let rate = self.learning_rate.or((without_recipe && self.lora.is_some()).then_some(5e-4));
        given("stages.*.schedule.peak", rate.map(|rate| format!("{rate:e}")));
        let targets = self.targets.map(|targets| match targets {
            SftTargets::Assistant => text("assistant"),
            SftTargets::All => text("all"),
        });
        given("objective.targets", targets);
        given("adapter.rank", self.lora.map(|rank| rank.to_string()));
        given("adapter.alpha", self.alpha.map(|alpha| format!("{alpha:?}")));
        Ok(set)
    }
}
