//! The benchmarks: every prompt as the harness's own task files render it, and evaluations of a tiny model on made-up
//! items against one request at a time; with the feature `slow` the real model against PyTorch.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "eval/bos.rs"]
mod bos;
#[cfg(feature = "slow")]
#[path = "eval/real.rs"]
mod real;
mod tiny;

use conformance::{Need, converted, score, shared, skip, with_session};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use thimble_chat::encode_text;
use thimble_converter::{BlockType, Quant};
use thimble_eval::request::Request;
use thimble_eval::{
    DataSource, Ended, EvalError, EvalEvent, Evaluated, Evaluation, Gold, Metric, Question, Results,
    Selection, Stopped, Task,
};
use thimble_files::MappedModel;
use thimble_host::{BackendKind, Generator, InferenceSettings, device};
use thimble_runtime::format::{ModelFile, SectionKind};
use thimble_runtime::sampler;
use thimble_runtime::tokenizer::Specials;
use tiny::{Aligned, Folder, ODD, Shape};

/// Of every item of every task the contexts and continuations: see `golden/prompts.py`.
#[test]
fn all_prompts_are_the_harness_s() {
    let Some(shared) = shared() else { return };
    let golden: BTreeMap<String, (usize, String)> =
        serde_json::from_str(include_str!("../golden/prompts.json")).unwrap();
    assert_eq!(golden.len(), Task::ALL.len());
    let source = DataSource::Folder(shared.join("data/eval"));
    for task in Task::ALL {
        let data = source.load(task, Selection::default()).unwrap();
        assert_eq!(data.rows, task.published_items());
        let mut digest = Sha256::new();
        for item in &data.items {
            match &item.question {
                Question::Text { prompt, .. } => digest.update(format!("{prompt}\0")),
                Question::Choices(choices) => {
                    for (index, continuation) in choices.continuations.iter().enumerate() {
                        digest.update(format!("{}\0{continuation}\0", choices.context(index)));
                    }
                }
            }
            digest.update("\n");
        }
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((data.rows, digest), golden[task.name()], "{}", task.name());
    }
}

/// The made-up items.
fn made_up() -> DataSource {
    DataSource::Folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hub/folder"))
}

/// The made-up items ten times over.
fn many(folder: &Path) -> DataSource {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hub/folder");
    for task in Task::ALL {
        fs::create_dir_all(folder.join(task.name())).unwrap();
        for file in fs::read_dir(from.join(task.name())).unwrap() {
            let file = file.unwrap();
            let text = fs::read_to_string(file.path()).unwrap();
            fs::write(folder.join(task.name()).join(file.file_name()), text.repeat(10)).unwrap();
        }
    }
    DataSource::Folder(folder.to_path_buf())
}

/// A model that has seen nothing.
fn model(at: &Path, shape: Shape) -> MappedModel {
    Folder::new(shape, BlockType::F32).write(at, 1);
    converted(at, &at.join("tiny.thimble"), Quant::F32).0
}

/// Room for TruthfulQA's prompt, a token for nearly every byte.
const LONG: usize = 2048;

fn long_model(at: &Path) -> MappedModel {
    long_model_with(at, &Json::Null)
}

/// The same with a post-processor.
fn long_model_with(at: &Path, post_processor: &Json) -> MappedModel {
    let mut folder = Folder::new(ODD, BlockType::F32);
    folder.tokenizer["post_processor"] = post_processor.clone();
    folder.config["max_position_embeddings"] = LONG.into();
    folder.write(at, 1);
    converted(at, &at.join("tiny.thimble"), Quant::F32).0
}

fn evaluation<'a>(model: &'a MappedModel, tasks: &[Task]) -> Evaluation<'a> {
    Evaluation {
        adapters: &[],
        model,
        name: "tiny".into(),
        settings: InferenceSettings { threads: Some(2), ..InferenceSettings::default() },
        tasks: tasks.to_vec(),
        source: made_up(),
        selection: Selection::default(),
        result: None,
        samples: None,
    }
}

fn complete(evaluation: &Evaluation<'_>) -> Box<Evaluated> {
    match evaluation.run(&AtomicBool::new(false), &mut |_| ()).unwrap() {
        Ended::Complete(evaluated) => evaluated,
        stopped => panic!("{stopped:?}"),
    }
}

