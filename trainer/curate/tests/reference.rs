//! Words, signatures and clusters against datatrove's.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use std::path::Path;
use thimble_curate::dedup::{DedupJob, DedupMethod, DedupProgress, DuplicateSets, MinHash, MinHashSettings};
use thimble_curate::source::{ReadOptions, TextSource};
use thimble_curate::text::{WordList, normalize};

/// Made by `golden/words.py`.
const WORDS: &str = include_str!("golden/words.json");

#[test]
fn words_and_signatures_are_datatroves() {
    let minhash = MinHash::new(MinHashSettings { ngram: 3, buckets: 2, rows: 3 }).unwrap();
    let rows: Vec<Value> = serde_json::from_str(WORDS).unwrap();
    let mut differ = Vec::new();
    for row in &rows {
        let text = row["text"].as_str().unwrap();
        let words = WordList::of_normalized(&normalize(text));
        let expected: Vec<&str> =
            row["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let found: Vec<&str> = words.iter().collect();
        let signature: Option<Vec<u64>> = serde_json::from_value(row["signature"].clone()).unwrap();
        if found != expected || minhash.signature(text) != signature {
            differ.push(format!("{text:?}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(rows.len() > 70 && differ.is_empty(), "{}", differ.join("\n"));
}

fn duplicates(file: &Path, settings: MinHashSettings, threads: usize) -> (DuplicateSets, DedupProgress) {
    let read = ReadOptions::default();
    let sources = TextSource::resolve(&[file.to_str().unwrap().to_owned()], &read).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let method = DedupMethod::MinHash(MinHash::new(settings).unwrap());
    let job = DedupJob { sources: &sources, read, method, threads, folder: folder.path().to_owned() };
    job.run(&mut |_| {}).unwrap()
}

#[test]
fn signatures_and_clusters_are_those_of_the_reference() {
    let Some(shared) = thimble_needs::shared() else { return };
    let folder = shared.join("reference/minhash");
    let json =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap() };
    let (expected, signatures) = (json("expected.json"), json("signatures.json"));
    let documents = std::fs::read_to_string(folder.join("documents.jsonl")).unwrap();

    for (name, settings) in
        [("14x8 xxhash", MinHashSettings::FINEWEB), ("1x10 xxhash", MinHashSettings::FINEMATH)]
    {
        let minhash = MinHash::new(settings).unwrap();
        for line in documents.lines() {
            let document: Value = serde_json::from_str(line).unwrap();
            let of: Option<Vec<u64>> =
                serde_json::from_value(signatures[name][document["id"].to_string()].clone()).unwrap();
            assert_eq!(
                minhash.signature(document["text"].as_str().unwrap()),
                of,
                "{name}, {}",
                document["id"]
            );
        }
    }
    for (name, settings) in [
        ("14 buckets x 8", MinHashSettings::FINEWEB),
        ("1 bucket x 10", MinHashSettings::FINEMATH),
        ("13-grams, 14 buckets x 8", MinHashSettings { ngram: 13, ..MinHashSettings::FINEWEB }),
    ] {
        let expected = &expected["results"][name];
        for threads in [1, 3] {
            let (found, progress) = duplicates(&folder.join("documents.jsonl"), settings, threads);
            assert_eq!(serde_json::to_value(&found.clusters).unwrap(), expected["clusters"], "{name}");
            // datatrove removes as many, but keeps another one of some clusters.
            assert_eq!(found.removed.len(), expected["removed"].as_array().unwrap().len(), "{name}");
            let but_first: usize = found.clusters.iter().map(|cluster| cluster.len() - 1).sum();
            assert_eq!((found.removed.len(), progress.documents, progress.bad), (but_first, 60, 0));
        }
    }
}
