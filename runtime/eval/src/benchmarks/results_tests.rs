//! Metrics against numbers computed by hand, or with Python's statistics.

use super::{Average, TaskMetric, TaskResult, best, mean, share_of_true, value};
use crate::benchmarks::item::{Choices, Gold, Item, Question};
use crate::benchmarks::item_runner::ItemOutcome;
use crate::benchmarks::passes::Work;
use crate::benchmarks::task::{Metric, Task};

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn ties_go_to_the_first() {
    assert_eq!(best([-2.0, -1.0, -1.0]), Some(1));
    assert_eq!(best([f64::NEG_INFINITY, f64::NEG_INFINITY]), Some(0));
    assert_eq!(best([]), None);
}

#[test]
fn errors_are_those_of_the_sample() {
    // statistics.stdev([1, 0, 0, 1, 1]) / 5 ** 0.5
    let (value, error) = mean(&[1.0, 0.0, 0.0, 1.0, 1.0]);
    assert!(close(value, 0.6) && close(error.unwrap(), 0.244_948_974_278_317_8));
    assert_eq!(mean(&[1.0]), (1.0, None));
    let perplexity = TaskMetric::new(Metric::Perplexity, vec![-1.0, -3.0]);
    assert!(close(perplexity.value, 2f64.exp()) && close(perplexity.stderr.unwrap(), 2f64.exp()));
}

#[test]
fn the_share_of_true_choices_does_not_underflow() {
    assert!(close(share_of_true(&[0.5f64.ln(), 0.25f64.ln(), 0.25f64.ln()], &[true, false, true]), 0.75));
    let far = [-5000.0, -5000.0 + 3f64.ln()];
    assert!(close(share_of_true(&far, &[true, false]), 0.25));
}

fn outcome(log_likelihoods: Vec<f64>) -> ItemOutcome {
    ItemOutcome {
        task: Task::ArcEasy,
        index: 0,
        tokens: vec![1; log_likelihoods.len()],
        log_likelihoods,
        greedy: Some(true),
        text: Some("#### 7. and 8".into()),
        work: Work::default(),
        seconds: 0.0,
        decode_seconds: 0.0,
    }
}

fn item(question: Question) -> Item {
    Item { index: 0, line: 1, question }
}

#[test]
fn items_are_decided() {
    let choices = |gold, characters: &[usize]| {
        item(Question::Choices(Choices {
            contexts: vec!["c".into()],
            continuations: vec![" x".into(); characters.len()],
            characters: characters.to_vec(),
            gold,
        }))
    };
    let outcome_of = outcome(vec![-4.0, -3.0, -9.0]);
    let two = choices(Gold::Choice(1), &[4, 2, 0]);
    assert_eq!(value(Metric::Acc, &two, &outcome_of), 1.0);
    assert_eq!(value(Metric::AccNorm, &two, &outcome_of), 0.0, "-4/4 beats -3/2, and -9/0 is never chosen");
    let truthful = choices(Gold::Truthful { mc1: 0, mc2: vec![true, false] }, &[1; 5]);
    let sums = outcome(vec![-1.0, -1.0, -2.0, 0.75f64.ln(), 0.25f64.ln()]);
    assert_eq!(value(Metric::Mc1, &truthful, &sums), 1.0, "the first of a tie");
    assert!(close(value(Metric::Mc2, &truthful, &sums), 0.75));
    let greedy = choices(Gold::Greedy, &[3]);
    assert_eq!(value(Metric::Acc, &greedy, &outcome(vec![-2.5])), 1.0);
    assert_eq!(value(Metric::Perplexity, &greedy, &outcome(vec![-2.5])), -2.5);
    let text = item(Question::Text { prompt: "p".into(), answer: "so\n#### 7".into() });
    assert_eq!(value(Metric::Strict, &text, &outcome(Vec::new())), 1.0);
    assert_eq!(value(Metric::Flexible, &text, &outcome(Vec::new())), 0.0);
}

#[test]
fn the_average_is_that_of_the_published_table() {
    // SmolLM2-70M: the ten tasks without GSM8K.
    let values = [33.00, 22.35, 39.66, 26.14, 54.84, 45.20, 50.04, 48.02, 27.60, 22.96];
    let mut tasks: Vec<TaskResult> = Task::AVERAGED
        .into_iter()
        .zip(values)
        .map(|(task, value)| TaskResult {
            task,
            n: 2,
            metrics: vec![TaskMetric { metric: task.metrics()[0], value, stderr: Some(1.0), items: vec![] }],
            work: Work::default(),
            thread_seconds: 0.0,
        })
        .collect();
    let average = Average::new(&tasks).unwrap();
    assert!(close(average.value, 36.981) && close(average.stderr.unwrap(), 0.1f64.sqrt()));
    tasks.pop();
    assert!(Average::new(&tasks).is_none(), "nine are not ten");
}
