//! Checks of what a run begins with, what it minimizes, and its data.

use super::check::{Faults, Range};
use super::fault::{Fault, nearest};
use super::{DpoLoss, HeldOut, ObjectiveKeys, Stage, TrainingRecipe, Validation};

impl Faults {
    /// The model that the run begins with, and what of it is trained.
    pub(super) fn start(&mut self, recipe: &TrainingRecipe) {
        let named = recipe.init_from.as_ref().is_none_or(|source| !source.trim().is_empty());
        self.require(named, "init_from", || {
            "expected a model (a folder, a file, or a name of the catalogue), found an empty text".into()
        });
        let what = match (&recipe.adapter, &recipe.objective) {
            (Some(_), _) => Some(("adapter", "an adapter is trained beside the weights of a model")),
            (_, ObjectiveKeys::Pretrain) => None,
            _ => Some(("objective", "this objective tunes a model")),
        };
        if let (Some((key, what)), None) = (what, &recipe.init_from) {
            let what = format!("{what}: expected init_from, as in init_from = \"smollm2-135m\", found none");
            self.0.push(Fault::of_key(key, what));
        }
        if let Some(adapter) = &recipe.adapter {
            self.adapter(adapter, &recipe.freeze);
        }
        if let ObjectiveKeys::Distill(_) = recipe.objective {
            self.require(recipe.freeze.is_empty(), "freeze", || {
                "objective.kind = \"distill\" moves every quantized matrix: expected none, found some; leave the key out"
                    .into()
            });
            self.require(recipe.optimizer.z_loss.is_none(), "optimizer.z_loss", || {
                "expected none, found a weight: the loss of objective.kind = \"distill\" has no such term"
                    .into()
            });
        }
    }

    pub(super) fn objective(&mut self, objective: &ObjectiveKeys) {
        match objective {
            ObjectiveKeys::Pretrain => {}
            ObjectiveKeys::Sft(sft) => {
                self.require(sft.max_length != Some(0), "objective.max_length", || {
                    "expected at least 1 token, found 0; leave the key out for the stage's context".into()
                });
            }
            ObjectiveKeys::Dpo(dpo) => {
                self.number("objective.beta", dpo.beta, Range::Positive);
                self.number("objective.sft_weight", dpo.sft_weight, Range::NotNegative);
                let smoothing = dpo.label_smoothing;
                self.require((0.0..0.5).contains(&smoothing), "objective.label_smoothing", || {
                    format!("expected a share from 0 to below 0.5, found {smoothing}")
                });
                self.require(
                    smoothing == 0.0 || dpo.loss == DpoLoss::Robust,
                    "objective.label_smoothing",
                    || "only objective.loss = \"robust\" takes label smoothing".into(),
                );
            }
            ObjectiveKeys::Distill(distill) => {
                self.require(!distill.quant.trim().is_empty(), "objective.quant", || {
                    "expected a preset such as q4, or the file of a quantization recipe, found an empty text"
                        .into()
                });
            }
        }
    }

