//! What commands write replaces nothing but an older output, and is gone again after Ctrl-C.

use crate::setup::{Bench, setup};
use std::fs;
use std::path::Path;

/// Made-up items of every task, in a folder of the bench.
fn data(bench: &Bench) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hub/folder");
    for file in ["piqa/validation.jsonl", "gsm8k/test.jsonl", "gsm8k/train.jsonl"] {
        let target = bench.path("data").join(file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(golden.join(file), target).unwrap();
    }
}

#[test]
fn an_evaluation_replaces_only_results() {
    let bench = setup("eval-outputs");
    data(&bench);
    let eval = |more: &[&str]| {
        let run = ["eval", "tiny.thimble", "--data", "data", "--tasks", "piqa"];
        bench.run(&[&run[..], more].concat(), b"")
    };
    let model = fs::read(bench.path("tiny.thimble")).unwrap();
    let items = fs::read(bench.path("data/piqa/validation.jsonl")).unwrap();
    for flag in ["-o", "--samples"] {
        eval(&[flag, "tiny.thimble"]).fails(1, "would replace the model");
        eval(&[flag, "data/../data/piqa/validation.jsonl"]).fails(1, "would replace the data");
        eval(&[flag, "data"]).fails(1, "it exists and is not a file");
        eval(&[flag, "none/out"]).fails(1, "cannot write none/out");
    }
    eval(&["-o", "out.json", "--samples", "./out.json"]).fails(1, "--samples would replace -o");
    eval(&["-o", "out.json", "--samples", "out.json.partial"]).fails(1, "would replace the partial results");
    assert_eq!(fs::read(bench.path("tiny.thimble")).unwrap(), model);
    assert_eq!(fs::read(bench.path("data/piqa/validation.jsonl")).unwrap(), items);
    assert!(!bench.path("out.json").exists() && !bench.path("out.json.partial").exists());

    // What cannot be asked leaves no partial results that would block other tasks.
    let run = ["eval", "tiny.thimble", "--data", "data", "--tasks", "gsm8k", "-o", "out.json"];
    bench.run(&run, b"").fails(1, "omit this task");
    eval(&["-o", "out.json"]).succeeds();

    let result = fs::read(bench.path("out.json")).unwrap();
    let run = ["eval", "tiny.thimble", "--data", "wrong", "--tasks", "piqa", "-o", "out.json"];
    bench.run(&run, b"").fails(1, "no data for piqa");
    assert_eq!(fs::read(bench.path("out.json")).unwrap(), result);

    for notes in ["my notes", "{\"of\": \"notes\"}\n"] {
        fs::write(bench.path("new.json.partial"), notes).unwrap();
        eval(&["-o", "new.json"]).fails(1, "new.json.partial");
        assert_eq!(fs::read_to_string(bench.path("new.json.partial")).unwrap(), notes);
    }
    fs::write(bench.path("new.json.partial"), "{\"of\":{\"vers").unwrap();
    eval(&["-o", "new.json"]).succeeds();

    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("real.json", bench.path("link.json")).unwrap();
        eval(&["-o", "link.json"]).succeeds();
        assert!(bench.path("link.json").is_symlink() && bench.path("real.json").is_file());
    }
}

#[test]
fn a_conversion_replaces_none_of_its_files() {
    let bench = setup("convert-outputs");
    for file in ["text.md", "recipe.toml", "kept.json"] {
        fs::write(bench.path(file), "base = \"q8\"\n").unwrap();
    }
    let refused = |more: &[&str], word: &str| {
        bench.run(&[&["convert", "hf"], more].concat(), b"").fails(1, word);
    };
    refused(&["-o", "out.md", "--report", "out.md"], "-o would replace --report");
    refused(
        &["-o", "out", "--calibrate", "text.md", "--report", "text.md"],
        "--report would replace --calibrate",
    );
    refused(&["-o", "recipe.toml", "--recipe", "recipe.toml"], "-o would replace --recipe");
    refused(&["-o", "kept.json", "--sensitivities", "kept.json", "--target-bits", "5"], "--sensitivities");
    refused(&["-o", "out", "--report", "none/out.md"], "cannot write none/out.md");
    let report = ["-o", "out", "--report", "hf/tokenizer.json.md"];
    fs::write(bench.path("hf/tokenizer.json.md"), "notes").unwrap();
    bench.run(&[&["convert", "hf"], &report[..]].concat(), b"").fails(2, "belongs to the source");
    assert!(!bench.path("out").exists());
    for file in ["text.md", "recipe.toml", "kept.json"] {
        assert_eq!(fs::read_to_string(bench.path(file)).unwrap(), "base = \"q8\"\n");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_takes_unfinished_files_away() {
    use std::time::{Duration, Instant};
    let bench = setup("ctrl-c");
    let run = ["convert", "hf", "-o", "out.thimble", "--quant", "q3"];
    let parts = || {
        let names = fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".part")).count()
    };
    let signal = |pid: &str, name: &str| {
        std::process::Command::new("kill").args([name, pid]).status().unwrap();
    };
    let begin = Instant::now();
    // It may be done before the signal comes: then once more.
    while begin.elapsed() < Duration::from_secs(120) {
        let _ = fs::remove_file(bench.path("out.thimble"));
        let mut child = bench.start(&run);
        while parts() == 0 && child.try_wait().unwrap().is_none() {}
        let pid = child.id().to_string();
        signal(&pid, "-STOP");
        let caught = parts() == 1;
        signal(&pid, "-INT");
        signal(&pid, "-CONT");
        let code = child.wait().unwrap().code();
        assert_eq!(parts(), 0);
        if caught && code == Some(130) {
            assert!(!bench.path("out.thimble").exists());
            return;
        }
    }
    panic!("no conversion was caught in the middle");
}

#[test]
fn a_source_is_never_written_over() {
    let bench = setup("over-source");
    fs::write(bench.path("m.gguf"), b"GGUF\x03\0\0\0").unwrap();
    bench.run(&["convert", "m.gguf", "-o", "./m.gguf"], b"").fails(2, "belongs to the source");
    assert_eq!(fs::read(bench.path("m.gguf")).unwrap().len(), 8);
    bench.run(&["convert", "hf", "-o", "hf/model.safetensors"], b"").fails(2, "belongs to the source");
    bench.run(&["convert", "hf", "-o", "hf/m.thimble"], b"").succeeds();
    bench.run(&["convert", "hf", "-o", "hf/m.thimble"], b"").succeeds();
}

#[cfg(target_os = "linux")]
#[test]
fn links_survive_and_devices_are_refused() {
    let bench = setup("links");
    std::os::unix::fs::symlink("real.thimble", bench.path("link.thimble")).unwrap();
    for _ in ["absent", "there"] {
        bench.run(&["convert", "hf", "-o", "link.thimble"], b"").succeeds();
        assert!(fs::symlink_metadata(bench.path("link.thimble")).unwrap().is_symlink());
        bench.run(&["verify", "real.thimble"], b"").succeeds();
    }
    bench.run(&["convert", "hf", "-o", "/dev/stdout"], b"").fails(1, "not a file");
}
