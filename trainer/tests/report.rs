//! Runs that are killed, resumed and looked at.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use thimble_trainer::recipe::TrainingRecipe;
use thimble_trainer::report::metrics::{
    self, MetricsEvent, MetricsFile, SampleText, StepMetrics, ValidationPoint,
};
use thimble_trainer::report::readme::{self, RunStart, RunSummary};

fn step(number: u64) -> MetricsEvent {
    MetricsEvent::Step(StepMetrics {
        step: number,
        stage: "epoch 1".into(),
        loss: 1.0 + 9.0 / number as f64,
        learning_rate: 3e-4,
        gradient_norm: 0.83,
        tokens: number * 1024,
        tokens_per_second: 12_345.6,
        mfu: number.is_multiple_of(2).then_some(0.31),
        seconds: 0.25,
        figures: [("margin".to_owned(), 0.5)].into(),
    })
}

fn validation(number: u64) -> MetricsEvent {
    MetricsEvent::Validation(ValidationPoint {
        step: number,
        loss: 2.0,
        perplexity: Some(7.389),
        tokens: number * 1024,
        figures: [("accuracy".to_owned(), 0.75)].into(),
    })
}

fn write(run: &Path, events: &[MetricsEvent]) {
    let mut file = MetricsFile::create(run).unwrap();
    events.iter().for_each(|event| file.write(event).unwrap());
    file.sync().unwrap();
}

#[test]
fn what_is_written_is_read() {
    let run = tempfile::tempdir().unwrap();
    let sample = SampleText {
        step: 2,
        prompt: "Once".into(),
        text: " upon\n\"a\" time\u{1f600}".into(),
        tokens: Some(7),
        stopped: Some(true),
    };
    let events = [step(1), step(2), validation(2), MetricsEvent::Sample(sample)];
    write(run.path(), &events);
    assert_eq!(metrics::read(run.path()).unwrap(), events);
    assert_eq!(metrics::read(&run.path().join("metrics.jsonl")).unwrap(), events);
    let lines = fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
    let kinds: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].as_str().unwrap().into())
        .collect();
    assert_eq!(kinds, ["step", "step", "validation", "sample"]);
}

#[test]
fn a_nan_survives_json() {
    let run = tempfile::tempdir().unwrap();
    let MetricsEvent::Step(good) = step(1) else { panic!() };
    write(
        run.path(),
        &[MetricsEvent::Step(StepMetrics { loss: f64::NAN, gradient_norm: f64::INFINITY, ..good })],
    );
    let events = metrics::read(run.path()).unwrap();
    let [MetricsEvent::Step(read)] = events.as_slice() else { panic!("{events:?}") };
    assert!(read.loss.is_nan() && read.gradient_norm.is_nan());
}

/// Kills within lines and around their ends, each resumed at every step before: each step is there once.
#[test]
fn a_resumed_run_has_each_step_once_wherever_it_was_killed() {
    let whole = tempfile::tempdir().unwrap();
    let mut events = vec![step(1), step(2), validation(2), step(3), step(4), validation(4)];
    write(whole.path(), &events);
    let bytes = fs::read(whole.path().join("metrics.jsonl")).unwrap();
    events.push(step(5));
    write(whole.path(), &events);
    let expected = fs::read(whole.path().join("metrics.jsonl")).unwrap();
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join("metrics.jsonl");
    let near_an_end = |cut: &usize| bytes[cut.saturating_sub(2)..(cut + 1).min(bytes.len())].contains(&b'\n');
    for cut in (0..=bytes.len()).filter(|cut| cut.is_multiple_of(50) || near_an_end(cut)) {
        let finished = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
        // Lines of the file, and the steps that they complete with their validation.
        for (lines, resumed) in [(0, 0), (1, 1), (3, 2), (4, 3), (6, 4)] {
            if lines > finished {
                break;
            }
            fs::write(&path, &bytes[..cut]).unwrap();
            let mut file = MetricsFile::resume(run.path(), resumed).unwrap();
            events[lines..].iter().for_each(|event| file.write(event).unwrap());
            assert_eq!(fs::read(&path).unwrap(), expected, "cut at {cut}, resumed at {resumed}");
        }
    }
}