    pub(super) fn data(&mut self, recipe: &TrainingRecipe) {
        let (data, kind) = (&recipe.data, recipe.objective.kind());
        if recipe.objective.reads_token_sets() {
            self.require(!data.sets.is_empty(), "data.sets", || {
                "expected at least one token set, as in train = \"tokens/train\", found none".into()
            });
            for (key, given) in
                [("data.files", !data.files.is_empty()), ("data.held_out", data.held_out.is_some())]
            {
                self.require(!given, key, || {
                    format!("an objective of kind = \"{kind}\" reads token sets: use data.sets")
                });
            }
        } else {
            self.require(!data.files.is_empty(), "data.files", || {
                "expected at least one file, as in files = [\"chats.jsonl\"], found none".into()
            });
            self.require(data.sets.is_empty(), "data.sets", || {
                format!("an objective of kind = \"{kind}\" reads files of examples: use data.files")
            });
        }
        for (index, path) in data.files.iter().enumerate() {
            self.require(!path.as_os_str().is_empty(), format!("data.files.{index}"), || {
                "expected a file, found an empty path".into()
            });
        }
        match &data.held_out {
            Some(HeldOut::Share(share)) => self.number("data.held_out", *share, Range::BelowOne),
            Some(HeldOut::Files(files)) => {
                let named = !files.is_empty() && files.iter().all(|path| !path.as_os_str().is_empty());
                self.require(named, "data.held_out", || {
                    "expected files, or a share such as 0.05; found no file or an empty path".into()
                });
            }
            None => {}
        }
        for (name, path) in &data.sets {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
            self.require(plain && !name.is_empty(), format!("data.sets.{name}"), || {
                format!("expected a name of letters, digits, - and _, found {name:?}")
            });
            self.require(!path.as_os_str().is_empty(), format!("data.sets.{name}"), || {
                "expected the folder of a token set, found an empty path".into()
            });
        }
    }

    /// Where the held-out data come from.
    pub(super) fn held_out(&mut self, recipe: &TrainingRecipe, validation: &Validation) {
        let kind = recipe.objective.kind();
        if !recipe.objective.reads_token_sets() {
            self.require(validation.set.is_none(), "validation.set", || {
                format!("an objective of kind = \"{kind}\" has no token sets: use data.held_out")
            });
            self.require(recipe.data.held_out.is_some(), "validation", || {
                "expected data.held_out, as in held_out = 0.05, found none; or leave [validation] out".into()
            });
            return;
        }
        let Some(set) = &validation.set else {
            self.0.push(Fault::of_key(
                "validation.set",
                "expected the name of a set in [data.sets], found none",
            ));
            return;
        };
        self.set_exists(recipe, "validation.set", set);
        let path = recipe.data.sets.get(set);
        let same = recipe.data.sets.iter().filter(|(_, other)| Some(*other) == path);
        let same: Vec<&String> = same.map(|(name, _)| name).collect();
        let trains = |stage: &&Stage| same.iter().any(|name| stage.share(name) > 0.0);
        if let Some(stage) = recipe.stages.iter().find(trains) {
            self.0.push(Fault::of_key(
                "validation.set",
                format!(
                    "stage `{}` trains on `{set}`, so its perplexity would say nothing; hold a set out",
                    stage.name
                ),
            ));
        }
    }

    fn set_exists(&mut self, recipe: &TrainingRecipe, key: &str, set: &str) {
        self.require(recipe.data.sets.contains_key(set), key, || {
            let names: Vec<&str> = recipe.data.sets.keys().map(String::as_str).collect();
            let near = nearest(set, &names);
            let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            format!("no set `{set}` in [data.sets]; {near}there are: {}", names.join(", "))
        });
    }

    pub(super) fn mixture(&mut self, recipe: &TrainingRecipe, index: usize, stage: &Stage) {
        if !recipe.objective.reads_token_sets() {
            self.require(stage.mixture.is_empty(), format!("stages.{index}.mixture"), || {
                let kind = recipe.objective.kind();
                format!("an objective of kind = \"{kind}\" reads all of data.files; leave the key out")
            });
            return;
        }
        for (set, weight) in &stage.mixture {
            let key = format!("stages.{index}.mixture.{set}");
            self.set_exists(recipe, &key, set);
            self.number(key, *weight, Range::NotNegative);
        }
        let sum: f64 = stage.mixture.values().sum();
        // NaN and negative weights are reported above.
        self.require(sum != 0.0 && !stage.mixture.is_empty(), format!("stages.{index}.mixture"), || {
            "expected at least one set with a weight above 0, found none".into()
        });
        let overflows = sum.is_infinite() && stage.mixture.values().all(|weight| weight.is_finite());
        self.require(!overflows, format!("stages.{index}.mixture"), || {
            "the weights are too large to be added up; they are shares, such as 0.6 and 0.4".into()
        });
    }
}
