use super::*;
use crate::report::metrics::{
    MetricsEvent, MetricsFile, NamedFigures, SampleText, StartRecord, StepMetrics, ValidationPoint,
};
use std::fs;
use tempfile::TempDir;

/// What an attacker would write.
const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=\"alert(1)\">&'";

fn step(number: u64, loss: f64) -> MetricsEvent {
    MetricsEvent::Step(StepMetrics {
        step: number,
        stage: "sft".into(),
        loss,
        learning_rate: 1e-3,
        gradient_norm: 0.5,
        tokens: number * 1000,
        tokens_per_second: 500.0,
        mfu: None,
        seconds: 2.0,
        figures: NamedFigures::from([("token_accuracy".to_owned(), 0.5)]),
    })
}

fn validation(number: u64, loss: f64, chosen: f64) -> MetricsEvent {
    MetricsEvent::Validation(ValidationPoint {
        step: number,
        loss,
        perplexity: None,
        tokens: number * 1000,
        figures: NamedFigures::from([("logp_chosen".to_owned(), chosen)]),
    })
}

fn sample(number: u64, text: &str, stopped: bool) -> MetricsEvent {
    let (prompt, text) = ("Who are you?".to_owned(), text.to_owned());
    MetricsEvent::Sample(SampleText { step: number, prompt, text, tokens: Some(9), stopped: Some(stopped) })
}

fn start(total_steps: u64) -> MetricsEvent {
    MetricsEvent::Start(StartRecord {
        step: 0,
        total_steps,
        parameters: 1000,
        trainable: 100,
        device: "CPU".into(),
        threads: 2,
        version: "0.1.0".into(),
    })
}

/// A run folder with these events and the built-in recipe for adapters.
fn run(events: &[MetricsEvent]) -> TempDir {
    let run = tempfile::tempdir().unwrap();
    let mut file = MetricsFile::create(run.path()).unwrap();
    events.iter().for_each(|event| file.write(event).unwrap());
    let (_, recipe) = crate::recipe::BUILT_IN.iter().find(|(name, _)| *name == "laptop-lora").unwrap();
    fs::write(run.path().join("recipe.toml"), recipe).unwrap();
    run
}

/// The text between `from` and the next `to`.
fn between<'p>(page: &'p str, from: &str, to: &str) -> &'p str {
    page.split(from).nth(1).unwrap_or_else(|| panic!("no {from}")).split(to).next().unwrap()
}

#[test]
fn a_finished_run_shows_before_and_after() {
    let run = run(&[
        start(2),
        validation(0, 2.0, -90.0),
        sample(0, "I go on and", false),
        step(1, 2.0),
        step(2, 1.5),
        validation(2, 1.6, -80.0),
        sample(2, "Thimble.", true),
    ]);
    let page = page(run.path()).unwrap();
    assert!(page.contains("Instruction tuning of smollm2-135m-instruct: finished after 2 steps."));
    assert!(page.contains("adapters of rank 16 (LoRA), 100 numbers"));
    let answers = between(&page, "<div class=\"answers\">", "</article>");
    assert!(answers.find("Before").unwrap() < answers.find("After (step 2)").unwrap(), "{answers}");
    assert!(
        answers.contains("stopped by itself after 9 tokens") && answers.contains("cut off after 9 tokens")
    );
    let measured = between(&page, "<caption>Held-out examples</caption>", "</table>");
    assert!(measured.contains("<td>2.0000</td>") && measured.contains("<td>1.6000</td>"), "{measured}");
    for title in ["Loss (nats per target)", "Token accuracy", "Learning rate", "Gradient norm"] {
        assert!(page.contains(&format!("<figcaption>{title}")), "{title}");
    }
    assert!(!page.contains("Look at this first"), "{}", between(&page, "Look at this first", "</div>"));
}

#[test]
fn hostile_text_is_text_everywhere() {
    let mut hostile = vec![start(1), step(1, 1.0), sample(1, HOSTILE, true)];
    if let MetricsEvent::Step(step) = &mut hostile[1] {
        step.stage = HOSTILE.into();
        step.figures = NamedFigures::from([(HOSTILE.to_owned(), 1.0)]);
    }
    if let MetricsEvent::Start(start) = &mut hostile[0] {
        start.device = HOSTILE.into();
    }
    let folder = run(&hostile);
    let json = serde_json::to_string(HOSTILE).unwrap();
    fs::write(
        folder.path().join("skipped.jsonl"),
        format!("{{\"step\": 1, \"stage\": {json}, \"reason\": {json}, \"data\": [{json}]}}\n"),
    )
    .unwrap();
    fs::write(folder.path().join("data.json"), format!("{{{json}: {{{json}: {json}}}}}")).unwrap();
    let recipe = fs::read_to_string(folder.path().join("recipe.toml")).unwrap();
    let file = toml::Value::String(HOSTILE.into()).to_string();
    fs::write(folder.path().join("recipe.toml"), recipe.replace("\"chats.jsonl\"", &file)).unwrap();
    let page = page(folder.path()).unwrap();
    assert_eq!(page.matches("<script").count() + page.matches("<img").count(), 0);
    assert!(page.matches("&lt;script&gt;").count() >= 8, "it is shown, escaped");
}

#[test]
fn the_page_loads_nothing() {
    let page = page(run(&[start(1), step(1, 1.0)]).path()).unwrap();
    for loading in ["http:", "https:", "src=", "url(", "@import", "<link", "<script"] {
        assert!(!page.contains(loading), "{loading}");
    }
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
}

#[test]
fn a_run_in_progress_and_one_that_was_killed_have_a_report() {
    let folder = run(&[start(10), step(1, 2.0)]);
    let path = folder.path().join("metrics.jsonl");
    let torn = fs::read_to_string(&path).unwrap() + "{\"kind\":\"step\",\"st";
    fs::write(&path, torn).unwrap();
    assert!(page(folder.path()).unwrap().contains("1 of 10 steps done, not finished"));
    let empty = page(run(&[]).path()).unwrap();
    assert!(empty.contains("No step is finished yet."));
    let nothing = tempfile::tempdir().unwrap();
    assert!(page(nothing.path()).unwrap_err().to_string().contains("there is no metrics.jsonl"));
    let missing = page(&nothing.path().join("typo")).unwrap_err().to_string();
    assert!(missing.contains("expected a run folder, found nothing"), "{missing}");
}

#[test]
fn warnings_name_what_goes_wrong() {
    let folder = run(&[
        start(2),
        validation(0, 2.0, -80.0),
        sample(0, "a", true),
        step(1, f64::NAN),
        validation(1, 1.5, -85.0),
        step(2, 1.0),
        validation(2, 2.5, -95.0),
        sample(2, "on and on", false),
    ]);
    fs::write(folder.path().join("data.json"), "[]").unwrap();
    fs::write(
        folder.path().join("skipped.jsonl"),
        "{\"step\":2,\"stage\":\"a\",\"reason\":\"b\",\"data\":[]}\n",
    )
    .unwrap();
    let page = page(folder.path()).unwrap();
    let warnings = between(&page, "Look at this first", "</div>");
    for expected in [
        "Answers do not stop: 0.0% of the samples of step 2",
        "Fewer samples end by themselves: 100.0% at step 0",
        "fell from -80.00 to -95.00",
        "above its best, 1.5000 after step 1",
        "did not fall: 2.0000 before, 2.5000 after",
        "The loss of step 1 is NaN",
        "1 step skipped",
        "data.json: ",
    ] {
        assert!(warnings.contains(expected), "{expected} is not in {warnings}");
    }
}