#[test]
fn torn_and_unknown_lines_are_passed_over_and_damaged_ones_named() {
    let run = tempfile::tempdir().unwrap();
    write(run.path(), &[step(1), step(2)]);
    let path = run.path().join("metrics.jsonl");
    let good = fs::read_to_string(&path).unwrap();

    let unknown = "{\"kind\":\"mixture\",\"step\":1,\"shares\":{\"web\":0.7}}\n";
    fs::write(&path, format!("{unknown}{good}{{\"kind\":\"step\",\"st")).unwrap();
    assert_eq!(metrics::read(run.path()).unwrap(), [step(1), step(2)]);
    MetricsFile::resume(run.path(), 1).unwrap();
    let kept = fs::read_to_string(&path).unwrap();
    assert_eq!(kept, format!("{unknown}{}\n", good.lines().next().unwrap()));

    // A power cut may leave zeros.
    fs::write(&path, [good.as_bytes(), &[0; 300]].concat()).unwrap();
    assert_eq!(metrics::read(run.path()).unwrap().len(), 2);

    let first = good.find('\n').unwrap();
    fs::write(&path, format!("{}\nrubbish\n{}", &good[..first], &good[first + 1..])).unwrap();
    let before = fs::read(&path).unwrap();
    for error in [metrics::read(run.path()).unwrap_err(), MetricsFile::resume(run.path(), 1).unwrap_err()] {
        assert!(error.to_string().contains("metrics.jsonl:2:"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

fn thimble_train(arguments: &[&str], folder: &Path) -> Output {
    let command = Path::new(env!("CARGO_BIN_EXE_thimble-train"));
    Command::new(command).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn plot_writes_a_picture_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    write(&run("good"), &[step(1), step(2), validation(2)]);
    write(&run("empty"), &[]);
    write(&run("no-steps"), &[validation(0)]);
    run("bare");
    let done = thimble_train(
        &["plot", "good", "--title", "Two steps", "--smooth", "2", "--x", "tokens"],
        folder.path(),
    );
    assert!(done.status.success(), "{done:?}");
    let svg = fs::read_to_string(folder.path().join("plot.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("Two steps"));

    let cases: [(&[&str], i32, &str); 7] = [
        (&["plot", "bare"], 2, "there is no metrics.jsonl"),
        (&["plot", "nowhere"], 2, "nowhere: there is no metrics.jsonl"),
        (&["plot", "good", "empty"], 1, "the file is empty"),
        (&["plot", "no-steps"], 1, "holds no step"),
        (&["plot", "good", "-o", "a.png"], 2, "a.svg"),
        (&["plot", "good", "-o", "picture"], 2, "ends in .svg"),
        (&["plot", "good", "--smooth", "0"], 2, "--smooth"),
    ];
    for (arguments, code, words) in cases {
        let refused = thimble_train(arguments, folder.path());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

fn recipe() -> TrainingRecipe {
    toml::from_str(
        r#"
        name = "tiny-cpu"
        [model]
        hidden = 128
        layers = 4
        heads = 4
        kv_heads = 2
        ffn = 384
        vocab = 4096
        context = 512
        [data.sets]
        openstax = "data/openstax"
        stories = "data/stories"
        [[stages]]
        name = "all"
        length = { steps = 1500 }
        context = 256
        micro_batch = 16
        mixture = { openstax = 3.0, stories = 1.0 }
        schedule = { kind = "cosine", peak = 0.001 }
        "#,
    )
    .unwrap()
}

#[test]
fn a_run_folder_says_what_it_is_and_where_it_ran() {
    let run = tempfile::tempdir().unwrap();
    let recipe = recipe();
    let about = RunSummary {
        recipe: &recipe,
        parameters: 1_312_896,
        trained: 1_312_896,
        total_steps: 1500,
        run: Path::new("runs/tiny cpu"),
        resume: "thimble-train pretrain recipe.toml --resume",
        files: &[("recipe.toml", "the resolved recipe")],
    };
    readme::write(run.path(), &about, &RunStart { step: 0, device: "CPU (AVX-512)", threads: 2 }).unwrap();
    readme::write(run.path(), &about, &RunStart { step: 700, device: "CPU (AVX2)", threads: 1 }).unwrap();
    let page = fs::read_to_string(run.path().join("README.md")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for words in [
        "# tiny-cpu",
        "1,312,896 parameters (4 layers, hidden 128, 4 heads over 2 KV heads, FFN 384, vocabulary 4,096 tied)",
        "`openstax`, `stories`",
        "in 1,500 steps",
        "75.0% `openstax` and 25.0% `stories`",
        about.resume,
        "`thimble-train export 'runs/tiny cpu' -o 'runs/tiny cpu/export'`",
        "`thimble-train plot 'runs/tiny cpu' -o 'runs/tiny cpu/plot.svg'`",
        "| `recipe.toml` | the resolved recipe |",
        "`metrics.jsonl`",
        "`tensorboard`",
        &format!("- from step 0: thimble-train {version}, CPU (AVX-512), 2 threads\n"),
        &format!("- from step 700: thimble-train {version}, CPU (AVX2), 1 thread\n"),
    ] {
        assert!(page.contains(words), "{words:?} is not in:\n{page}");
    }
    readme::write(run.path(), &about, &RunStart { step: 0, device: "CPU", threads: 2 }).unwrap();
    let page = || fs::read_to_string(run.path().join("README.md")).unwrap();
    assert!(!page().contains("step 700") && !page().contains("It trains"));
    // Adapters are counted apart from the model; the tuned model is exported by the run itself.
    let recipe = TrainingRecipe::load("laptop-lora", &[]).unwrap();
    let about = RunSummary { recipe: &recipe, parameters: 134_515_008, trained: 4_884_480, ..about };
    readme::write(run.path(), &about, &RunStart { step: 0, device: "CPU", threads: 2 }).unwrap();
    for words in [
        "134,515,008 parameters",
        "It trains 4,884,480 numbers of adapters of rank 16, and none of the model's own.",
        "`thimble chat 'runs/tiny cpu/export'`",
        "--checkpoint last -o 'runs/tiny cpu/export-last'`",
        "--adapter -o 'runs/tiny cpu/adapter'`",
    ] {
        assert!(page().contains(words), "{words:?} is not in:\n{}", page());
    }
    assert!(!page().contains("-o 'runs/tiny cpu/export'`"), "{}", page());
}
