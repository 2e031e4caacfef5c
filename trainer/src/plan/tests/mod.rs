//! Of plans.

mod memory;

use super::*;

fn assume(memory: Option<u64>) -> Assumptions {
    Assumptions {
        device: DeviceTarget::Cuda,
        memory,
        set_tokens: BTreeMap::new(),
        examples: Err("chats.jsonl is not there".to_owned()),
        tokens_per_second: None,
        measured: None,
        price_per_hour: None,
        peak_tflops: None,
        gpu: None,
        document_tokens: 1000,
    }
}

fn load(name: &str, overrides: &[&str]) -> TrainingRecipe {
    let overrides: Vec<String> = overrides.iter().map(|set| (*set).to_owned()).collect();
    TrainingRecipe::load(name, &overrides).unwrap()
}

#[test]
fn parameters_are_those_of_the_published_models() {
    for (name, total) in
        [("smollm2-70m", 69_230_976), ("smollm2-135m", 134_515_008), ("smollm2-360m", 361_821_120)]
    {
        let parameters = ParameterCounts::of(&load(name, &[]).model.config());
        assert_eq!(parameters.total, total, "{name}");
        // The engine lays out as many.
        assert_eq!(
            crate::model::Parameters::new(&load(name, &[]).model.config()).len as u64,
            total,
            "{name}"
        );
    }
    let parameters = ParameterCounts::of(&load("smollm2-70m", &[]).model.config());
    assert_eq!((parameters.embedding, parameters.head), (18_874_368, 0));
    assert_eq!((parameters.attention, parameters.ffn, parameters.norms), (12_582_912, 37_748_736, 24_960));
    let untied = ParameterCounts::of(&load("smollm2-70m", &["model.tied=false"]).model.config());
    assert_eq!((untied.head, untied.total), (18_874_368, 69_230_976 + 18_874_368));
    // SmolLM2-1.7B, from the design.
    let large =
        ["model.hidden=2048", "model.layers=24", "model.heads=32", "model.kv_heads=32", "model.ffn=8192"];
    assert_eq!(ParameterCounts::of(&load("smollm2-70m", &large).model.config()).total, 1_711_376_384);
}

/// The figures of the trainer's design notes: linears 302 M, head 113 M, attention 604 M at 8,192, 151 M at 2,048.
#[test]
fn flops_are_those_of_the_design() {
    let model = load("smollm2-70m", &[]).model.config();
    let flops = Flops::of(&model, 8192);
    assert_eq!((flops.linears, flops.head), (301_989_888, 113_246_208));
    assert_eq!((flops.attention_causal, flops.attention_whole), (603_979_776, 1_207_959_552));
    assert_eq!(Flops::of(&model, 2048).attention_causal, 150_994_944);
    assert_eq!(flops.causal(), 1_019_215_872);
    assert_eq!((100.0 * flops.attention_causal as f64 / flops.causal() as f64).round(), 59.0);
}

/// Of frozen matrices a pass forward and the gradient of what goes in: 4 operations for each parameter and token instead of 6.
#[test]
fn adapters_frozen_parts_and_teachers_count_what_they_compute() {
    let recipe = load("laptop-lora", &[]);
    let (full, found) = (Flops::of(&recipe.model.config(), 1024), Flops::of_training(&recipe, 1024));
    let counts = ParameterCounts::of_recipe(&recipe);
    // Rank 16 on seven matrices of 576, 192 and 1536 in 30 layers.
    let inner = 16 * ((576 + 576) * 2 + (576 + 192) * 2 + (576 + 1536) * 3) * 30;
    assert_eq!((counts.total, counts.adapters, counts.trained), (134_515_008, inner, inner));
    assert_eq!(found.linears, full.linears / 6 * 4 + 6 * inner);
    assert_eq!((found.head, found.attention_whole), (full.head / 6 * 4, full.attention_whole));
    // Nothing flows back below the lowest trained layer: there, 2 operations.
    let freeze = ["embedding", "layers.0-15"].map(str::to_owned).to_vec();
    let frozen = TrainingRecipe { freeze, ..load("smollm2-70m", &[]) };
    let (full, found) = (Flops::of(&frozen.model.config(), 512), Flops::of_training(&frozen, 512));
    assert_eq!(found.linears, full.linears / 2 + full.linears / 6);
    assert_eq!(found.attention_causal, full.attention_causal / 2 + full.attention_causal / 6);
    assert_eq!(found.head, full.head / 6 * 4);
    // A stage that distills has its teacher's pass, too.
    let staged = load("smollm2-70m", &[]);
    assert_eq!(Flops::of_stage(&staged, 0, 512), Flops::of(&staged.model.config(), 512));
    let mut distilled = staged.clone();
    let keys = crate::recipe::DistillKeys { quant: "q4".into(), scales: Default::default() };
    distilled.objective = crate::recipe::ObjectiveKeys::Distill(keys);
    let (full, found) = (Flops::of(&staged.model.config(), 512), Flops::of_stage(&distilled, 0, 512));
    assert_eq!(3 * found.causal(), 4 * full.causal());
}

