//! Whole runs: the same bits in any way, references that are another's, and what a run says.

use crate::setup::{GOLDEN, Home, json, refused, said, succeeds};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LONG: [&str; 14] = [
    "--batch",
    "3",
    "--micro-batch",
    "1",
    "--context",
    "96",
    "--epochs",
    "12",
    "--held-out",
    "0.2",
    "--learning-rate",
    "1e-3",
    "--set",
    "checkpoint.every=2",
];

fn home() -> (Home, PathBuf) {
    let (home, _) = Home::with_pairs_of(Path::new(GOLDEN));
    (home, Path::new(GOLDEN).join("model"))
}

/// All weights and adapters; killed with SIGKILL at several moments, also before the first checkpoint, and continued with
/// other numbers of threads.
#[test]
fn threads_and_kills_change_nothing() {
    let (home, model) = home();
    for (kind, more) in [("all", &[][..]), ("lora", &["--lora", "4"][..])] {
        let flags = |extra: &[&'static str]| [&LONG[..], more, extra].concat();
        let whole = format!("whole-{kind}");
        succeeds(home.prefer(&model, &whole, &flags(&["--threads", "1"])));
        let steps = home.steps(&whole).len();
        assert!(steps >= 24, "{steps}");
        for threads in ["2", "3"] {
            let threaded = format!("threads-{threads}-{kind}");
            succeeds(home.prefer(&model, &threaded, &flags(&["--threads", threads])));
            home.assert_same(&whole, &threaded);
        }
        let killed = format!("killed-{kind}");
        for (index, threads) in ["2", "3", "1", "2"].into_iter().enumerate() {
            let mut child =
                home.prefer(&model, &killed, &flags(&["--resume", "--threads", threads])).spawn().unwrap();
            let until = index * steps / 5;
            while child.try_wait().unwrap().is_none() && home.steps(&killed).len() < until.max(1) {
                std::thread::sleep(Duration::from_micros(500));
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        succeeds(home.prefer(&model, &killed, &flags(&["--resume"])));
        home.assert_same(&whole, &killed);
    }
}

/// Ctrl-C while the reference is computed ends the run at once, with nothing half-written, and it starts again.
#[test]
fn a_signal_before_the_first_step_ends_the_run_at_once() {
    let (home, model) = home();
    let rows = fs::read_to_string(home.path("pairs.jsonl")).unwrap();
    fs::write(home.path("pairs.jsonl"), rows.repeat(400)).unwrap();
    let flags =
        ["--batch", "4", "--context", "96", "--set", "stages.0.length={steps=2}", "--set", "sample=none"];
    let mut child = home.prefer(&model, "run", &flags).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line.starts_with("computing the reference of ")));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let said: Vec<String> = lines.collect();
    assert!(said.iter().any(|line| line.starts_with("stopped before the first step")), "{said:?}");
    let entries = fs::read_dir(home.path("run")).unwrap();
    let mut left: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    // Without the reference, which was not finished.
    assert_eq!(left, [".lock", "data.json"]);
    fs::write(home.path("pairs.jsonl"), &rows).unwrap();
    succeeds(home.prefer(&model, "run", &[&flags[..], &["--resume"]].concat()));
    assert_eq!(home.steps("run").len(), 2);
}

/// A cache of another model, of other data, or a damaged one is never used, and a missing one is made again, in the middle
/// of a run too.
#[test]
fn a_reference_of_another_model_or_other_data_is_not_used() {
    let (home, model) = home();
    let cache = "reference-train.safetensors";
    succeeds(home.prefer(&model, "whole", &LONG));
    let right = fs::read(home.path("whole").join(cache)).unwrap();
    // The export is another model of the same shape and tokenizer.
    let other = home.path("whole/export");
    succeeds(home.prefer(&other, "other-model", &LONG));
    let rows = fs::read_to_string(home.path("pairs.jsonl")).unwrap();
    fs::write(home.path("pairs.jsonl"), rows.replace("Five", "Six!").replace("The Nile", "The Amur"))
        .unwrap();
    succeeds(home.prefer(&model, "other-data", &LONG));
    let said = refused(home.prefer(&model, "whole", &[&LONG[..], &["--resume"]].concat()));
    assert!(said.contains("the data") || said.contains("the pairs are others"), "{said}");
    fs::write(home.path("pairs.jsonl"), rows).unwrap();

    let others = ["other-model", "other-data"].map(|run| fs::read(home.path(run).join(cache)).unwrap());
    let damaged = right[..right.len() - 8].to_vec();
    for (number, wrong) in [Some(&others[0]), Some(&others[1]), Some(&damaged), None].into_iter().enumerate()
    {
        assert!(wrong != Some(&right));
        let run = format!("run-{number}");
        let half = [&LONG[..], &["--set", "stages.0.length={steps=12}"]].concat();
        // Before the first step, and before a resumed one.
        fs::create_dir(home.path(&run)).unwrap();
        fs::write(home.path(&run).join(".lock"), "").unwrap();
        let place = || match wrong {
            Some(wrong) => fs::write(home.path(&run).join(cache), wrong).unwrap(),
            None => drop(fs::remove_file(home.path(&run).join(cache))),
        };
        place();
        let mut child = home.prefer(&model, &run, &half).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && home.steps(&run).len() < 5 {
            std::thread::sleep(Duration::from_micros(500));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(fs::read(home.path(&run).join(cache)).unwrap() == right, "{number}");
        place();
        succeeds(home.prefer(&model, &run, &[&half[..], &["--resume"]].concat()));
        assert!(fs::read(home.path(&run).join(cache)).unwrap() == right, "{number}");
        if number == 0 {
            succeeds(home.prefer(&model, "half", &half));
        }
        home.assert_same("half", &run);
    }
}

/// A run cannot go on against a reference of other weights.
#[test]
fn a_model_that_changed_under_a_run_is_refused() {
    let (home, model) = home();
    let copy = home.path("model");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&model).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let resume = [&LONG[..], &["--resume"]].concat();
    succeeds(home.prefer(&copy, "run", &LONG));
    succeeds(home.prefer(&copy, "run", &resume));
    fs::copy(home.path("run/export/model.safetensors"), copy.join("model.safetensors")).unwrap();
    let said = refused(home.prefer(&copy, "run", &resume));
    assert!(said.contains("the run began with other weights than MODEL"), "{said}");
}

#[test]
fn a_run_counts_its_pairs_measures_them_and_learns() {
    let (home, model) = home();
    let rows = fs::read_to_string(home.path("pairs.jsonl")).unwrap();
    let long = "word ".repeat(200);
    let more = [
        serde_json::json!({"prompt": "Same?", "chosen": "Yes.", "rejected": "Yes."}),
        serde_json::json!({"prompt": "Long?", "chosen": long, "rejected": "No."}),
        serde_json::json!({"prompt": long, "chosen": "Yes.", "rejected": "No."}),
    ];
    let more: String = more.iter().map(|row| format!("{row}\n")).collect();
    fs::write(home.path("pairs.jsonl"), rows + &more).unwrap();
    let flags = [
        "--held-out",
        "pairs.jsonl",
        "--epochs",
        "20",
        "--batch",
        "4",
        "--context",
        "96",
        "--learning-rate",
        "3e-3",
    ];
    let output = succeeds(home.prefer(&model, "run", &flags));
    let told = said(&output);
    assert!(told.contains("1 of 13 pairs are longer than the context of 96 tokens"), "{told}");
    assert!(
        told.contains("2 of 13 pairs are left out: 1 with a prompt that fills the context, 1 with two equal"),
        "{told}"
    );
    let counts = json(&home.path("run/data.json"));
    assert_eq!(counts["kind"], "preferences");
    for (key, expected) in [("rows", 13), ("pairs", 11), ("truncated", 1), ("dropped", 1), ("identical", 1)] {
        assert_eq!(counts["train"][key], expected, "{key}: {counts}");
    }
    let measured = home.measured("run");
    let (first, last) = (&measured[0], &measured[measured.len() - 1]);
    assert!(last.loss < first.loss && last.figures["reward_accuracy"] > 0.9, "{last:?}");
    for key in ["reward_margin", "logp_chosen", "kl_from_reference", "tokens_chosen", "length_accuracy"] {
        assert!(last.figures.contains_key(key), "{key}: {last:?}");
    }
    let length = counts["held_out_length_accuracy"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&length) && last.figures["length_accuracy"] == length);
    assert!(last.perplexity.is_none() && last.figures["kl_from_reference"] > 0.0);
    assert!(json(&home.path("run/export/tokenizer_config.json"))["chat_template"].is_string());
}

