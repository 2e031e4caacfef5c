use super::*;

/// A recipe that tunes a model, with `data` in its `[data]` table.
fn tuning(objective: &str, data: &str, overrides: &[&str]) -> Result<TrainingRecipe, RecipeError> {
    let text = format!(
        r#"name = "tuned"
init_from = "smollm2-135m"
[model]
hidden = 64
layers = 2
heads = 4
kv_heads = 2
ffn = 160
vocab = 256
context = 128
rope_theta = 10_000.0
rms_norm_eps = 1e-5
tied = true
[objective]
{objective}
[data]
{data}
[validation]
every = 10
[[stages]]
name = "one"
length = {{ epochs = 2 }}
context = 64
micro_batch = 2
schedule = {{ kind = "cosine", peak = 1e-3 }}
"#
    );
    let overrides: Vec<String> = overrides.iter().map(|set| (*set).to_owned()).collect();
    TrainingRecipe::parse(&text, "tuned.toml", &overrides)
}

const FILES: &str = "files = [\"a.jsonl\"]\nheld_out = 0.1";

#[test]
fn each_kind_has_its_keys_and_defaults_and_survives_being_written() {
    let sft = tuning("kind = \"sft\"", FILES, &["objective.targets=all", "adapter={rank=8}"]).unwrap();
    let keys = SftKeys { targets: SftTargets::All, packing: true, shuffle: true, max_length: None };
    assert_eq!(sft.objective, ObjectiveKeys::Sft(keys));
    assert_eq!(sft.data.held_out, Some(HeldOut::Share(0.1)));
    assert_eq!(sft.adapter, Some(AdapterKeys::of_rank(8)));
    let files = "files = [\"a.jsonl\"]\nheld_out = [\"b.jsonl\"]";
    let dpo = tuning("kind = \"dpo\"\nloss = \"robust\"\nlabel_smoothing = 0.1", files, &[]).unwrap();
    let keys = DpoKeys { loss: DpoLoss::Robust, beta: 0.1, label_smoothing: 0.1, ..DpoKeys::default() };
    assert_eq!(dpo.objective, ObjectiveKeys::Dpo(keys));
    assert_eq!(dpo.data.held_out, Some(HeldOut::Files(vec!["b.jsonl".into()])));
    for recipe in [sft, dpo] {
        let text = recipe.to_toml().unwrap();
        assert_eq!(TrainingRecipe::parse(&text, "resolved", &[]).unwrap(), recipe, "{text}");
    }
}

#[test]
fn a_recipe_of_pretraining_is_written_as_it_always_was() {
    let text = TrainingRecipe::load("tiny-cpu", &[]).unwrap().to_toml().unwrap();
    for key in ["objective", "init_from", "freeze", "adapter", "files", "held_out"] {
        assert!(!text.contains(key), "{key}: {text}");
    }
}

#[test]
fn what_does_not_go_together_is_refused_with_its_key() {
    let sft = "kind = \"sft\"";
    for (objective, data, set, key, part) in [
        (sft, FILES, "objective.beta=0.1", "objective", "beta is not a key of kind = \"sft\": its keys are"),
        (sft, FILES, "objective.betta=0.1", "objective.betta", "did you mean `beta`?"),
        (sft, FILES, "objective.kind=pretrain", "data.files", "use data.sets"),
        (sft, FILES, "objective.kind=stf", "objective.kind", "did you mean `sft`?"),
        (sft, FILES, "objective.packing=1", "objective.packing", "expected true or false, found 1"),
        (sft, FILES, "objective.max_length=0", "objective.max_length", "at least 1"),
        ("kind = \"distill\"", "", "seed=1", "objective", "expected the key quant"),
        ("kind = \"dpo\"", FILES, "objective.beta=0", "objective.beta", "above 0"),
        ("kind = \"dpo\"", FILES, "objective.label_smoothing=0.1", "objective.label_smoothing", "robust"),
        (
            "kind = \"dpo\"\nloss = \"robust\"",
            FILES,
            "objective.label_smoothing=0.5",
            "objective.label_smoothing",
            "0.5",
        ),
        (sft, FILES, "init_from=none", "objective", "expected init_from"),
        (sft, FILES, "data.sets={a=\"x\"}", "data.sets", "use data.files"),
        (sft, FILES, "data.files=[]", "data.files", "at least one file"),
        (sft, FILES, "data.held_out=1.5", "data.held_out", "from 0 to below 1"),
        (sft, FILES, "data.held_out=[]", "data.held_out", "found no file"),
        (sft, FILES, "data.held_out=many", "data.held_out", "a list of files, or a share"),
        (sft, FILES, "data.held_out=none", "validation", "expected data.held_out"),
        (sft, FILES, "validation.set=a", "validation.set", "use data.held_out"),
        (sft, FILES, "stages.0.mixture={a=1}", "stages.0.mixture", "leave the key out"),
        (sft, FILES, "adapter.rank=0", "adapter.rank", "at least 1"),
        (sft, FILES, "adapter={rank=8, alpha=0}", "adapter.alpha", "above 0"),
    ] {
        let error = tuning(objective, data, &[set]).unwrap_err();
        let fault = error.faults.iter().find(|fault| fault.key == key);
        let fault = fault.unwrap_or_else(|| panic!("{set}: {error}"));
        assert!(fault.what.contains(part), "{set}: {fault}");
    }
}