#[test]
fn plans_of_examples_know_what_the_data_say() {
    let recipe = load("laptop-lora", &[]);
    let unread = plan(&recipe, &assume(None)).unwrap();
    assert_eq!((unread.steps, unread.tokens, unread.hours), (None, None, None));
    let text = unread.to_string();
    assert!(text.contains("depend on the examples:\n    chats.jsonl is not there\n"), "{text}");
    assert!(text.contains("adapters beside it (LoRA)") && text.contains("trained"), "{text}");
    assert_eq!(unread.checkpoint_bytes, 12 * unread.parameters.adapters);
    let length = StageLength { steps: 120, tokens: 345_678 };
    let assumptions =
        Assumptions { examples: Ok(vec![length]), tokens_per_second: Some(100.0), ..assume(None) };
    let read = plan(&recipe, &assumptions).unwrap();
    assert_eq!((read.steps, read.tokens), (Some(120), Some(345_678)));
    assert!((read.hours.unwrap() - 0.960_217).abs() < 1e-5 && read.examples_missing.is_none());
    // A pair has two sequences.
    let pairs = plan(&load("smollm2-135m-dpo", &[]), &assume(None)).unwrap();
    assert_eq!((pairs.stages[0].sequences, pairs.stages[0].tokens_per_step), (16, 2 * 128 * 1024));
    assert!(pairs.to_string().contains("Memory for 16 x 1,024"), "{pairs}");
    let little = Assumptions { memory: Some(10_000_000_000), ..assume(None) };
    let said =
        plan(&load("smollm2-135m-dpo", &["stages.0.micro_batch=64"]), &little).unwrap().fit().unwrap_err();
    let said = said.to_string();
    let size: usize = said.split("micro_batch=").nth(1).unwrap().split('\'').next().unwrap().parse().unwrap();
    let fits = load("smollm2-135m-dpo", &[&format!("stages.0.micro_batch={size}")]);
    plan(&fits, &little).unwrap().fit().unwrap();
}

/// Biases and norms are parameters without products; a window leaves the keys inside it.
#[test]
fn options_count() {
    let plain = load("smollm2-70m", &[]).model.config();
    let config = load("smollm2-70m", &["model.qk_norm=true", "model.window=1024"]).model.config();
    let config = thimble_runtime::format::Config { qkv_bias: true, ..config };
    let (before, after) = (ParameterCounts::of(&plain), ParameterCounts::of(&config));
    assert_eq!(after.attention - before.attention, 32 * (384 + 2 * 128));
    assert_eq!(after.norms - before.norms, 32 * 2 * 64);
    assert_eq!(after.total, config.parameters());
    let (plain, found) = (Flops::of(&plain, 4096), Flops::of(&config, 4096));
    assert_eq!((found.linears, found.head), (plain.linears, plain.head));
    // 1 - (1 - 1/4)^2 of the square.
    assert_eq!(found.attention_whole, plain.attention_whole * 7 / 16);
    assert_eq!(Flops::of(&config, 512).attention_whole, plain.attention_whole / 8);
}

