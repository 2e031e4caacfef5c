use super::*;
use crate::schedule::ScheduleKind;

const SMALL: &str = r#"name = "small"
[model]
hidden = 64
layers = 2
heads = 4
kv_heads = 2
ffn = 160
vocab = 256
context = 128
[data.sets]
train = "tokens/train"
other = "tokens/other"
held-out = "tokens/held-out"
[validation]
set = "held-out"
every = 10
[[stages]]
name = "one"
length = { steps = 100 }
context = 64
micro_batch = 2
mixture = { train = 3, other = 1 }
schedule = { kind = "cosine", peak = 1e-3, warmup = 5 }
"#;

pub(super) fn with(overrides: &[&str]) -> Result<TrainingRecipe, RecipeError> {
    let overrides: Vec<String> = overrides.iter().map(|set| (*set).to_owned()).collect();
    TrainingRecipe::parse(SMALL, "small.toml", &overrides)
}

/// The one fault of a text that is `SMALL` with `from` replaced by `to`.
fn fault_of(from: &str, to: &str) -> Fault {
    assert!(SMALL.contains(from), "{from}");
    let error = TrainingRecipe::parse(&SMALL.replacen(from, to, 1), "small.toml", &[]).unwrap_err();
    assert_eq!(error.faults.len(), 1, "{error}");
    error.faults[0].clone()
}

fn sentence_of(set: &str) -> String {
    with(&[set]).unwrap_err().to_string()
}

#[test]
fn built_in_recipes_load_by_their_bare_names_and_survive_being_written() {
    for (name, _) in BUILT_IN {
        let recipe = TrainingRecipe::load(name, &[]).unwrap();
        assert_eq!(recipe.name, name);
        let text = recipe.to_toml().unwrap();
        assert_eq!(TrainingRecipe::parse(&text, "resolved", &[]).unwrap(), recipe, "{text}");
    }
    let error = TrainingRecipe::load("tiny-cpuu", &[]).unwrap_err();
    assert!(error.to_string().contains("Did you mean `tiny-cpu`?"), "{error}");
    assert!(matches!(
        TrainingRecipe::load("none/such.toml", &[]).unwrap_err(),
        crate::error::Error::File { .. }
    ));
}

#[test]
fn the_70m_recipe_is_the_published_run() {
    let recipe = TrainingRecipe::load("smollm2-70m", &[]).unwrap();
    assert_eq!(recipe.compute.precision, Precision::Bf16);
    assert_eq!(recipe.optimizer.weight_decay, 0.1);
    let model = &recipe.model;
    assert_eq!(
        (model.hidden, model.layers, model.heads, model.kv_heads, model.head_width(), model.ffn),
        (384, 32, 6, 2, 64, 1024)
    );
    assert_eq!((model.vocab, model.context, model.tied), (49_152, 8192, true));
    let rates: Vec<(f64, f64)> = recipe.stages.iter().map(|s| (s.schedule.peak, s.schedule.floor)).collect();
    assert_eq!(rates, [(3e-4, 3e-5), (1e-4, 1e-5), (3e-5, 3e-6)]);
    for stage in &recipe.stages {
        assert_eq!((stage.micro_batch, stage.accumulate, stage.context), (4, 8, 8192));
        assert_eq!(stage.tokens_per_step(), 262_144);
        assert_eq!(stage.length, Length::Epochs(1.0));
        assert_eq!(stage.schedule.kind, ScheduleKind::Cosine);
        assert_eq!(stage.steps(Some(10_200_000_000)), Some(38_909));
        assert_eq!(stage.steps(None), None);
    }
}

