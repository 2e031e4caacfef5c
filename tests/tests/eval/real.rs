//! SmolLM2-135M-Instruct against the log-likelihoods that PyTorch gave to the first 16 items of each task.
//!
//! Needs the folder `shared` and the GGUF file that `THIMBLE_GGUF` names; see the crate's documentation.
//! `cargo test --release -p conformance --features slow --test eval -- --nocapture` prints the figures.

use super::{complete, converted, shared};
use conformance::{find_gguf, find_shared, gguf};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;
use thimble_converter::Quant;
use thimble_eval::{DataSource, Evaluation, Question, Selection, Task};
use thimble_files::MappedModel;
use thimble_host::InferenceSettings;

/// One line of eval.jsonl.
#[derive(Deserialize)]
struct Line {
    task: String,
    index: usize,
    contexts: Vec<String>,
    continuations: Vec<String>,
    loglikelihoods: Vec<f64>,
    gold: usize,
    acc: f64,
    acc_norm: Option<f64>,
}

/// The model, the reference and the folder of data.
static REAL: LazyLock<Option<(MappedModel, Vec<Line>, PathBuf)>> = LazyLock::new(|| {
    let (gguf, shared) = (find_gguf()?, find_shared()?);
    let destination = Path::new(env!("CARGO_TARGET_TMPDIR")).join("eval.thimble");
    let model = converted(&gguf, &destination, Quant::Keep).0;
    let lines = std::fs::read_to_string(shared.join("reference/eval.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Some((model, lines, shared.join("data/eval")))
});

/// What we make of one of the reference's items.
struct Found {
    contexts: Vec<String>,
    continuations: Vec<String>,
    log_likelihoods: Vec<f64>,
    tokens: Vec<usize>,
    acc: f64,
    acc_norm: Option<f64>,
}

/// The reference's name of a task, and of its items the first row.
type Part = (String, Task, usize);

/// The parts of the reference: MMLU's subjects have their own names and rows.
fn parts(lines: &[Line], data: &Path) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mmlu = std::fs::read_to_string(data.join("mmlu/test.jsonl")).unwrap();
    for Line { task, .. } in lines {
        if parts.iter().any(|part| part.0 == *task) {
            continue;
        }
        parts.push(match task.strip_prefix("mmlu_") {
            Some(subject) => {
                let subject = format!("\"subject\": \"{subject}\"");
                (task.clone(), Task::Mmlu, mmlu.lines().position(|line| line.contains(&subject)).unwrap())
            }
            None => (task.clone(), Task::parse_list(task).unwrap()[0], 0),
        });
    }
    parts
}

/// Evaluates the reference's items.
fn evaluate(exact: bool) -> Option<BTreeMap<(String, usize), Found>> {
    let (model, lines, data) = gguf().and(shared()).and(REAL.as_ref())?;
    let mut all = BTreeMap::new();
    for (name, task, offset) in parts(lines, data) {
        let evaluated = complete(&Evaluation {
            adapters: &[],
            model,
            name: "real".into(),
            settings: InferenceSettings { exact, ..InferenceSettings::default() },
            tasks: vec![task],
            source: DataSource::Folder(data.clone()),
            selection: Selection { offset, limit: Some(16) },
            result: None,
            samples: None,
        });
        let result = &evaluated.results.tasks[0];
        for (place, (item, outcome)) in evaluated.data[0].items.iter().zip(&evaluated.outcomes[0]).enumerate()
        {
            let Question::Choices(choices) = &item.question else { panic!("choices") };
            let count = choices.continuations.len();
            // The first choices are mc1's; those that follow are mc2's.
            let (range, metric) = match (&name[..], &choices.gold) {
                ("truthfulqa_mc1", thimble_eval::Gold::Truthful { mc2, .. }) => (0..count - mc2.len(), "mc1"),
                ("truthfulqa_mc2", thimble_eval::Gold::Truthful { mc2, .. }) => {
                    (count - mc2.len()..count, "mc2")
                }
                _ => (0..count, "acc"),
            };
            let value = |metric: &str| {
                let measured = result.metrics.iter().find(|measured| measured.metric.name() == metric);
                measured.map(|measured| measured.items[place])
            };
            let found = Found {
                contexts: range.clone().map(|index| choices.context(index).to_string()).collect(),
                continuations: choices.continuations[range.clone()].to_vec(),
                log_likelihoods: outcome.log_likelihoods[range.clone()].to_vec(),
                tokens: outcome.tokens[range].to_vec(),
                acc: value(metric).unwrap(),
                acc_norm: value("acc_norm"),
            };
            all.insert((name.clone(), item.index - offset), found);
        }
    }
    Some(all)
}

/// Whether the two best of these numbers are nearer than what they may be wrong by.
fn is_tie(numbers: impl Iterator<Item = f64>, within: f64) -> bool {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted.len() > 1 && sorted[0] - sorted[1] < within
}

#[test]
fn the_exact_mode_gives_pytorch_s_log_likelihoods() {
    let begin = Instant::now();
    let Some(found) = evaluate(true) else { return };
    let lines = &REAL.as_ref().unwrap().1;
    assert_eq!(lines.len(), 13 * 16);
    let (mut worst, mut compared, mut decisions, mut ties) = (0.0f64, 0, 0, 0);
    for line in lines {
        let at = format!("{} {}", line.task, line.index);
        let found = &found[&(line.task.clone(), line.index)];
        assert_eq!((&found.contexts, &found.continuations), (&line.contexts, &line.continuations), "{at}");
        assert!(line.gold < line.continuations.len());
        for (index, (a, b)) in found.log_likelihoods.iter().zip(&line.loglikelihoods).enumerate() {
            let off = (a - b).abs() / found.tokens[index] as f64;
            assert!(off < 1e-3, "{at}, choice {index}: {a}, PyTorch has {b}");
            worst = worst.max(off);
            compared += 1;
        }
        let most_tokens = found.tokens.iter().copied().max().unwrap() as f64;
        let length = |continuation: &String| (continuation.chars().count() - 1) as f64;
        let sums = || line.loglikelihoods.iter();
        let norms = || sums().zip(&line.continuations).map(|(sum, text)| sum / length(text));
        if line.task == "truthfulqa_mc2" {
            assert!((found.acc - line.acc).abs() < 1e-3 * most_tokens, "{at}: {} {}", found.acc, line.acc);
        } else if is_tie(sums().copied(), 2e-3 * most_tokens) {
            ties += 1;
        } else {
            assert_eq!(found.acc, line.acc, "{at}: acc");
            decisions += 1;
        }
        if let Some(expected) = line.acc_norm {
            let shortest = line.continuations.iter().map(length).fold(f64::INFINITY, f64::min);
            if is_tie(norms(), 2e-3 * most_tokens / shortest) {
                ties += 1;
            } else {
                assert_eq!(found.acc_norm, Some(expected), "{at}: acc_norm");
                decisions += 1;
            }
        }
    }
    println!(
        "exact: {compared} log-likelihoods within {worst:.1e} a token, {decisions} decisions equal, {ties} ties left \
         out, {:?}",
        begin.elapsed()
    );
}

#[test]
fn the_fast_path_is_near_pytorch() {
    let begin = Instant::now();
    let Some(found) = evaluate(false) else { return };
    let (mut sum, mut count) = (0.0, 0);
    let mut accuracies: BTreeMap<&str, [f64; 4]> = BTreeMap::new();
    for line in &REAL.as_ref().unwrap().1 {
        let found = &found[&(line.task.clone(), line.index)];
        let differences = found.log_likelihoods.iter().zip(&line.loglikelihoods).map(|(a, b)| (a - b).abs());
        sum += differences.sum::<f64>();
        count += line.loglikelihoods.len();
        let all = accuracies.entry(&line.task).or_default();
        let norms = [found.acc_norm, line.acc_norm].map(|norm| norm.unwrap_or(0.0));
        for (total, value) in all.iter_mut().zip([found.acc, line.acc, norms[0], norms[1]]) {
            *total += value;
        }
    }
    let mean = sum / count as f64;
    println!("fast: {count} log-likelihoods, mean difference {mean:.4}, {:?}", begin.elapsed());
    assert!(mean < 0.05, "{mean}");
    for (task, [acc, reference, norm, norm_reference]) in accuracies {
        println!("{task}: acc {acc:.2} of 16, PyTorch {reference:.2}; acc_norm {norm} and {norm_reference}");
        assert!((acc - reference).abs() <= 1.0 && (norm - norm_reference).abs() <= 1.0, "{task}");
    }
}
