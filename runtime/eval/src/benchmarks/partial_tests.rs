//! Partial results that were interrupted, damaged, or belong to another evaluation.

use super::PartialResults;
use crate::benchmarks::data::Selection;
use crate::benchmarks::item_runner::ItemOutcome;
use crate::benchmarks::passes::Work;
use crate::benchmarks::results::{Identity, ModelId, SettingsId};
use crate::benchmarks::task::Task;
use std::io::Write;
use std::path::Path;

fn identity() -> Identity {
    Identity {
        version: "1".into(),
        model: ModelId { checksum: "00ff".into(), bytes: 7 },
        settings: SettingsId {
            exact: false,
            kv: "f16".into(),
            kernels: "scalar".into(),
            context: 64,
            adapters: Vec::new(),
        },
        selection: Selection::default(),
        tasks: Vec::new(),
        arithmetic: Some("ab".into()),
    }
}

fn outcome(index: usize) -> ItemOutcome {
    ItemOutcome {
        task: Task::Piqa,
        index,
        log_likelihoods: vec![-1.234567891, -0.1, -123456.000000001],
        tokens: vec![1, 2, 3],
        greedy: None,
        text: Some("a\nb\u{fffd}".into()),
        work: Work { passes: 1, tokens: 2, attended: 3, head_rows: 4, decoded: 5 },
        seconds: 0.123456789012345,
        decode_seconds: 0.0,
    }
}

fn open(path: &Path) -> (PartialResults, super::EarlierRuns) {
    PartialResults::open(path, &identity()).unwrap()
}

#[test]
fn what_was_written_is_read_and_a_torn_line_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = PartialResults::path_of(&folder.path().join("out.json"));
    assert!(path.ends_with("out.json.partial"));
    let (mut partial, earlier) = open(&path);
    assert_eq!((earlier.outcomes.len(), earlier.runs), (0, 0));
    partial.done(&outcome(0)).unwrap();
    partial.predicted(9.5).unwrap();
    partial.done(&outcome(1)).unwrap();
    drop(partial);
    // Cut anywhere, whole lines stay, and what is written afterwards is read again.
    let whole = std::fs::read(&path).unwrap();
    for cut in 1..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
        let (mut partial, earlier) = open(&path);
        let expected = [0, 0, 0, 1, 1, 2][lines];
        assert_eq!(earlier.outcomes, (0..expected).map(outcome).collect::<Vec<_>>());
        assert_eq!(earlier.predicted, (lines >= 4).then_some(9.5));
        assert_eq!(earlier.runs, usize::from(lines >= 2));
        partial.done(&outcome(7)).unwrap();
        drop(partial);
        let (_, earlier) = open(&path);
        assert_eq!(earlier.outcomes.last(), Some(&outcome(7)));
        assert_eq!(earlier.outcomes.len(), expected + 1);
    }
}

#[test]
fn two_at_once_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json.partial");
    let held = open(&path);
    let error = PartialResults::open(&path, &identity()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    drop(held);
    open(&path);
}

#[test]
fn partial_results_of_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json.partial");
    drop(open(&path));
    let refused = |change: &dyn Fn(&mut Identity), expected: &str| {
        let mut other = identity();
        change(&mut other);
        let error = PartialResults::open(&path, &other).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("another evaluation") && error.contains(expected), "{error}");
    };
    refused(&|id| id.model.checksum = "11".into(), "its model has the checksum 00ff, this one 11");
    refused(&|id| id.settings.exact = true, "settings");
    refused(&|id| id.selection.limit = Some(3), "limit 3");
    refused(&|id| id.arithmetic = Some("cd".into()), "other kernels");
    refused(&|id| id.version = "2".into(), "thimble 1, this is 2");
    let before = std::fs::read(&path).unwrap();
    open(&path);
    assert!(std::fs::read(&path).unwrap().starts_with(&before), "a refusal changes nothing");

    for (content, expected) in [
        ("a letter\n", "line 1 is damaged"),
        ("{\"sitting\": 1}\n", "line 1 is damaged"),
        ("\"sitting\"\n", "not partial results of `thimble eval`"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = PartialResults::open(&path, &identity()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    drop(open(&path));
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"garbage\n\"sitting\"\n").unwrap();
    let error = PartialResults::open(&path, &identity()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("line 3 is damaged"), "{error}");
}
