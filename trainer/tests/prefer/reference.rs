//! The values of TRL.

use crate::setup::{GOLDEN, Home, json, succeeds};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use thimble_trainer::export::read_model;
use thimble_trainer::objective::preference_loss::{AnswerLogProbability, PreferenceStep};
use thimble_trainer::recipe::{DpoKeys, DpoLoss};

/// The optimizer of the reference, and pairs in the order of the file.
const AS_TRL: [&str; 8] = [
    "--set",
    "stages.0.length={steps=5}",
    "--set",
    "objective.shuffle=false",
    "--context",
    "256",
    "--beta",
    "0.1",
];
const TOGETHER: [&str; 4] = ["--batch", "4", "--micro-batch", "4"];
const BY_TWO: [&str; 4] = ["--batch", "4", "--micro-batch", "2"];
const SINGLY: [&str; 4] = ["--batch", "4", "--micro-batch", "1"];

fn parity(folder: &Path) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
    let output = command.arg("parity").arg(folder).args(["--json", "--threads", "2"]).output().unwrap();
    let found = serde_json::from_slice(&output.stdout).unwrap_or_default();
    println!("{}: {found}", folder.display());
    (output, found)
}

/// Steps of this folder as the command takes them, whole and split into micro-batches.
fn check(folder: &Path, rate: &str) {
    let (output, found) = parity(folder);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(found["masks_differing"], 0);
    for (key, bound) in
        [("worst_loss_rel", 1e-5), ("worst_gradient_norm_rel", 1e-4), ("worst_weight_rel", 1e-4)]
    {
        assert!(found[key].as_f64().unwrap() <= bound, "{key}: {found}");
    }
    assert!(found["worst_logp_abs"].as_f64().unwrap() <= 1e-3, "{found}");

    let (home, reference) = Home::with_pairs_of(folder);
    let model = folder.join("model");
    let schedule = format!("stages.0.schedule={{kind=\"constant\", peak={rate}}}");
    let expected = reference["steps"].as_array().unwrap();
    let size = 4;
    let whole = reference["pairs"].as_array().unwrap().len() / size;
    for (run, split) in [("together", TOGETHER), ("by-two", BY_TWO), ("singly", SINGLY)] {
        succeeds(home.prefer(&model, run, &[&AS_TRL[..], &split, &["--set", &schedule]].concat()));
        // A step at the end of an epoch takes what is left; the reference goes on with the first pairs.
        for (found, expected) in home.steps(run).iter().zip(expected).take(whole) {
            let near = |name: &str, found: f64, bound: f64| {
                let expected = expected[name].as_f64().unwrap();
                assert!(
                    (found - expected).abs() <= bound * expected.abs().max(1.0),
                    "{run} {name}: {found}, {expected}"
                );
            };
            near("loss", found.loss, 1e-5);
            near("grad_norm", found.gradient_norm, 1e-4);
            for (theirs, ours) in [
                ("rewards/chosen", "reward_chosen"),
                ("rewards/rejected", "reward_rejected"),
                ("rewards/margins", "reward_margin"),
                ("rewards/accuracies", "reward_accuracy"),
                ("logps/chosen", "logp_chosen"),
                ("logps/rejected", "logp_rejected"),
            ] {
                near(theirs, found.figures[ours], 1e-4);
            }
        }
    }
    let after = |run: &str| read_model(&home.path(run).join("export")).unwrap().1;
    let together = after("together");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let norm = square(&mut together.iter().map(|&x| f64::from(x)));
    for split in ["by-two", "singly"] {
        let found = after(split);
        let far = square(&mut found.iter().zip(&together).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        let relative = (far / norm).sqrt();
        println!("{split}: {relative:.1e}");
        assert!(relative <= 1e-6, "{split}: {relative}");
    }
}

#[test]
fn the_steps_are_those_of_trl() {
    check(Path::new(GOLDEN), "2e-3");
}

#[test]
fn the_steps_are_those_of_trl_on_the_shared_reference() {
    let Some(shared) = thimble_needs::shared() else { return };
    check(&shared.join("reference/dpo"), "5e-4");
}

/// Each loss at the log-probabilities of the reference, as a pure function.
#[test]
fn the_losses_are_those_of_trl() {
    let Some(shared) = thimble_needs::shared() else { return };
    let reference = json(&shared.join("reference/dpo/dpo.json"));
    let pairs = &reference["pairs"].as_array().unwrap()[..4];
    let tokens = |pair: &Value, side: &str| pair[format!("{side}_ids")].as_array().unwrap().len();
    let chosen_tokens = pairs.iter().map(|pair| tokens(pair, "chosen")).sum();
    let step = PreferenceStep { pairs: 4, chosen_tokens };
    let loss = |keys: &DpoKeys| -> f64 {
        let part = |pair: &Value| {
            let answer = |side: &str| AnswerLogProbability {
                policy: pair["logps_after5"][side].as_f64().unwrap(),
                reference: pair["reference_logps"][side].as_f64().unwrap(),
                tokens: tokens(pair, side),
            };
            keys.pair(answer("chosen"), answer("rejected"), step).loss
        };
        pairs.iter().map(part).sum()
    };
    let expected = &reference["losses_of_first_four_pairs_after5"];
    let usual = DpoKeys::default();
    for (name, kind, label_smoothing) in [
        ("sigmoid", DpoLoss::Sigmoid, 0.0),
        ("robust", DpoLoss::Robust, 0.1),
        ("ipo", DpoLoss::Ipo, 0.0),
        ("sigmoid_norm", DpoLoss::SigmoidNorm, 0.0),
    ] {
        let keys = DpoKeys { loss: kind, label_smoothing, ..usual.clone() };
        let (found, expected) = (loss(&keys), expected[name]["loss"].as_f64().unwrap());
        assert!((found - expected).abs() <= 1e-5 * expected, "{name}: {found}, {expected}");
    }
    let with_sft = DpoKeys { sft_weight: 0.5, ..usual.clone() };
    let (found, expected) = (loss(&with_sft) - loss(&usual), 0.5 * expected["sft"]["loss"].as_f64().unwrap());
    assert!((found - expected).abs() <= 1e-5 * expected, "sft: {found}, {expected}");
}

/// Parity sees another weight, another token, another loss and another template.
#[test]
fn parity_tells_a_folder_that_differs() {
    let changes: [fn(&mut Value); 4] = [
        |json| json["pairs"][0]["chosen_ids"][0] = 7.into(),
        |json| json["steps"][3]["loss"] = 0.5.into(),
        |json| json["steps"][3]["grad_norm"] = 1.0.into(),
        |json| json["variants"][1]["steps"][1]["loss"] = 1.0.into(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let folder = copy_of_golden();
        let path = folder.path().join("dpo.json");
        let mut json = json(&path);
        change(&mut json);
        fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
        assert!(!parity(folder.path()).0.status.success(), "{number}");
    }
    let folder = copy_of_golden();
    let template = folder.path().join("model/chat_template.jinja");
    let source = fs::read_to_string(&template).unwrap();
    fs::write(&template, source.replace("You help.", "You are.")).unwrap();
    let (output, found) = parity(folder.path());
    assert!(!output.status.success() && found["masks_differing"].as_u64().unwrap() > 0, "{found}");
    let empty = tempfile::tempdir().unwrap();
    let (output, _) = parity(empty.path());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("steps.json, sft.json or dpo.json"),
        "{output:?}"
    );
}

fn copy_of_golden() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("model")).unwrap();
    for from in [Path::new(GOLDEN).to_owned(), Path::new(GOLDEN).join("model")] {
        for entry in fs::read_dir(&from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            let name = entry.path();
            fs::copy(&name, folder.path().join(name.strip_prefix(GOLDEN).unwrap())).unwrap();
        }
    }
    folder
}
