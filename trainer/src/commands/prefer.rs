//! `thimble-train prefer`.

use super::run_flags::RunFlags;
use super::tuning::{TuningDefaults, TuningFlags, finish};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::recipe::DpoLoss;

/// The recipe that the flags change.
const RECIPE: &str = include_str!("../../recipes/prefer.toml");

const DEFAULTS: TuningDefaults =
    TuningDefaults { kind: "dpo", epochs: 1.0, batch: 16, adapter_learning_rate: 1e-5 };

/// Train a model on preferences between two answers (DPO).
///
/// The files hold rows with prompt, chosen and rejected, as strings, messages or whole conversations: .jsonl, .json (also
/// .gz or .zst) or .parquet. The log-probabilities of the model itself, the reference, are computed before the first step
/// and kept in the run folder, whose recipe.toml holds all keys. The tuned model is exported to RUN/export.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    tuning: TuningFlags,
    /// How strongly the model is held at the reference [default: 0.1]
    #[arg(long, value_name = "X", value_parser = super::shared::positive)]
    beta: Option<f64>,
    /// The loss of a pair [default: sigmoid]
    #[arg(long)]
    loss: Option<DpoLoss>,
    /// Share of pairs that are assumed to be labelled the wrong way round, with --loss robust
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// Weight of the chosen answers' mean negative log-likelihood, added to the loss [default: 0]
    #[arg(long, value_name = "X")]
    sft_weight: Option<f64>,
    #[command(flatten)]
    run: RunFlags,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let mut sets = self.tuning.sets(DEFAULTS)?;
        let mut number = |key: &str, value: Option<f64>| {
            sets.extend(value.map(|value| format!("objective.{key}={value:?}")));
        };
        number("beta", self.beta);
        number("label_smoothing", self.label_smoothing);
        number("sft_weight", self.sft_weight);
        if let Some(loss) = self.loss {
            let loss = toml::Value::try_from(loss).map_err(|error| Error::Invalid(error.to_string()))?;
            sets.push(format!("objective.loss={loss}"));
        }
        let recipe = self.run.build(self.tuning.recipe.as_deref(), RECIPE, sets)?;
        let run = self.run.folder(&recipe);
        self.run.train(&recipe)?;
        finish(&run)
    }
}
