//! `thimble-train curate`: the contract of its output, and input that is hard to read.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn curate(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
    command.arg("curate").args(arguments).current_dir(folder).output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

const TEXT: &str = "the old stone keeps the new engine near the lemon and the bright orchard";

#[test]
fn duplicates_are_printed_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    // The lowest id stays, wherever it stands.
    for (id, text) in [
        (json!(9), TEXT),
        (json!("b"), TEXT),
        (json!(4), TEXT),
        (json!(5), "something else it is, in five words"),
    ] {
        lines += &format!("{}\n", json!({ "id": id, "text": text }));
    }
    fs::write(folder.path().join("a.jsonl"), &lines).unwrap();
    for method in [&["--preset", "fineweb"][..], &["--preset", "finemath", "--ngram", "3"], &["--exact"]] {
        let output = curate(folder.path(), &[&["dedup", "a.jsonl", "--json"], method].concat());
        let found: Value = serde_json::from_str(&printed(&output)).unwrap();
        assert_eq!(found, json!({ "removed": [9, "b"], "clusters": [[4, 9, "b"]] }), "{method:?}");
    }
    // Without ids, numbers; one document cannot be read, and counts.
    fs::write(
        folder.path().join("b.jsonl"),
        b"{\"text\": \"\xff\"}\n{\"text\": \"\"}\n\n{\"text\": \"a\"}\n{\"text\": \"A!\"}",
    )
    .unwrap();
    let output = curate(folder.path(), &["dedup", "b.jsonl", "--exact", "--json"]);
    assert_eq!(printed(&output).trim(), r#"{"removed":[3],"clusters":[[2,3]]}"#);
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 documents cannot be read"));
    for wrong in [
        &["dedup", "a.jsonl", "--buckets", "0"][..],
        &["dedup", "none.jsonl"],
        &["none.toml"],
        &["none.toml", "--task", "3/2"],
    ] {
        assert!(!curate(folder.path(), wrong).status.success(), "{wrong:?}");
    }
}

#[test]
fn recipes_run_from_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let line = |text: &str| format!("{}\n", json!({ "text": text }));
    fs::write(folder.path().join("raw.jsonl"), line(TEXT) + &line(TEXT) + &line("other words")).unwrap();
    fs::write(folder.path().join("items.jsonl"), json!({ "question": TEXT }).to_string()).unwrap();
    let recipe = "input = [\"raw.jsonl\"]\noutput = \"out\"\n[[stage]]\nkind = \"minhash\"\n";
    fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let said = printed(&curate(folder.path(), &["recipe.toml", "--keep-removed"]));
    assert!(said.contains("2 documents"), "{said}");
    let said = printed(&curate(folder.path(), &["recipe.toml", "--keep-removed", "--task", "1/1"]));
    assert!(said.contains("run --barrier"), "{said}");
    let said = printed(&curate(folder.path(), &["recipe.toml", "--keep-removed", "--barrier"]));
    assert!(said.contains("2 documents"), "{said}");
    // What it writes is an input again.
    let said = printed(&curate(
        folder.path(),
        &["decontaminate", "out/data", "--benchmark", "items.jsonl", "--json"],
    ));
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["removed"][0]["id"], &found["removed"][0]["share"]), (&json!(0), &json!(1.0)));
    assert_eq!((found["items"].as_array().unwrap().len(), &found["documents"]), (1, &json!(2)));
}