/// A request's sum by itself, on an empty session.
fn alone(
    session: &mut Generator<'_>,
    file: &ModelFile<'_>,
    context: &str,
    continuation: &str,
) -> (f64, usize) {
    let request = Request::new(file, context, continuation).unwrap().fit(session.context()).unwrap();
    session.rewind(0).unwrap();
    let scores = score(session, &request.tokens).unwrap();
    (scores[request.from - 1..].iter().sum(), request.continuation_len())
}

/// Greedy tokens behind a prompt, up to a special one.
fn continued(session: &mut Generator<'_>, file: &ModelFile<'_>, prompt: &str) -> String {
    let mut tokens = encode_text(&file.tokenizer(), file.config(), prompt, Specials::Parse).unwrap();
    tokens.drain(..tokens.len().saturating_sub(session.context() - 256));
    session.rewind(0).unwrap();
    session.prefill(&tokens).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..256 {
        let token = sampler::greedy(session.tokens_and_logits().1);
        if file.tokenizer().is_special(token) {
            break;
        }
        bytes.extend(file.tokenizer().token_bytes(token));
        session.prefill(&[token]).unwrap();
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split("Question:").next().unwrap().to_string()
}

#[test]
fn every_outcome_is_that_of_one_request_at_a_time() {
    let at = tempfile::tempdir().unwrap();
    let model = long_model(at.path());
    let file = model.file().unwrap();
    let evaluated = complete(&evaluation(&model, &Task::ALL));
    let settings =
        InferenceSettings { context: Some(LONG), threads: Some(1), ..InferenceSettings::default() };
    with_session(&model, &settings, |session| {
        for (data, outcomes) in evaluated.data.iter().zip(&evaluated.outcomes) {
            assert_eq!(data.items.len(), outcomes.len());
            for (item, outcome) in data.items.iter().zip(outcomes) {
                assert_eq!(item.index, outcome.index);
                match &item.question {
                    Question::Text { prompt, .. } => {
                        assert_eq!(outcome.text.as_ref(), Some(&continued(session, &file, prompt)));
                    }
                    Question::Choices(choices) => {
                        for (index, continuation) in choices.continuations.iter().enumerate() {
                            let (sum, tokens) = alone(session, &file, choices.context(index), continuation);
                            let found = outcome.log_likelihoods[index];
                            assert!((found - sum).abs() < 1e-8, "{:?} {index}: {found} {sum}", data.task);
                            assert_eq!(outcome.tokens[index], tokens);
                        }
                        assert_eq!(outcome.greedy.is_some(), choices.gold == Gold::Greedy);
                    }
                }
            }
        }
    });
    let results = &evaluated.results;
    assert_eq!(results.tasks.len(), 12);
    assert!(results.average.is_some() && results.missing.is_empty());
    // The tiny tokenizer makes two tokens of " A": the first row tells the space, the second all four letters.
    let mmlu = &results.tasks[9];
    assert_eq!((mmlu.task, mmlu.work.passes, mmlu.work.head_rows), (Task::Mmlu, 2, 4), "one pass an item");
    let perplexity = &results.tasks[11].metrics[1];
    assert_eq!(perplexity.metric, Metric::Perplexity);
    let sum: f64 = evaluated.outcomes[11].iter().map(|outcome| outcome.log_likelihoods[0]).sum();
    assert!((perplexity.value - (-sum / 2.0).exp()).abs() < 1e-6 * perplexity.value);
}

/// Everything but how long it took.
fn without_times(mut results: Results) -> Results {
    results.seconds.actual = 0.0;
    results.seconds.predicted = None;
    results.seconds.runs = 0;
    results.seconds.threads = 0;
    for task in &mut results.tasks {
        task.thread_seconds = 0.0;
        // What a thread still holds of the item before depends on which that was.
        task.work = thimble_eval::Work::default();
    }
    results
}

#[test]
fn neither_threads_nor_interruptions_change_a_bit() {
    let at = tempfile::tempdir().unwrap();
    let model = long_model(at.path());
    let source = many(&at.path().join("many"));
    let result = at.path().join("out.json");
    let partial = at.path().join("out.json.partial");
    let run = |threads: usize, exact: bool, stop_after: usize| {
        let settings = InferenceSettings { threads: Some(threads), exact, ..InferenceSettings::default() };
        let evaluation = Evaluation {
            settings,
            source: source.clone(),
            result: Some(result.clone()),
            samples: None,
            ..evaluation(&model, &Task::ALL)
        };
        let stop = AtomicBool::new(false);
        let mut first = None;
        let ended = evaluation.run(&stop, &mut |event| match event {
            EvalEvent::Resumed { items, .. } => first = Some(items),
            EvalEvent::Done { items, .. } if items >= stop_after => stop.store(true, Ordering::Relaxed),
            _ => {}
        });
        (ended, first)
    };
    let finish = |ended: Result<Ended, EvalError>| match ended.unwrap() {
        Ended::Complete(evaluated) => {
            assert!(partial.exists(), "the partial stays until the results are written");
            evaluated.finish().unwrap();
            assert!(!partial.exists());
            let read = Results::read(&result).unwrap();
            assert_eq!(read.tasks.len(), evaluated.results.tasks.len());
            without_times(evaluated.results)
        }
        stopped => panic!("{stopped:?}"),
    };
    let whole = finish(run(1, false, usize::MAX).0);
    assert_eq!(finish(run(3, false, usize::MAX).0), whole);

    let mut done = 0;
    for stop_after in [1, 40, 150] {
        let (ended, resumed) = run(2, false, stop_after);
        let Ended::Stopped(Stopped { items, of, partial: Some(kept) }) = ended.unwrap() else {
            panic!("it was stopped")
        };
        assert!(items >= stop_after && items < of, "{items} of {of}");
        assert_eq!(kept, partial);
        assert_eq!(resumed.unwrap_or(0), done, "nothing is done twice");
        done = items;
    }
    let error = run(2, true, usize::MAX).0.unwrap_err();
    assert!(matches!(&error, EvalError::PartialResults { .. }), "{error}");
    assert!(error.to_string().contains("exact mode"), "{error}");
    let (ended, resumed) = run(3, false, usize::MAX);
    assert_eq!(resumed, Some(done));
    assert_eq!(finish(ended), whole);
    assert_ne!(
        finish(run(2, true, usize::MAX).0).tasks,
        whole.tasks,
        "the exact mode computes something else"
    );
}

/// GUIDE.md promises it: nothing is answered by another processor than the one that began.
#[test]
fn an_evaluation_whose_gpu_is_lost_goes_on_with_the_same_command() {
    if let Err(error) = device() {
        return skip(Need::Adapter, error);
    }
    let at = tempfile::tempdir().unwrap();
    let model = model(at.path(), ODD);
    let source = many(&at.path().join("many"));
    let result = at.path().join("out.json");
    let settings = InferenceSettings {
        threads: Some(1),
        backend: Some(BackendKind::Gpu),
        ..InferenceSettings::default()
    };
    let run = |result: &Path, lose_after: usize| {
        let (source, result) = (source.clone(), Some(result.to_owned()));
        let evaluation = Evaluation { settings, source, result, ..evaluation(&model, &[Task::Piqa]) };
        let mut resumed = None;
        let ended = evaluation.run(&AtomicBool::new(false), &mut |event| match event {
            EvalEvent::Resumed { items, .. } => resumed = Some(items),
            EvalEvent::Done { items, .. } if items == lose_after => device().unwrap().destroy(),
            _ => {}
        });
        (ended, resumed)
    };
    let Ended::Complete(whole) = run(&at.path().join("whole.json"), usize::MAX).0.unwrap() else { panic!() };

    let error = run(&result, 3).0.unwrap_err();
    assert!(matches!(error, EvalError::Gpu { begun: true }), "{error}");
    assert!(error.to_string().contains("the same command resumes"), "{error}");
    let (ended, resumed) = run(&result, usize::MAX);
    let Ended::Complete(evaluated) = ended.unwrap() else { panic!() };
    assert!(resumed >= Some(3), "what was answered is kept: {resumed:?}");
    assert_eq!(without_times(evaluated.results), without_times(whole.results));
}

/// The message for one task with these lines.
fn refused(model: &MappedModel, task: Task, split: &str, lines: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(task.name())).unwrap();
    fs::write(folder.path().join(task.name()).join(split).with_extension("jsonl"), lines).unwrap();
    let source = DataSource::Folder(folder.path().to_path_buf());
    let evaluation = Evaluation { source, ..evaluation(model, &[task]) };
    evaluation.run(&AtomicBool::new(false), &mut |_| ()).unwrap_err().to_string()
}

