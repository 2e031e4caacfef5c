//! `thimble-train prefer`.

use super::flag_keys::FlagKeys;
use super::run_flags::RunFlags;
use super::tuning::{TuningDefaults, TuningFlags};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::recipe::DpoLoss;

const DEFAULTS: TuningDefaults = TuningDefaults {
    command: "prefer",
    recipe: include_str!("../../recipes/prefer.toml"),
    kind: "dpo",
    epochs: 1.0,
    batch: 16,
    adapter_learning_rate: 1e-5,
};

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
    /// Share of pairs that are assumed to be labelled the wrong way round, with --loss robust [default: 0]
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
        let mut keys = FlagKeys::default();
        let numbers = [
            ("--beta", "beta", self.beta),
            ("--label-smoothing", "label_smoothing", self.label_smoothing),
            ("--sft-weight", "sft_weight", self.sft_weight),
        ];
        for (flag, key, value) in numbers {
            if let Some(value) = value {
                keys.typed(format!("{flag} {value}"), format!("objective.{key}={value:?}"));
            }
        }
        if let Some(loss) = self.loss {
            let loss = toml::Value::try_from(loss).map_err(|error| Error::Invalid(error.to_string()))?;
            keys.typed(format!("--loss {loss}"), format!("objective.loss={loss}"));
        }
        self.tuning.train(self.run, DEFAULTS, keys)
    }
}
