//! `thimble-train finetune`.

use super::flag_keys::FlagKeys;
use super::run_flags::RunFlags;
use super::tuning::{TuningDefaults, TuningFlags};
use thimble_trainer::error::Result;
use thimble_trainer::recipe::SftTargets;

const DEFAULTS: TuningDefaults = TuningDefaults {
    command: "finetune",
    recipe: include_str!("../../recipes/finetune.toml"),
    kind: "sft",
    epochs: 2.0,
    batch: 4,
    adapter_learning_rate: 5e-4,
};

/// Tune a model on conversations.
///
/// The files hold rows that are recognized by their fields: messages, conversations (ShareGPT), instruction with output
/// or response (alpaca, Dolly), or prompt with completion; .jsonl, .json (also .gz or .zst) or .parquet. The model's own
/// chat template writes them, and the answers with their end tokens are trained. The run folder's recipe.toml holds all
/// keys, its data.json counts the data. The tuned model is exported to RUN/export.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    tuning: TuningFlags,
    /// Which tokens are trained [default: assistant]
    #[arg(long, value_enum)]
    targets: Option<SftTargets>,
    /// Give each conversation a row of its own [default: short ones share a row]
    #[arg(long)]
    no_packing: bool,
    #[command(flatten)]
    run: RunFlags,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let mut keys = FlagKeys::default();
        if let Some(targets) = self.targets {
            let targets = match targets {
                SftTargets::Assistant => "assistant",
                SftTargets::All => "all",
            };
            keys.typed(format!("--targets {targets}"), format!("objective.targets={targets}"));
        }
        if self.no_packing {
            keys.typed("--no-packing", "objective.packing=false".to_owned());
        }
        self.tuning.train(self.run, DEFAULTS, keys)
    }
}
