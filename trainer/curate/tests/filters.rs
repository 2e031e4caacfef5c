//! Classifiers and rules as stages of a recipe.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use thimble_curate::fasttext::{ClassifierOptions, Example, train};
use thimble_curate::pipeline::{CorpusRecipe, CurationRun, Share};

const SEA: &str =
    "The tide comes in because the moon pulls at the sea, and the gulls of the harbour know it well. ";
const HILL: &str =
    "The snow on the ridge melts in the sun, and the goats of the valley climb up to the peak then. ";

fn write_model(path: &Path) {
    let example = |label: &str, text: &str| Example { labels: vec![label.to_owned()], text: text.to_owned() };
    let examples: Vec<Example> = (0..40).flat_map(|_| [example("sea", SEA), example("hill", HILL)]).collect();
    let options =
        ClassifierOptions { dimensions: 8, epochs: 20, learning_rate: 0.5, ..ClassifierOptions::default() };
    let mut file = Vec::new();
    train(&examples, &options, |_, _| ()).unwrap().write(&mut file).unwrap();
    fs::write(path, file).unwrap();
}

fn recipe(folder: &Path, stages: &str) -> Result<CorpusRecipe, String> {
    let path = folder.join("recipe.toml");
    fs::write(&path, format!("input = [\"in.jsonl\"]\noutput = \"out\"\nkeep-removed = true\n{stages}"))
        .unwrap();
    CorpusRecipe::read(&path).map_err(|error| error.to_string())
}

#[test]
fn classifiers_and_rules_remove_documents_and_add_columns() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_model(&folder.join("model.bin"));
    let menu = "Home About Contact\n";
    let texts = [
        SEA.repeat(2),
        HILL.repeat(2),
        format!("{menu}{}", (SEA.to_owned() + "\n").repeat(6)),
        (SEA.to_owned() + "\n").repeat(6) + "The KRAKEN sleeps there.",
    ];
    let lines: String =
        texts.iter().enumerate().map(|(id, text)| format!("{}\n", json!({"id": id, "text": text}))).collect();
    fs::write(folder.join("in.jsonl"), lines).unwrap();
    fs::write(folder.join("blocked.txt"), "Kraken\n").unwrap();
    let recipe = recipe(
        folder,
        "[[stage]]\nkind = \"classify\"\nmodel = \"model.bin\"\nlabel = \"sea\"\nthreshold = 0.6\n\
         [[stage]]\nkind = \"rules\"\nrules = [\"c4\"]\nblocked-words = \"blocked.txt\"\n",
    )
    .unwrap();
    CurationRun { recipe: &recipe, share: Share::All, threads: 2 }.run(&mut |_, _| {}).unwrap();
    let mut kept = Vec::new();
    let mut removed = Vec::new();
    for entry in walk(&folder.join("out")) {
        let text = read(&entry);
        for line in text.lines() {
            let document: Value = serde_json::from_str(line).unwrap();
            if document.get("removed").is_some() { removed.push(document) } else { kept.push(document) }
        }
    }
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0]["sea_score"].as_f64().unwrap() > 0.6);
    assert_eq!(kept[0]["text"], (SEA.trim_end().to_owned() + "\n").repeat(6).trim_end());
    removed.sort_by_key(|document| document["id"].as_u64());
    let reasons: Vec<&str> = removed.iter().map(|document| document["removed"].as_str().unwrap()).collect();
    for (reason, expected) in reasons.iter().zip(["too_few_sentences", "sea_score", "badwords"]) {
        assert!(reason.contains(expected), "{reasons:?}");
    }
    assert_eq!(reasons.len(), 3);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else if path.to_string_lossy().ends_with(".jsonl.zst") {
            files.push(path);
        }
    }
    files
}

fn read(path: &Path) -> String {
    let bytes = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn stages_that_cannot_be_opened_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_model(&folder.join("model.bin"));
    fs::write(folder.join("in.jsonl"), "{\"text\": \"a\"}\n").unwrap();
    fs::write(folder.join("empty.txt"), "\n").unwrap();
    let model = "[[stage]]\nkind = \"classify\"\nmodel = \"model.bin\"\n";
    let table = [
        (format!("{model}preset = \"dclm\"\n"), "__label__hq"),
        (format!("{model}preset = \"fineweb\"\n"), "\"language\" or \"dclm\""),
        (format!("{model}label = \"sea\"\n"), "threshold"),
        (format!("{model}label = \"sea\"\nthreshold = 2.0\n"), "threshold"),
        (format!("{model}label = \"lake\"\nthreshold = 0.5\n"), "__label__lake"),
        (
            "[[stage]]\nkind = \"classify\"\nmodel = \"in.jsonl\"\npreset = \"dclm\"\n".into(),
            "not a fastText classifier",
        ),
        ("[[stage]]\nkind = \"rules\"\n".into(), "expected names"),
        ("[[stage]]\nkind = \"rules\"\nrules = [\"gopher\"]\n".into(), "gopher-quality"),
        ("[[stage]]\nkind = \"rules\"\nblocked-words = \"empty.txt\"\n".into(), "word or phrase"),
    ];
    for (stages, expected) in table {
        let recipe = recipe(folder, &stages).unwrap();
        let error =
            CurationRun { recipe: &recipe, share: Share::All, threads: 1 }.run(&mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains(expected), "{stages}: {error}");
    }
}
