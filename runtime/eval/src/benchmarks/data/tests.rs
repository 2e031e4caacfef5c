//! Bad data: each mistake has its sentence, with file, line and field.

use super::{DataSource, Selection};
use crate::benchmarks::item::{Gold, Question};
use crate::benchmarks::task::Task;
use std::path::{Path, PathBuf};

/// The message for a task whose file has this content.
fn message(task: Task, content: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), task, content);
    DataSource::Folder(folder.path().to_path_buf()).load(task, Selection::default()).unwrap_err().to_string()
}

fn write(folder: &Path, task: Task, content: &str) {
    std::fs::create_dir_all(folder.join(task.name())).unwrap();
    for split in ["test", "validation", "train"] {
        std::fs::write(folder.join(task.name()).join(split).with_extension("jsonl"), content).unwrap();
    }
}

#[test]
fn mistakes_are_named_with_file_line_and_field() {
    let good = r#"{"question": "a", "choices": ["b", "c"], "gold": 1}"#;
    let cases = [
        (
            Task::ArcEasy,
            format!("{good}\n\n{{\"question\": \"a\"}}\n"),
            "line 3: expected a list of strings in the field \"choices\", found nothing",
        ),
        (
            Task::ArcEasy,
            format!("{good}\n{{\"question\": \"a\", "),
            "line 2: expected a JSON object, found invalid JSON",
        ),
        (Task::ArcEasy, "[1]".into(), "line 1: expected a JSON object, found a list"),
        (
            Task::ArcEasy,
            good.replace('1', "2"),
            "expected a label from 0 to 1 in the field \"gold\", found 2",
        ),
        (Task::ArcEasy, good.replace('1', "-1"), "found -1"),
        (Task::ArcEasy, good.replace('1', "0.5"), "found 0.5"),
        (Task::ArcEasy, good.replace('1', "null"), "expected a label in the field \"gold\", found null"),
        (
            Task::ArcEasy,
            good.replace("\"b\", \"c\"", ""),
            "expected at least 2 strings in the field \"choices\", found 0",
        ),
        (Task::ArcEasy, good.replace("\"c\"", "3"), "expected only strings in the field \"choices\""),
        (
            Task::ArcEasy,
            good.replace("\"a\"", "7"),
            "expected a string in the field \"question\", found a number",
        ),
        (Task::ArcEasy, String::new(), "expected at least one row, found none"),
        (Task::ArcEasy, "\n \n".into(), "expected at least one row, found none"),
        (
            Task::ArcChallenge,
            r#"{"question": "a", "choices": {"text": ["b", "c"], "label": ["A", "B"]}, "answerKey": "1"}"#
                .into(),
            "expected one of A, B in the field \"answerKey\", found \"1\"",
        ),
        (
            Task::Boolq,
            r#"{"passage": "p", "question": "q", "label": 2}"#.into(),
            "expected a label from 0 to 1",
        ),
        (
            Task::Hellaswag,
            r#"{"activity_label": "a", "ctx_a": "b", "endings": []}"#.into(),
            "the field \"ctx_b\", found nothing",
        ),
        (
            Task::Winogrande,
            r#"{"sentence": "no gap", "option1": "a", "option2": "b", "answer": "1"}"#.into(),
            "expected a _ in the field",
        ),
        (
            Task::Winogrande,
            r#"{"sentence": "a _ b", "option1": "a", "option2": "b", "answer": "3"}"#.into(),
            "expected 1 or 2 in the field \"answer\"",
        ),
        (
            Task::Truthfulqa,
            r#"{"question": "a", "mc1_targets": {"choices": ["b", "c"], "labels": [0, 1]}}"#.into(),
            "expected 1 for the first choice alone",
        ),
        (
            Task::Truthfulqa,
            r#"{"question": "a", "mc1_targets": {"choices": ["b", "c"], "labels": [1]}}"#.into(),
            "expected 2 labels in the field \"mc1_targets.labels\", found 1",
        ),
        (
            Task::Truthfulqa,
            r#"{"question": "a", "mc1_targets": {"choices": ["b", "c"], "labels": [1, 2]}}"#.into(),
            "expected labels of 0 or 1",
        ),
        (
            Task::Mmlu,
            r#"{"question": "a", "subject": "s", "choices": ["1", "2", "3", "4", "5"], "answer": 0}"#.into(),
            "expected 4 strings",
        ),
        (
            Task::Mmlu,
            r#"{"question": "a", "subject": "s", "choices": ["1", "2", "3", "4"], "answer": 4}"#.into(),
            "expected a label from 0 to 3",
        ),
        (
            Task::Gsm8k,
            r#"{"question": "a", "answer": "1"}"#.into(),
            "expected at least 5 rows to draw examples from, found 1",
        ),
        (Task::LambadaOpenai, r#"{"context": "a"}"#.into(), "the field \"continuation\", found nothing"),
    ];
    for (task, content, expected) in cases {
        let found = message(task, &content);
        assert!(found.contains(expected) && found.contains(task.name()), "{content}\n{found}\n{expected}");
    }
}

#[test]
fn text_that_is_not_utf8_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), Task::Piqa, "");
    std::fs::write(folder.path().join("piqa/validation.jsonl"), b"{\"goal\": \"\xff").unwrap();
    let source = DataSource::Folder(folder.path().to_path_buf());
    let error = source.load(Task::Piqa, Selection::default()).unwrap_err().to_string();
    assert!(error.contains("byte 10"), "{error}");
}