#[test]
fn the_stages_recipe_mixes_as_the_paper_does() {
    let recipe = TrainingRecipe::load("smollm2-stages", &[]).unwrap();
    for stage in &recipe.stages {
        let sum: f64 = stage.mixture.values().sum();
        assert!((sum - 1.0).abs() < 1e-9, "{}: {sum}", stage.name);
    }
    let tokens: Vec<u64> =
        recipe.stages.iter().map(|s| s.steps(None).unwrap() * s.tokens_per_step()).collect();
    for (tokens, expected) in tokens.iter().zip([6e9, 2e9, 2e9, 925e6, 75e6]) {
        assert!((*tokens as f64 - expected).abs() < 262_144.0, "{tokens} {expected}");
    }
    // The extension is 60% of stage 4 and 40% of long documents.
    let [.., fourth, long] = recipe.stages.as_slice() else { panic!("two stages") };
    for (set, share) in &fourth.mixture {
        assert!((long.share(set) - 0.6 * share).abs() < 1e-9, "{set}");
    }
    // One straight line from the peak to zero over both.
    assert_eq!(fourth.schedule.floor, long.schedule.peak);
    assert!((fourth.schedule.floor / fourth.schedule.peak - 75.0 / 1000.0).abs() < 1e-12);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_the_nearest_name_and_the_known_ones() {
    let fault = fault_of("micro_batch = 2", "microbatch = 2");
    assert_eq!((fault.line(), fault.key.as_str()), (Some(21), "stages.0.microbatch"));
    assert!(fault.what.starts_with("did you mean `micro_batch`? unknown key; known here: name, length, "));
    let fault = fault_of("[model]", "[modell]");
    assert_eq!((fault.line(), fault.key.as_str()), (Some(2), "modell"));
    let fault = fault_of("peak = 1e-3", "peek = 1e-3");
    assert_eq!((fault.line(), fault.key.as_str()), (Some(23), "stages.0.schedule.peek"));
    assert!(fault.what.contains("did you mean `peak`?"), "{fault}");
    assert_eq!(
        fault_of("layers = 2", "zzz = 2").what,
        "unknown key; known here: hidden, layers, heads, kv_heads, head_dim, ffn, vocab, context, rope_theta, \
         rope_scaling, rms_norm_eps, tied, qkv_bias, qk_norm, window, pattern, init_std"
    );
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_line_and_key() {
    for (from, to, line, key, part) in [
        (
            "hidden = 64",
            "hidden = \"64\"",
            3,
            "model.hidden",
            "expected a whole number that is not negative, found the string \"64\"",
        ),
        ("hidden = 64", "hidden = -64", 3, "model.hidden", "found -64"),
        ("hidden = 64", "hidden = 64.5", 3, "model.hidden", "found 64.5"),
        ("hidden = 64", "hidden = 1e300", 3, "model.hidden", "found 1"),
        ("layers = 2\n", "", 2, "model.layers", "missing"),
        (
            "{ steps = 100 }",
            "{ stepz = 100 }",
            19,
            "stages.0.length.stepz",
            "did you mean `steps`? unknown key",
        ),
        (
            "{ steps = 100 }",
            "{ steps = 1, epochs = 1 }",
            19,
            "stages.0.length",
            "exactly one of the keys steps, tokens, epochs",
        ),
        ("{ steps = 100 }", "\"steps\"", 19, "stages.0.length", "{ steps = ... }"),
        ("{ steps = 100 }", "100", 19, "stages.0.length", "found 100"),
        (
            "\"cosine\"",
            "\"cosin\"",
            23,
            "stages.0.schedule.kind",
            "did you mean `cosine`? `cosin` is not one of cosine, trapezoidal, constant",
        ),
        ("peak = 1e-3", "peak = \"big\"", 23, "stages.0.schedule.peak", "expected a number"),
        ("train = 3", "train = true", 22, "stages.0.mixture.train", "expected a number, found true"),
        ("[[stages]]", "[stages]", 17, "stages", "expected a list, found a table"),
        ("name = \"small\"", "name = 2024-01-01", 1, "name", "date"),
        ("train = 3", "train = 2024-01-01", 22, "stages.0.mixture.train", "date"),
        (
            "{ kind = \"cosine\", peak = 1e-3, warmup = 5 }",
            "[\"cosine\", 1e-3]",
            23,
            "stages.0.schedule",
            "found a list",
        ),
        ("hidden = 64", "hidden = 99999999999999999999", 3, "", "not TOML"),
        ("hidden = 64", "hidden = = 64", 3, "", "not TOML"),
        ("hidden = 64", "hidden = 64\nhidden = 65", 4, "", "not TOML"),
    ] {
        let fault = fault_of(from, to);
        assert_eq!((fault.line(), fault.key.as_str()), (Some(line), key), "{fault}");
        assert!(fault.what.contains(part), "{fault}");
    }
}

#[test]
fn every_key_can_be_overridden_and_created() {
    let recipe = with(&[
        "name=try-2",
        "seed=7",
        "optimizer.clip=0.5",
        "optimizer.z_loss=1e-4",
        "stages.0.context=32",
        "stages.0.length={tokens=1e6}",
        "stages.0.mixture.other=0",
        "stages.0.schedule.kind=trapezoidal",
        "stages.0.rope_theta=5e5",
        "compute.document_mask=true",
        "sample.prompts=[\"a\", \"b\"]",
        "sample.every=3",
        "guard.loss_spike=2",
        "model.head_dim=32",
        "data.sets.train=elsewhere/x.y",
        "validation.windows=4",
    ])
    .unwrap();
    assert_eq!((recipe.name.as_str(), recipe.seed), ("try-2", 7));
    assert_eq!((recipe.optimizer.clip, recipe.optimizer.z_loss), (Some(0.5), Some(1e-4)));
    assert_eq!(recipe.stages[0].length, Length::Tokens(1_000_000));
    assert_eq!(recipe.stages[0].steps(None), Some(15_625));
    assert_eq!((recipe.stages[0].context, recipe.stages[0].share("train")), (32, 1.0));
    assert_eq!(recipe.stages[0].schedule.kind, ScheduleKind::Trapezoidal);
    assert_eq!(recipe.stages[0].rope_theta, Some(5e5));
    assert!(recipe.compute.document_mask);
    assert_eq!(recipe.sample.as_ref().map(|sample| sample.prompts.len()), Some(2));
    assert_eq!((recipe.guard.loss_spike, recipe.guard.window), (Some(2.0), 100));
    assert_eq!((recipe.model.head_width(), recipe.validation.as_ref().unwrap().windows), (32, Some(4)));
    assert_eq!(recipe.data.sets["train"], PathBuf::from("elsewhere/x.y"));
    assert_eq!(TrainingRecipe::parse(&recipe.to_toml().unwrap(), "again", &[]).unwrap(), recipe);
}

#[test]
fn none_switches_off_what_has_a_default() {
    let recipe = with(&["optimizer.clip=none", "validation=none"]).unwrap();
    assert_eq!((recipe.optimizer.clip, &recipe.validation), (None, &None));
    assert_eq!(TrainingRecipe::parse(&recipe.to_toml().unwrap(), "again", &[]).unwrap(), recipe);
    assert_eq!(with(&[]).unwrap().optimizer.clip, Some(1.0));
    let json = serde_json::to_string(&recipe).unwrap();
    assert_eq!(serde_json::from_str::<TrainingRecipe>(&json).unwrap(), recipe);
}

#[test]
fn an_override_reaches_all_stages_or_adds_one() {
    let add = "stages.1={name=\"two\", length={epochs=0.5}, context=64, micro_batch=1, mixture={train=1}, \
               schedule={kind=\"constant\", peak=1e-4}}";
    let recipe = with(&[add, "stages.*.micro_batch=4"]).unwrap();
    assert_eq!(recipe.stages.iter().map(|stage| stage.micro_batch).collect::<Vec<_>>(), [4, 4]);
    assert_eq!(recipe.stages[1].steps(Some(1024)), Some(2));
}

#[test]
fn overrides_that_are_wrong_name_themselves() {
    for (set, part) in [
        ("optimiser.clip=1", "--set 'optimiser.clip=1': optimiser: did you mean `optimizer`? unknown key"),
        ("stages.0.contxt=1", "--set 'stages.0.contxt=1': stages.0.contxt: did you mean `context`?"),
        (
            "stages.0.context=big",
            "stages.0.context: expected a whole number that is not negative, found the string \"big\"",
        ),
        ("stages.5.context=1", "there is no element 5: the list has 1"),
        ("stages.first.context=1", "`first` is not an index"),
        ("stages.0.context.x=1", "stages.0.context: holds 64, so it has no key `x` inside"),
        ("stages.0.length={steps=100", "not a TOML value"),
        ("stages.0.length.tokens=5", "exactly one of the keys"),
        ("seed", "expected KEY=VALUE"),
        ("=1", "empty part"),
        ("model..hidden=1", "empty part"),
        ("stages.0.context=256", "stages.0.context: expected at most model.context = 128, found 256"),
        ("seed=", "not a TOML value"),
    ] {
        let said = sentence_of(set);
        assert!(said.contains(part) && said.contains("--set"), "{set}: {said}");
    }
    assert_eq!(crate::error::Error::from(with(&["seed=x"]).unwrap_err()).exit_code(), 2);
}

#[test]
fn what_cannot_be_trained_is_refused_in_a_sentence() {
    for (set, key, part) in [
        ("model.hidden=0", "model.hidden", "expected at least 1, found 0"),
        ("model.layers=999999999", "model.layers", "expected at most"),
        ("model.heads=3", "model.kv_heads", "must divide model.heads = 3, found 2"),
        ("model.hidden=66", "model.heads", "must divide model.hidden = 66"),
        ("model.head_dim=15", "model.head_dim", "must be even"),
        ("model.hidden=60", "model.head_dim", "must be even"),
        ("model.rope_theta=nan", "model.rope_theta", "found NaN"),
        ("model.init_std=inf", "model.init_std", "found inf"),
        ("data.sets.a/b=\"x\"", "data.sets.a/b", "letters, digits"),
        ("optimizer.beta1=1", "optimizer.beta1", "from 0 to below 1"),
        ("optimizer.clip=0", "optimizer.clip", "above 0"),
        ("optimizer.weight_decay=-0.1", "optimizer.weight_decay", "0 or above"),
        ("validation.set=held_out", "validation.set", "did you mean `held-out`?"),
        ("validation.set=train", "validation.set", "stage `one` trains on"),
        ("data.sets.held-out=tokens/train", "validation.set", "stage `one` trains on"),
        ("stages.0.mixture={train=1e308,other=1e308}", "stages.0.mixture", "too large"),
        ("stages.0.length={steps=9e15}", "stages.0.length", "exceed the limit of"),
        ("stages.0.accumulate=1e9", "stages.0.accumulate", "at most 1048576"),
        ("validation.every=0", "validation.every", "at least 1"),
        ("checkpoint.last=0", "checkpoint.last", "at least 1"),
        ("stages=[]", "stages", "at least one stage"),
        ("stages.0.micro_batch=0", "stages.0.micro_batch", "at least 1"),
        ("stages.0.length={epochs=nan}", "stages.0.length.epochs", "found NaN"),
        ("stages.0.length={steps=0}", "stages.0.length", "more than 0"),
        ("stages.0.mixture={trian=1}", "stages.0.mixture.trian", "no set `trian`"),
        ("stages.0.mixture={}", "stages.0.mixture", "weight above 0"),
        ("stages.0.mixture={train=0}", "stages.0.mixture", "weight above 0"),
        ("stages.0.mixture.train=-1", "stages.0.mixture.train", "found -1"),
        ("stages.0.mixture.train=nan", "stages.0.mixture.train", "found NaN"),
        ("stages.0.schedule.floor=1", "stages.0.schedule.floor", "at most the peak 0.001, found 1"),
        ("stages.0.schedule.warmup=101", "stages.0.schedule.warmup", "more than the stage's 100 steps"),
        (
            "stages.0.schedule={kind=\"trapezoidal\",peak=1,warmup=90}",
            "stages.0.schedule.cooldown",
            "20 steps of cool-down and 90",
        ),
        ("stages.0.schedule.cooldown=1.5", "stages.0.schedule.cooldown", "share"),
        ("name=\"a/b\"", "name", "names the run folder"),
    ] {
        let error = with(&[set]).unwrap_err();
        let fault = error.faults.iter().find(|fault| fault.key == key);
        let fault = fault.unwrap_or_else(|| panic!("{set}: {error}"));
        assert!(fault.what.contains(part), "{set}: {fault}");
    }
    // All faults at once, each with its own line.
    let text = SMALL.replace("layers = 2", "layers = 0").replace("every = 10", "every = 0");
    let error = TrainingRecipe::parse(&text, "small.toml", &[]).unwrap_err();
    let lines: Vec<_> = error.faults.iter().map(Fault::line).collect();
    assert_eq!(lines, [Some(4), Some(16)], "{error}");
}
