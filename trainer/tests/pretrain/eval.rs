//! `thimble-train eval` computes what the library does on the export.

use crate::setup::{TestFolder, refused, succeeds};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use thimble_converter::{ConversionOptions, Quant, convert};
use thimble_eval::{DataSource, Ended, Evaluation, Results, Selection, Task};
use thimble_files::MappedModel;
use thimble_host::InferenceSettings;

/// Made-up items of every task.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/hub/folder")
}

#[test]
fn a_checkpoint_is_evaluated_as_its_export_is() {
    let test = TestFolder::new();
    succeeds(test.pretrain("run", &["--quiet"]));
    let data = data();
    let folder = data.to_str().unwrap();
    let eval = |more: &[&str]| {
        let run = ["--tasks", "mmlu,arc_easy", "--data", folder, "--exact"];
        test.command(&[&["eval"], more, &run].concat())
    };
    let said = succeeds(eval(&["run", "--checkpoint", "last", "-o", "run.json"]));
    assert!(said.contains("were predicted"), "{said}");
    let by_command = Results::read(&test.path("run.json")).unwrap();
    assert_eq!(by_command.name, "run step 40");

    succeeds(eval(&["run/checkpoints/step-00000040", "-o", "checkpoint.json"]));
    assert_eq!(Results::read(&test.path("checkpoint.json")).unwrap().identity, by_command.identity);

    succeeds(test.command(&["export", "run", "-o", "exported", "--checkpoint", "last"]));
    let file = test.path("exported.thimble");
    let options = ConversionOptions { quant: Quant::Keep, ..ConversionOptions::default() };
    convert(&test.path("exported"), &file, &options, &mut |_| ()).unwrap();
    let model = MappedModel::read(&file).unwrap();
    let evaluation = Evaluation {
        adapters: &[],
        model: &model,
        name: "exported".into(),
        settings: InferenceSettings { exact: true, threads: Some(1), ..InferenceSettings::default() },
        tasks: vec![Task::Mmlu, Task::ArcEasy],
        source: DataSource::Folder(data.clone()),
        selection: Selection::default(),
        result: None,
        samples: None,
    };
    let Ended::Complete(evaluated) = evaluation.run(&AtomicBool::new(false), &mut |_| ()).unwrap() else {
        panic!("nothing stopped it")
    };
    assert_eq!(
        evaluated.results.identity.arithmetic, by_command.identity.arithmetic,
        "the same numbers, bit for bit"
    );
    for (ours, command) in evaluated.results.tasks.iter().zip(&by_command.tasks) {
        assert_eq!((ours.task, ours.n), (command.task, command.n));
        assert_eq!(ours.metrics[0].items, command.metrics[0].items);
    }
    let said = refused(eval(&["run", "--checkpoint", "step-99"]), 2);
    assert!(said.contains("no checkpoint \"step-99\""), "{said}");
    let said = refused(test.command(&["eval", "run", "--data", folder, "--tasks", "mmlo"]), 2);
    assert!(said.contains("did you mean mmlu?"), "{said}");
    let said = refused(test.command(&["eval", "run", "--data", "nowhere", "--tasks", "mmlu"]), 1);
    assert!(said.contains("no data for mmlu"), "{said}");
}
