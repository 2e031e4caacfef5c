//! The `[objective]` table: what a run minimizes, and that kind's own keys.

use super::{Stage, optional};
use serde::{Deserialize, Serialize};

/// What a run minimizes; `kind` names the variant, and each kind has its own keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", try_from = "ObjectiveTable")]
pub enum ObjectiveKeys {
    /// The next token of windows of the token sets.
    #[default]
    Pretrain,
    /// Supervised fine-tuning: the answers of conversations.
    Sft(SftKeys),
    /// Preferences between two answers (Rafailov et al. 2023).
    Dpo(DpoKeys),
    /// Self-distillation through the rounding of an encoding, from the model that the run begins with.
    Distill(DistillKeys),
}

/// Keys of `kind = "sft"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SftKeys {
    /// Which tokens are targets.
    pub targets: SftTargets,
    /// Several short conversations share a sequence; each sees only itself.
    pub packing: bool,
    /// Shuffle the conversations anew each epoch; else they keep the order of the files.
    pub shuffle: bool,
    /// Longest conversation in tokens, whose start is kept; none: the stage's context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
}

/// Which tokens of a conversation are targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SftTargets {
    /// The assistant's answers, each with its end token.
    #[default]
    Assistant,
    /// Every token.
    All,
}

/// Keys of `kind = "dpo"`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DpoKeys {
    /// The loss of a pair.
    pub loss: DpoLoss,
    /// Strength of the tie to the reference model.
    pub beta: f64,
    /// Share of the pairs that are assumed to be labelled the wrong way round; of `robust` only.
    pub label_smoothing: f64,
    /// Weight of the chosen answers' mean negative log-likelihood, added to the loss; 0: off.
    pub sft_weight: f64,
    /// Shuffle the pairs anew each epoch; else they keep the order of the files.
    pub shuffle: bool,
}

/// The loss of a preference pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum DpoLoss {
    /// `-log sigmoid(beta x margin)` (Rafailov et al. 2023).
    #[default]
    Sigmoid,
    /// The same, corrected for wrong labels (Chowdhury et al. 2024).
    Robust,
    /// Squared distance of the margin per token from `1 / (2 beta)` (Azar et al. 2023).
    Ipo,
    /// `sigmoid` on the margin per token.
    SigmoidNorm,
}

/// Keys of `kind = "distill"`, and of the table `quantize` of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillKeys {
    /// The encodings whose rounding the forward pass sees: a preset of the converter (`q3`, `q4`), or the file of a
    /// quantization recipe.
    pub quant: String,
    /// Whether the encoding's scales are trained.
    #[serde(default)]
    pub scales: QuantizationScales,
}

/// Whether the scales of an encoding are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuantizationScales {
    /// They stay as the calibrated conversion chose them.
    Fixed,
    /// They follow the weights.
    #[default]
    Trained,
}

/// The table as it is written: the keys of all kinds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectiveTable {
    #[serde(default)]
    kind: Kind,
    targets: Option<SftTargets>,
    packing: Option<bool>,
    shuffle: Option<bool>,
    #[serde(default, deserialize_with = "optional::or_none")]
    max_length: Option<usize>,
    loss: Option<DpoLoss>,
    beta: Option<f64>,
    label_smoothing: Option<f64>,
    sft_weight: Option<f64>,
    quant: Option<String>,
    scales: Option<QuantizationScales>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Pretrain,
    Sft,
    Dpo,
    Distill,
}

impl Kind {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Pretrain => &[],
            Kind::Sft => &["targets", "packing", "shuffle", "max_length"],
            Kind::Dpo => &["loss", "beta", "label_smoothing", "sft_weight", "shuffle"],
            Kind::Distill => &["quant", "scales"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Pretrain => "pretrain",
            Kind::Sft => "sft",
            Kind::Dpo => "dpo",
            Kind::Distill => "distill",
        }
    }
}