#[test]
fn the_published_run_takes_as_long_as_it_took() {
    let recipe = load("smollm2-70m", &[]);
    let mut assumptions = assume(Some(46_000_000_000));
    let unknown = plan(&recipe, &assumptions).unwrap();
    assert_eq!(
        (unknown.tokens, unknown.steps, unknown.hours, unknown.flops_causal),
        (None, None, None, None)
    );
    assert_eq!(unknown.stages[0].sets_missing, ["train"]);
    assert!(unknown.to_string().contains("--set-tokens train=N  (tokens/sutra-10b/train)"), "{unknown}");

    assumptions.set_tokens.insert("train".into(), 10_200_000_000);
    assumptions.tokens_per_second = Some(110_000.0);
    assumptions.price_per_hour = Some(2.0);
    assumptions.peak_tflops = Some(181.0);
    let known = plan(&recipe, &assumptions).unwrap();
    assert_eq!((known.steps, known.tokens), (Some(3 * 38_909), Some(3 * 38_909 * 262_144)));
    // Published: 77.76 hours at "about 110K" tokens/s.
    let hours = known.hours.unwrap();
    assert!((hours - 77.27).abs() < 0.01, "{hours}");
    assert_eq!(known.cost, Some(2.0 * hours));
    let mfu = known.stages[0].mfu_causal.unwrap();
    assert!((mfu - 1_019_215_872.0 * 110_000.0 / 181e12).abs() < 1e-9 && (0.6..0.63).contains(&mfu), "{mfu}");
    assert!((known.flops_causal.unwrap() / 3.1189e19 - 1.0).abs() < 1e-3, "{:?}", known.flops_causal);
    known.fit().unwrap();
    for line in known.to_string().lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
}

#[test]
fn every_built_in_recipe_has_a_plan_of_80_columns_and_json() {
    for (name, _) in crate::recipe::BUILT_IN {
        let plan = plan(&load(name, &[]), &assume(Some(80_000_000_000))).unwrap();
        let text = plan.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["parameters"]["total"], plan.parameters.total);
        plan.fit().unwrap();
    }
    assert!(available_memory().is_none_or(|bytes| bytes > 1 << 20));
}

#[test]
fn sets_that_are_too_small_for_their_stage_are_refused() {
    let recipe = load("smollm2-70m", &[]);
    let mut assumptions = assume(None);
    assumptions.set_tokens.insert("train".into(), 200_000);
    let said = plan(&recipe, &assumptions).unwrap_err().to_string();
    assert!(
        said.contains(
            "`epoch-1` is shorter than one step: its sets hold 200,000 tokens, a step takes 262,144"
        ),
        "{said}"
    );
    assumptions.set_tokens.insert("train".into(), 262_144 * 900);
    let said = plan(&recipe, &assumptions).unwrap_err().to_string();
    assert!(
        said.contains("stages.0.schedule.warmup: 1000 steps of warm-up are more than the stage's 900"),
        "{said}"
    );
    assert!(said.contains("--set 'stages.*.schedule.warmup=90'"), "{said}");
}

#[test]
fn the_largest_shape_that_the_check_lets_through_does_not_overflow() {
    let overrides = [
        "model.hidden=65536",
        "model.heads=1024",
        "model.kv_heads=1024",
        "model.head_dim=256",
        "model.ffn=262144",
        "model.layers=1024",
        "model.vocab=4194304",
        "model.context=1048576",
        "stages.*.context=1048576",
        "stages.*.micro_batch=65536",
        "stages.*.accumulate=1",
        "stages.*.length={epochs=1e6}",
        "stages.*.schedule.warmup=0",
    ];
    let recipe = load("smollm2-70m", &overrides);
    let mut assumptions = assume(Some(u64::MAX - 1));
    assumptions.set_tokens.insert("train".into(), 1_000_000_000_000_000_000);
    let plan = plan(&recipe, &assumptions).unwrap();
    assert_eq!(plan.stages[0].memory.total, u64::MAX);
    assert!(plan.fit().is_err() && !plan.to_string().is_empty());
}