#[test]
fn a_choice_that_is_too_long_is_named_and_an_empty_one_is_a_space() {
    let at = tempfile::tempdir().unwrap();
    let short = model(at.path(), ODD);
    let good = r#"{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}"#;
    let long = good.replace("\"c\"", &format!("\"{}\"", "1".repeat(600)));
    let message = refused(&short, Task::Piqa, "validation", &format!("{good}\n{long}\n"));
    assert!(message.contains("piqa/validation.jsonl, line 2: choice 2"), "{message}");
    assert!(message.contains("601 tokens, more than the context of 512"), "{message}");

    // An empty choice is the space in front of it, as in the harness.
    let empty = good.replace("\"b\"", "\"\"");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("piqa")).unwrap();
    fs::write(folder.path().join("piqa/validation.jsonl"), &empty).unwrap();
    let source = DataSource::Folder(folder.path().to_path_buf());
    let evaluated = complete(&Evaluation { source, ..evaluation(&short, &[Task::Piqa]) });
    assert_eq!(evaluated.outcomes[0][0].tokens[0], 1);
    assert_eq!(evaluated.results.tasks[0].metrics[0].value, 0.0, "a sum over no characters is never chosen");
}

#[test]
fn a_context_without_room_for_an_answer_is_named() {
    let at = tempfile::tempdir().unwrap();
    let model = model(at.path(), ODD);
    let settings = InferenceSettings { context: Some(256), ..InferenceSettings::default() };
    let evaluation = Evaluation { settings, ..evaluation(&model, &[Task::Gsm8k]) };
    let error = evaluation.run(&AtomicBool::new(false), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("256 tokens are generated, but the context has 256"), "{error}");
    let settings = InferenceSettings { context: Some(513), ..InferenceSettings::default() };
    let evaluation = Evaluation { settings, ..evaluation };
    let error = evaluation.run(&AtomicBool::new(false), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("513 positions was asked for"), "{error}");
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("tiny.thimble");
    drop(model(at.path(), ODD));
    let mut file = fs::read(&path).unwrap();
    let aligned = Aligned::new(&file);
    let parsed = ModelFile::parse(aligned.bytes()).unwrap();
    let weights = parsed.sections().find(|section| section.kind == SectionKind::Tensors).unwrap().length;
    let start = file.len() - weights as usize;
    for word in file[start..].as_chunks_mut::<4>().0 {
        *word = f32::NAN.to_le_bytes();
    }
    fs::write(&path, &file).unwrap();
    let model = MappedModel::read(&path).unwrap();
    let error = evaluation(&model, &[Task::Piqa]).run(&AtomicBool::new(false), &mut |_| ()).unwrap_err();
    assert!(matches!(error, EvalError::NotFinite { .. }), "{error}");
    assert!(error.to_string().contains("piqa, item 0"), "{error}");
}

#[test]
fn tasks_without_data_are_named_and_the_others_done() {
    let at = tempfile::tempdir().unwrap();
    let model = model(at.path(), ODD);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("piqa")).unwrap();
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/hub/folder/piqa/validation.jsonl");
    fs::copy(from, folder.path().join("piqa/validation.jsonl")).unwrap();
    let source = DataSource::Folder(folder.path().to_path_buf());
    let evaluated = complete(&Evaluation { source, ..evaluation(&model, &[Task::Mmlu, Task::Piqa]) });
    let results = &evaluated.results;
    assert_eq!((results.tasks.len(), results.tasks[0].task), (1, Task::Piqa));
    assert_eq!((results.missing.len(), results.missing[0].task), (1, Task::Mmlu));
    let table = results.to_string();
    assert!(table.contains("mmlu") && table.contains("no data") && table.contains("no average"), "{table}");
}