impl TryFrom<ObjectiveTable> for ObjectiveKeys {
    type Error = String;

    fn try_from(table: ObjectiveTable) -> Result<ObjectiveKeys, String> {
        let kind = table.kind;
        let written = [
            ("targets", table.targets.is_some()),
            ("packing", table.packing.is_some()),
            ("shuffle", table.shuffle.is_some()),
            ("max_length", table.max_length.is_some()),
            ("loss", table.loss.is_some()),
            ("beta", table.beta.is_some()),
            ("label_smoothing", table.label_smoothing.is_some()),
            ("sft_weight", table.sft_weight.is_some()),
            ("quant", table.quant.is_some()),
            ("scales", table.scales.is_some()),
        ];
        let foreign = written.iter().find(|(key, written)| *written && !kind.keys().contains(key));
        if let Some((key, _)) = foreign {
            let keys = match kind.keys() {
                [] => "it has no keys".to_owned(),
                keys => format!("its keys are {}", keys.join(", ")),
            };
            return Err(format!("{key} is not a key of kind = \"{}\": {keys}", kind.name()));
        }
        Ok(match kind {
            Kind::Pretrain => ObjectiveKeys::Pretrain,
            Kind::Sft => {
                let defaults = SftKeys::default();
                ObjectiveKeys::Sft(SftKeys {
                    targets: table.targets.unwrap_or(defaults.targets),
                    packing: table.packing.unwrap_or(defaults.packing),
                    shuffle: table.shuffle.unwrap_or(defaults.shuffle),
                    max_length: table.max_length,
                })
            }
            Kind::Dpo => {
                let defaults = DpoKeys::default();
                ObjectiveKeys::Dpo(DpoKeys {
                    loss: table.loss.unwrap_or(defaults.loss),
                    beta: table.beta.unwrap_or(defaults.beta),
                    label_smoothing: table.label_smoothing.unwrap_or(defaults.label_smoothing),
                    sft_weight: table.sft_weight.unwrap_or(defaults.sft_weight),
                    shuffle: table.shuffle.unwrap_or(defaults.shuffle),
                })
            }
            Kind::Distill => {
                let quant = table.quant.ok_or("expected the key quant, as in quant = \"q4\", found none")?;
                ObjectiveKeys::Distill(DistillKeys { quant, scales: table.scales.unwrap_or_default() })
            }
        })
    }
}

impl ObjectiveKeys {
    /// The word of `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            ObjectiveKeys::Pretrain => Kind::Pretrain,
            ObjectiveKeys::Sft(_) => Kind::Sft,
            ObjectiveKeys::Dpo(_) => Kind::Dpo,
            ObjectiveKeys::Distill(_) => Kind::Distill,
        }
        .name()
    }

    /// Sequences in one pass of a stage: a pair has two.
    pub fn sequences(&self, stage: &Stage) -> usize {
        match self {
            ObjectiveKeys::Dpo(_) => 2 * stage.micro_batch,
            _ => stage.micro_batch,
        }
    }

    /// Tokens of one optimizer step of a stage, at most: a pair has two sequences.
    pub fn tokens_per_step(&self, stage: &Stage) -> u64 {
        (self.sequences(stage) * stage.accumulate) as u64 * stage.context as u64
    }

    /// Whether it reads windows of token sets, and not examples of files.
    pub fn reads_token_sets(&self) -> bool {
        matches!(self, ObjectiveKeys::Pretrain | ObjectiveKeys::Distill(_))
    }

    pub(super) fn is_pretrain(&self) -> bool {
        *self == ObjectiveKeys::Pretrain
    }
}

impl Default for SftKeys {
    fn default() -> SftKeys {
        SftKeys { targets: SftTargets::Assistant, packing: true, shuffle: true, max_length: None }
    }
}

impl Default for DpoKeys {
    fn default() -> DpoKeys {
        DpoKeys { loss: DpoLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0, sft_weight: 0.0, shuffle: true }
    }
}
