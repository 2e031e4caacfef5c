//! What is exported is what was trained: for the converter and Thimble's runtime.

use crate::setup::{TestFolder, refused, succeeds};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use thimble_converter::{ConversionOptions, Quant, convert};
use thimble_files::MappedModel;
use thimble_host::{InferencePlan, InferenceSettings, SpinPool, generator};
use thimble_runtime::Token;
use thimble_trainer::checkpoint;
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::data::token_set::TokenSet;
use thimble_trainer::export::read_config;
use thimble_trainer::model::{Engine, EngineOptions, Parameters};
use thimble_trainer::ops::Buffer;
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::weights::read_weights;

fn step(checkpoint: &str) -> u64 {
    checkpoint["step-".len()..].parse().unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Log-likelihoods of `ids` behind the first, by the runtime in its exact mode.
fn runtime_scores(folder: &Path, ids: &[u32]) -> Vec<f64> {
    let file = folder.with_extension("thimble");
    let options = ConversionOptions { quant: Quant::Keep, ..ConversionOptions::default() };
    convert(folder, &file, &options, &mut |_| {}).unwrap();
    let mapped = MappedModel::read(&file).unwrap();
    let file = mapped.file().unwrap();
    let settings = InferenceSettings {
        exact: true,
        threads: Some(1),
        logit_rows: Some(8),
        context: Some(32),
        ..InferenceSettings::default()
    };
    let plan = InferencePlan::new(file.config(), &settings).unwrap();
    let (mut memory, pool) = (plan.allocate().unwrap(), SpinPool::new(plan.threads()).unwrap());
    let mut generator = generator(&file, &plan, &mut memory, &pool).unwrap();
    let tokens: Vec<Token> = ids.iter().map(|&id| Token(id)).collect();
    let mut scores = Vec::new();
    generator.score(&tokens, 1, &mut |scored| scores.push(scored.log_probability)).unwrap();
    scores
}

#[test]
fn the_runtime_scores_an_export_as_the_trainer_does() {
    let test = TestFolder::new();
    succeeds(test.pretrain("run", &["--quiet"]));
    let path = test.path("run/checkpoints/step-00000040");
    let (state, recipe) = checkpoint::open(&path).unwrap();
    let parameters = Parameters::new(&recipe.model.config());
    let weights = checkpoint::read_tensors(&path, &parameters).unwrap().weights;
    let set = TokenSet::open(&recipe.data.sets["held"]).unwrap();
    let mut ids = vec![0; 33];
    ids[0] = state.end_of_document;
    set.copy(3, 0, &mut ids[1..]).unwrap();
    let batch = TrainingBatch::new(1, 32, ids.clone(), vec![0; 32]);

    for dtype in ["f32", "bf16"] {
        let name = format!("exported-{dtype}");
        succeeds(test.command(&["export", "run", "-o", &name, "--dtype", dtype, "--checkpoint", "last"]));
        let folder = test.path(&name);
        let expected = [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(names(&folder), expected.map(String::from).into());
        for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
            let set = recipe.data.sets["train"].join(file);
            assert_eq!(fs::read(folder.join(file)).unwrap(), fs::read(set).unwrap(), "{file}");
        }
        #[cfg(unix)]
        for file in expected {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(
                mode(&folder.join(file)),
                mode(&test.path("recipe.toml")),
                "{file} is for all who may read"
            );
        }
        // The second stage's rotary base; otherwise the recipe's shape.
        let shape = read_config(&folder.join("config.json")).unwrap();
        assert_eq!(shape.rope.theta, 50_000.0);
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        let number = |bits: &str| config[bits].as_u64();
        assert_eq!((number("hidden_size"), number("vocab_size")), (Some(32), Some(300)));
        assert_eq!((number("max_position_embeddings"), number("eos_token_id")), (Some(32), Some(0)));
        let exported = read_weights(&folder.join("model.safetensors"), &parameters).unwrap();
        if dtype == "f32" {
            assert!(exported == weights, "the masters themselves");
        } else {
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() / 256.0;
            assert!(exported.iter().zip(&weights).all(near) && exported != weights);
        }

        let ops = CpuOps::new(1, parameters.len, shape.norm_eps).unwrap();
        let mut engine = Engine::new(&shape, EngineOptions::default(), ops);
        engine.write(Buffer::Weights, &exported).unwrap();
        let expected = engine.token_losses(&batch).unwrap();
        let found = runtime_scores(&folder, &ids);
        assert_eq!(found.len(), 32);
        let worst = found.iter().zip(&expected).map(|(a, &b)| (a + f64::from(b)).abs()).fold(0.0, f64::max);
        println!("{dtype}: worst difference of a token's log-likelihood {worst:.1e}");
        assert!(worst < 1e-4, "{dtype}: {worst}, {found:?}, {expected:?}");
    }
    // The text is learned, so that the comparison is of more than noise.
    assert!(runtime_scores(&test.path("exported-f32"), &ids).iter().sum::<f64>() / -32.0 < 4.5);
}

/// A last stage whose losses are higher, as those of a longer context may be: its weights are exported all the same.
#[test]
fn the_last_stages_best_is_exported_unless_another_is_asked_for() {
    let test = TestFolder::new();
    let more = ["--quiet", "--set", "stages.1.schedule.peak=0.5"];
    succeeds(test.pretrain("run", &more));
    let name = |file: &str| fs::read_to_string(test.path("run/checkpoints").join(file)).unwrap();
    let [first, second] = ["best-stage-0", "best"].map(|file| name(file).trim().to_owned());
    assert!(first.as_str() <= "step-00000024" && second.as_str() > "step-00000024", "{first} {second}");
    let loss = |stage: usize| -> f64 {
        let state = test.kept("run", "step-00000040", "state.json");
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        state["best"][stage]["loss"].as_str().unwrap().parse().unwrap()
    };
    assert!(loss(0) < loss(1), "the first stage's best is better");
    let weights = |folder: &str| fs::read(test.path(folder).join("model.safetensors")).unwrap();
    for (output, more, from, said) in [
        ("a", &[][..], second.as_str(), format!("stage long (2 of 2), step {}, held-out", step(&second))),
        ("s", &["--stage", "long"], &second, format!("loss {:.4}, the stage's lowest", loss(1))),
        (
            "f",
            &["--stage", "short"],
            &first,
            format!("stage short (1 of 2), step {}, held-out", step(&first)),
        ),
        ("b", &["--checkpoint", "last"], "step-00000040", "stage long (2 of 2), step 40, ".into()),
        ("c", &["--checkpoint", "step-00000039"], "step-00000039", "step 39, the stage's lowest".into()),
    ] {
        let mut command = test.command(&[&["export", "run", "-o", output][..], more].concat());
        let found = command.output().unwrap();
        let printed = String::from_utf8_lossy(&found.stdout).into_owned();
        assert!(found.status.success() && printed.contains(&said), "{output}: {printed} {said}");
        assert!(weights(output) == test.kept("run", from, "model.safetensors"), "{output}");
    }
    let said = refused(test.command(&["export", "run", "-o", "d", "--stage", "longer"]), 2);
    assert!(said.contains("--stage longer: no such stage") && said.contains("short, long"), "{said}");
    // Before its first measurement, the last stage's newest weights go for it.
    let keep_all = ["--quiet", "--set", "checkpoint.last=100"];
    succeeds(test.pretrain("early", &keep_all));
    for later in 28..=40 {
        fs::remove_dir_all(test.path("early/checkpoints").join(format!("step-{later:08}"))).unwrap();
    }
    // The held-out loss is measured every five steps: the last stage's first time is after step 25.
    for (newest, from) in [(27, 25), (24, 20)] {
        for later in newest + 1..=27 {
            let _ = fs::remove_dir_all(test.path("early/checkpoints").join(format!("step-{later:08}")));
        }
        let output = format!("early-{newest}");
        succeeds(test.command(&["export", "early", "-o", &output]));
        let from = format!("step-{from:08}");
        assert!(weights(&output) == test.kept("early", &from, "model.safetensors"), "{output}");
    }
    let said = refused(test.command(&["export", "run", "-o", "d", "--checkpoint", "step-7"]), 2);
    assert!(said.contains("no checkpoint \"step-7\"; found: ") && said.contains("step-00000039"), "{said}");
    // A run that was begun, before its first checkpoint.
    fs::create_dir(test.path("begun")).unwrap();
    let said = refused(test.command(&["export", "begun", "-o", "d"]), 1);
    assert!(said.contains("begun/checkpoints: no complete checkpoint found"), "{said}");

    // A folder that is there is not touched, whatever it is.
    fs::create_dir(test.path("mine")).unwrap();
    fs::write(test.path("mine/thesis.txt"), "x").unwrap();
    for taken in ["mine", "a", "recipe.toml"] {
        let said = refused(test.command(&["export", "run", "-o", taken]), 1);
        assert!(said.contains(&format!("{taken}: cannot write: it exists already")), "{said}");
    }
    assert_eq!(names(&test.path("mine")), ["thesis.txt".to_owned()].into());
    assert!(!test.path("d").exists());
}

#[test]
fn a_killed_export_leaves_no_half_folder() {
    let test = TestFolder::new();
    succeeds(test.pretrain("run", &["--quiet"]));
    let mut next = crate::setup::numbers(4);
    let (mut kills, mut on_the_way) = (0, 0);
    let out = test.path("out");
    while on_the_way < 3 {
        fs::create_dir_all(&out).unwrap();
        let mut child = test.command(&["export", "run", "-o", "out/exported"]).spawn().unwrap();
        let begun = || fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some());
        crate::setup::wait_for(&mut child, begun);
        std::thread::sleep(std::time::Duration::from_micros(next(1500) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        if test.path("out/exported").exists() {
            // It was faster; then it is whole.
            let whole = fs::read(test.path("out/exported/model.safetensors")).unwrap();
            assert!(test.path("out/exported/generation_config.json").exists() && whole.len() > 50_000);
        } else {
            on_the_way += 1;
            succeeds(test.command(&["export", "run", "-o", "out/exported"]));
        }
        fs::remove_dir_all(&out).unwrap();
        kills += 1;
        assert!(kills < 200, "{on_the_way} of {kills}");
    }
}

#[test]
fn a_run_that_is_not_there_is_said_to_be_missing() {
    let test = TestFolder::new();
    for command in [&["export", "nowhere", "-o", "out"][..], &["eval", "nowhere", "--data", "data"]] {
        let said = refused(test.command(command), 2);
        assert!(said.contains("nowhere") && said.contains("no such folder"), "{said}");
    }
}

#[test]
fn the_readme_of_a_run_quotes_its_folder_for_the_shell() {
    let test = TestFolder::new();
    succeeds(test.pretrain("my run", &["--quiet"]));
    let readme = fs::read_to_string(test.path("my run/README.md")).unwrap();
    for typed in [
        "export 'my run' -o 'my run/export'",
        "plot 'my run' -o 'my run/plot.svg'",
        "pretrain 'my run/recipe.toml' --run 'my run' --resume",
    ] {
        assert!(readme.contains(&format!("`thimble-train {typed}`")), "{typed}: {readme}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("\"$0\" {typed}"), env!("CARGO_BIN_EXE_thimble-train")]);
        shell.current_dir(test.path(""));
        succeeds(shell);
    }
    assert!(test.path("my run/export/config.json").is_file() && test.path("my run/plot.svg").is_file());
}