fn made_up() -> DataSource {
    DataSource::Folder(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/hub/folder"))
}

#[test]
fn rows_are_selected() {
    let load = |offset, limit| made_up().load(Task::Gsm8k, Selection { offset, limit });
    let all = load(0, None).unwrap();
    assert_eq!((all.items.len(), all.rows), (4, 4));
    let part = load(2, Some(1)).unwrap();
    assert_eq!(part.items, all.items[2..3], "the examples are those of the third row");
    assert_eq!(load(3, Some(9)).unwrap().items, all.items[3..]);
    let error = load(4, None).unwrap_err().to_string();
    assert!(error.contains("--offset 4 skips all 4 rows: lower it"), "{error}");
    let error = DataSource::Folder("/nowhere".into()).load(Task::Piqa, Selection::default()).unwrap_err();
    assert!(error.to_string().contains("there is no file"), "{error}");
}

#[test]
fn prompts_look_as_they_should() {
    let first = |task| made_up().load(task, Selection::default()).unwrap().items.remove(0).question;
    let Question::Choices(hellaswag) = first(Task::Hellaswag) else { panic!("choices") };
    assert_eq!(hellaswag.context(2), "Baking: A man. bakes. He then");
    assert_eq!(hellaswag.continuations[0], " eats  it.", "two spaces become one, once");
    assert_eq!(hellaswag.characters[1], 10);
    let Question::Choices(winogrande) = first(Task::Winogrande) else { panic!("choices") };
    assert_eq!(winogrande.context(1), "Ann thanked Bea because Bea");
    assert_eq!((&winogrande.continuations[1][..], winogrande.gold), (" had helped.", Gold::Choice(1)));
    let Question::Choices(lambada) = first(Task::LambadaOpenai) else { panic!("choices") };
    assert_eq!(
        (lambada.context(0), &lambada.continuations[..]),
        ("The cat sat on the", &[" mat".to_string()][..])
    );
    let Question::Text { prompt, .. } = first(Task::Gsm8k) else { panic!("text") };
    assert!(
        prompt.starts_with("Question: train") && prompt.ends_with("\n\nQuestion: test 0 and 0?\nAnswer:")
    );
    assert_eq!(prompt.matches("\nAnswer: It is").count(), 5);
}