/// A learning rate that is much too high lowers both answers; the margin hides it, and a line says so.
#[test]
fn falling_chosen_answers_are_told() {
    let (home, model) = home();
    let flags = ["--epochs", "12", "--batch", "4", "--context", "96", "--set", "checkpoint.every=1000"];
    let fast = [&flags[..], &["--learning-rate", "0.2"]].concat();
    let told = said(&succeeds(home.prefer(&model, "fast", &fast)));
    assert_eq!(
        told.matches("the chosen answers are less likely than under the reference").count(),
        1,
        "{told}"
    );
    let slow = [&flags[..], &["--learning-rate", "1e-5"]].concat();
    let told = said(&succeeds(home.prefer(&model, "slow", &slow)));
    assert!(!told.contains("less likely"), "{told}");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let (home, model) = home();
    for (flags, expected) in [
        (&["--context", "8"][..], "the prompt fills the 8 tokens of the context"),
        (&["--held-out", "0.001"], "expected a share that holds out some"),
        (
            &["--label-smoothing", "0.1"],
            "error: --label-smoothing 0.1: only --loss \"robust\" takes label smoothing",
        ),
        (&["--label-smoothing", "0.7", "--loss", "robust"], "error: --label-smoothing 0.7: expected a share"),
        (&["--batch", "4", "--micro-batch", "3"], "divides the batch"),
        (&["--set", "optimizer.z_loss=1e-4"], "optimizer.z_loss"),
        (&["--held-out", "0.1", "pairs.jsonl"], "one share or files"),
    ] {
        let said = refused(home.prefer(&model, "run", flags));
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
    fs::write(home.path("pairs.jsonl"), "\n{\"prompt\": \"q\", \"chosen\": \"a\"}\n").unwrap();
    let said = refused(home.prefer(&model, "run", &[]));
    assert!(
        said.contains("pairs.jsonl, line 2: expected chosen and rejected, found prompt, chosen"),
        "{said}"
    );
    assert!(!home.path("run/checkpoints").exists());
}
