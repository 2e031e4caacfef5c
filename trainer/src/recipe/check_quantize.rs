//! Checks of stages that train for a quantized file.

use super::check::Faults;
use super::{ObjectiveKeys, Stage, TrainingRecipe};

impl Faults {
    /// Whether a stage can quantize, or can follow one that does.
    pub(super) fn quantize(&mut self, recipe: &TrainingRecipe, index: usize, stage: &Stage) {
        let key = format!("stages.{index}.quantize");
        let before = index.checked_sub(1).and_then(|before| recipe.stages.get(before));
        let Some(keys) = &stage.quantize else {
            if let Some(before) = before.filter(|before| before.quantize.is_some()) {
                self.require(false, key, || {
                    format!(
                        "expected the table of stage `{}`, found none: stages that quantize are the last ones",
                        before.name
                    )
                });
            }
            return;
        };
        self.require(!keys.quant.trim().is_empty(), format!("{key}.quant"), || {
            "expected a preset such as q4, or the file of a quantization recipe, found an empty text".into()
        });
        let kind = recipe.objective.kind();
        self.require(recipe.objective == ObjectiveKeys::Pretrain, key.as_str(), || {
            format!("expected an objective of kind = \"pretrain\", found kind = \"{kind}\"")
        });
        self.require(index > 0, key.as_str(), || {
            "expected a stage before it, whose model teaches, found none; for a model of init_from use the objective \
             kind = \"distill\""
                .into()
        });
        if let Some(earlier) = before.and_then(|before| before.quantize.as_ref()) {
            self.require(earlier == keys, key.as_str(), || {
                format!("expected the table of the stage before, {earlier:?}, found {keys:?}: there is one rounding")
            });
        }
        self.require(stage.rope_theta.is_none(), format!("stages.{index}.rope_theta"), || {
            "expected none, because the model that teaches was trained with the rotary base of the stage before; leave it out"
                .into()
        });
        for (other, given) in [("adapter", recipe.adapter.is_some()), ("freeze", !recipe.freeze.is_empty())] {
            self.require(!given, key.as_str(), || {
                format!("expected a recipe that trains all weights, found {other}; leave it out")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::{DistillKeys, QuantizationScales, TrainingRecipe};

    /// `smollm2-stages` with its first stage's rotary base throughout, and more overrides.
    fn recipe(more: &[&str]) -> Result<TrainingRecipe, String> {
        // With the epsilon the model is complete: `init_from` is not read for it.
        let base = ["stages.4.rope_theta=none", "model.rms_norm_eps=1e-5"];
        let overrides: Vec<String> = base.iter().chain(more).map(|set| (*set).to_owned()).collect();
        TrainingRecipe::load("smollm2-stages", &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn the_last_stages_may_quantize() {
        let last = r#"stages.4.quantize={quant="q4"}"#;
        let keys = DistillKeys { quant: "q4".into(), scales: QuantizationScales::Trained };
        let one = recipe(&[last]).unwrap();
        assert_eq!(one.quantization(), Some((4, &keys)));
        let two = recipe(&[r#"stages.3.quantize={quant="q4"}"#, last]).unwrap();
        assert_eq!(two.quantization(), Some((3, &keys)));
        assert_eq!(recipe(&[last, "stages.4.quantize=none"]).unwrap().quantization(), None);
        let text = one.to_toml().unwrap();
        assert_eq!(TrainingRecipe::parse(&text, "resolved", &[]).unwrap(), one, "{text}");
    }

    #[test]
    fn other_combinations_are_refused_with_their_key() {
        let last = r#"stages.4.quantize={quant="q4"}"#;
        for (overrides, expected) in [
            (&[r#"stages.3.quantize={quant="q4"}"#][..], "stages.4.quantize: expected the table of stage"),
            (
                &[r#"stages.3.quantize={quant="q3"}"#, last],
                "stages.4.quantize: expected the table of the stage before",
            ),
            (&[r#"stages.*.quantize={quant="q4"}"#], "stages.0.quantize: expected a stage before it"),
            (&[r#"stages.4.quantize={quant=" "}"#], "stages.4.quantize.quant: expected a preset"),
            (&[r#"stages.4.quantize={quan="q4"}"#], "did you mean `quant`?"),
            (&[last, "stages.4.rope_theta=5e4"], "stages.4.rope_theta: expected none"),
            (&[last, r#"freeze=["norms"]"#], "expected a recipe that trains all weights, found freeze"),
            (
                &[last, r#"init_from="x""#, r#"objective={kind="distill", quant="q4"}"#],
                "stages.4.quantize: expected an objective of kind = \"pretrain\", found kind = \"distill\"",
            ),
        ] {
            let error = recipe(overrides).unwrap_err();
            assert!(error.contains(expected), "{overrides:?}: {error}");
        }
    }
}