#[test]
fn what_is_measured_counts_by_the_stages_contexts_and_what_is_told_counts_more() {
    let recipe = load("smollm2-135m", &["stages.*.length={steps=10000}"]);
    let measured = MeasuredThroughput {
        flops_per_second: 1e12,
        update_seconds: 0.0,
        sequences: 1,
        context: 512,
        device: "a machine".into(),
    };
    let mut assumptions = Assumptions { measured: Some(measured.clone()), ..assume(None) };
    let found = plan(&recipe, &assumptions).unwrap();
    for stage in &found.stages {
        let expected = 1e12 / stage.flops_per_token.causal() as f64;
        assert!((stage.tokens_per_second.unwrap() / expected - 1.0).abs() < 1e-9);
    }
    let text = found.to_string();
    assert!(text.contains("measured on this machine") && text.contains(" to "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    // An update of as long as all passes of a step halves the speed.
    let step = recipe.stages[0].tokens_per_step() as f64;
    let update = step * found.stages[0].flops_per_token.causal() as f64 / 1e12;
    assumptions.measured = Some(MeasuredThroughput { update_seconds: update, ..measured });
    let slower = plan(&recipe, &assumptions).unwrap().stages[0].tokens_per_second.unwrap();
    assert!((2.0 * slower / found.stages[0].tokens_per_second.unwrap() - 1.0).abs() < 1e-9);
    assumptions.tokens_per_second = Some(1000.0);
    let told = plan(&recipe, &assumptions).unwrap();
    assert_eq!((told.stages[0].tokens_per_second, told.measured.as_ref()), (Some(1000.0), None));
    assert!(told.to_string().contains("Time at 1,000 tokens/s") && !told.to_string().contains("measured"));
}

#[test]
fn a_speed_is_measured_in_seconds_at_any_size() {
    let little = load("tiny-cpu", &["model.vocab=100", "model.layers=1", "stages.*.context=40"]);
    let large = load("smollm2-70m", &["model.layers=2", "stages.*.micro_batch=64"]);
    for (recipe, whole) in [(&little, true), (&large, false)] {
        let stage = &recipe.stages[0];
        let cpu = |config: &thimble_runtime::format::Config, parameters: crate::ops::BufferLengths| {
            crate::ops::cpu::CpuOps::new(2, parameters, config.norm_eps)
        };
        let begin = std::time::Instant::now();
        let measured = measure(recipe, stage, (DeviceTarget::Cpu, None), cpu).unwrap().unwrap();
        assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
        assert!(measured.flops_per_second > 1e6 && measured.update_seconds > 0.0, "{measured:?}");
        assert_eq!(
            (measured.sequences, measured.context) == (stage.micro_batch, stage.context),
            whole,
            "{measured:?}"
        );
        assert!(measured.context <= stage.context && measured.tokens_per_second(recipe, 0) > 0.0);
        let too_large = measure(recipe, stage, (DeviceTarget::Cpu, Some(1_000_000)), cpu).unwrap();
        assert_eq!(too_large, None);
    }
}

#[test]
fn repeated_text_and_little_held_out_text_are_warned_of() {
    let warned = |name: &str, overrides: &[&str], sets: &[(&str, u64)]| {
        let mut assumptions = assume(None);
        assumptions.set_tokens.extend(sets.iter().map(|(name, tokens)| ((*name).to_owned(), *tokens)));
        plan(&load(name, overrides), &assumptions).unwrap().warnings
    };
    // 3,000 steps of 2,048 tokens.
    let read = 3000 * 2048;
    assert_eq!(warned("tiny-cpu", &[], &[("train", read / 4), ("validation", 10_000)]), Vec::<String>::new());
    let found = warned("tiny-cpu", &[], &[("train", read / 10), ("validation", 9_999)]);
    assert!(found[0].contains("`all` reads set `train` (614,400 tokens) 10.0 times"), "{found:?}");
    assert!(
        found[1].contains("only 9,999 tokens are held out") && found[1].contains("set `validation`"),
        "{found:?}"
    );
    let found = warned("tiny-cpu", &[], &[("validation", 256)]);
    assert!(found.len() == 1 && found[0].contains("too few for one window of 256"), "{found:?}");
    // One epoch of both is two of the one that is drawn more often than its size.
    let mixture = [
        "data.sets.more=tokens/more",
        "stages=[{name='a',length={epochs=1},context=256,micro_batch=8,mixture={train=0.5,more=0.5},schedule={kind='constant',peak=1e-3}}]",
    ];
    let found = warned("tiny-cpu", &mixture, &[("train", 3_000_000), ("more", 1_000_000)]);
    assert!(found.len() == 1 && found[0].contains("set `more` (1,000,000 tokens) 2.0 times"), "{found:?}");
    assert!(found[0].contains("asks for 1:"), "{found:?}");
    assert_eq!(
        warned("tiny-cpu", &mixture, &[("train", 1_000_000), ("more", 1_000_000)]),
        Vec::<String>::new()
    );
}
