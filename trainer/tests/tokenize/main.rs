//! `thimble-train tokenize` and `train-tokenizer`, as a person runs them.
#![allow(clippy::unwrap_used)]

mod hub;
mod inputs;
mod setup;

use setup::{TestFolder, files, gzip, jsonl, numbers, parquet};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;
use thimble_trainer::data::token_set::TokenSet;
use thimble_trainer::data::tokenizer::{EncodeScratch, Encoder, SPECIAL_TOKENS};

fn all(set: &TokenSet) -> Vec<Vec<u32>> {
    let document = |number| {
        let mut ids = vec![0; set.document_len(number)];
        set.copy(number, 0, &mut ids).unwrap();
        ids
    };
    (0..set.documents()).map(document).collect()
}

#[test]
fn ids_are_those_of_the_tokenizers_crate_on_any_number_of_threads() {
    let test = TestFolder::new(300);
    let mut oracle = tokenizers::Tokenizer::from_file(test.path("tokenizer/tokenizer.json")).unwrap();
    oracle.set_encode_special_tokens(true);
    let expected: Vec<Vec<u32>> = test
        .documents
        .iter()
        .map(|text| [oracle.encode(text.as_str(), false).unwrap().get_ids(), &[0]].concat())
        .collect();
    test.tokenize("text.jsonl", "one", &["--threads", "1", "--shard-tokens", "1000"]);
    let set = TokenSet::open(&test.path("one")).unwrap();
    set.verify().unwrap();
    assert!(set.manifest().shards.len() > 10, "{:?}", set.manifest().shards);
    assert_eq!(all(&set), expected);
    // A special token that stands in a text does not end the document.
    assert!(test.documents.iter().any(|text| text.contains(SPECIAL_TOKENS[0])));
    assert!(all(&set).iter().all(|ids| ids[..ids.len() - 1].iter().all(|&id| id > 2)));
    for (output, more) in
        [("five", &["--threads", "5"][..]), ("slow", &["--threads", "3", "--tokenizers-crate"])]
    {
        test.tokenize("text.jsonl", output, &[&["--shard-tokens", "1000"], more].concat());
        assert_eq!(files(&test.path("one")), files(&test.path(output)), "{output}");
    }
    // What is decoded is what was read.
    let encoder = Encoder::open(&test.path("tokenizer")).unwrap();
    let mut ids = Vec::new();
    encoder.encode(&test.documents[7], &mut EncodeScratch::default(), &mut ids).unwrap();
    assert_eq!(encoder.decode(&ids).unwrap(), test.documents[7]);
    let slow = encoder.without_tables();
    assert_eq!(slow.decode(&ids).unwrap(), test.documents[7]);
}

#[test]
fn every_form_of_the_same_text_gives_the_same_shards() {
    let test = TestFolder::new(700);
    test.tokenize("text.jsonl", "plain", &[]);
    let expected = test.shards("plain");
    let text = jsonl(&test.documents);
    let middle = text.match_indices('\n').nth(300).unwrap().0 + 1;
    let (first, second) = text.split_at(middle);
    // Two members, two frames, and blank lines between.
    fs::write(
        test.path("a.jsonl.gz"),
        [gzip(first.as_bytes()), gzip(b"\n  \n"), gzip(second.as_bytes())].concat(),
    )
    .unwrap();
    let frame = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    fs::write(test.path("b.json.zst"), [frame(first), frame(second)].concat()).unwrap();
    let mut rows: Vec<Option<String>> = test.documents.iter().cloned().map(Some).collect();
    rows.insert(5, None);
    rows.insert(400, Some(String::new()));
    fs::write(test.path("c.parquet"), parquet(&rows, 270)).unwrap();
    for source in ["a.jsonl.gz", "b.json.zst", "c.parquet"] {
        test.tokenize(source, &format!("{source}.set"), &[]);
        assert_eq!(test.shards(&format!("{source}.set")), expected, "{source}");
    }
    // A folder of files, each a document; and the lines of one.
    fs::create_dir_all(test.path("folder/deeper")).unwrap();
    let one_line: Vec<String> = test.documents.iter().map(|text| text.replace('\n', " ")).collect();
    fs::write(test.path("folder/1.txt"), &one_line[0]).unwrap();
    fs::write(test.path("folder/2.txt.gz"), gzip(one_line[1].as_bytes())).unwrap();
    fs::write(test.path("folder/deeper/3.txt"), &one_line[2]).unwrap();
    fs::write(test.path("folder/README.md"), "not read").unwrap();
    fs::write(test.path("lines.txt"), format!("\u{FEFF}{}\r\n", one_line[..3].join("\r\n\r\n"))).unwrap();
    fs::write(test.path("three.jsonl"), jsonl(&one_line[..3])).unwrap();
    test.tokenize("folder", "folder.set", &[]);
    test.tokenize("lines.txt", "lines.set", &["--lines"]);
    test.tokenize("three.jsonl", "three.set", &[]);
    assert_eq!(test.shards("folder.set"), test.shards("three.set"));
    assert_eq!(test.shards("lines.set"), test.shards("three.set"));
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_bytes() {
    let test = TestFolder::new(1500);
    fs::write(
        test.path("c.parquet"),
        parquet(&test.documents.iter().cloned().map(Some).collect::<Vec<_>>(), 400),
    )
    .unwrap();
    let arguments = |output: &'static str, held: &'static str| {
        [
            "tokenize",
            "text.jsonl",
            "c.parquet",
            "--tokenizer",
            "tokenizer",
            "-o",
            output,
            "--shard-tokens",
            "4000",
            "--holdout",
            "0.05",
            "--holdout-output",
            held,
            "--threads",
            "2",
        ]
    };
    test.succeeds(&arguments("whole", "whole-held"));
    let mut next = numbers(3);
    let (mut kills, mut on_the_way) = (0, 0);
    loop {
        let mut child = test.command(&arguments("killed", "killed-held")).spawn().unwrap();
        // Longer and longer, so that it comes to its end on a slow machine too.
        std::thread::sleep(Duration::from_millis((next(60) + 25 * kills) as u64));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            break;
        }
        kills += 1;
        on_the_way += usize::from(test.path("killed/shard-00000.tokens").exists());
        if on_the_way == 1 {
            // As if it had been killed between the manifests of the two sets.
            fs::copy(test.path("whole-held/manifest.json"), test.path("killed-held/manifest.json")).unwrap();
        }
        assert!(kills < 1000);
    }
    assert!(kills > 0 && on_the_way > 0, "killed {kills} times, {on_the_way} behind the first shard");
    for (whole, killed) in [("whole", "killed"), ("whole-held", "killed-held")] {
        let (whole, killed) = (files(&test.path(whole)), files(&test.path(killed)));
        let names =
            |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&whole), names(&killed));
        assert!(whole == killed, "the files differ after {kills} kills");
    }
    // Once more: nothing is left to do. With another option it is another job.
    assert!(test.succeeds(&arguments("killed", "killed-held")).contains("complete already"));
    let mut other = arguments("killed", "killed-held");
    other[8] = "9000";
    assert!(test.refused(&other).contains("shard_tokens was 4000 and is 9000"));
    assert_eq!(files(&test.path("whole")), files(&test.path("killed")));
}

#[test]
fn held_out_documents_are_whole_and_in_no_other_set() {
    let test = TestFolder::new(400);
    test.tokenize("text.jsonl", "all", &[]);
    let hold = |name: &str, more: &[&str]| {
        let held = format!("{name}-held");
        test.tokenize("text.jsonl", name, &[&["--holdout-output", &held, "--holdout"][..], more].concat());
        [name, &held].map(|set| all(&TokenSet::open(&test.path(set)).unwrap()))
    };
    let everything = all(&TokenSet::open(&test.path("all")).unwrap());
    let [rest, held] = hold("number", &["25"]);
    assert_eq!(held.len(), 25);
    assert_eq!(rest.len(), 375);
    // Both in order, and together everything.
    let (mut rest, mut held) = (rest.into_iter().peekable(), held.into_iter().peekable());
    for document in &everything {
        assert!(rest.next_if_eq(document).is_some() || held.next_if_eq(document).is_some());
    }
    assert!(rest.peek().is_none() && held.peek().is_none());
    let [_, again] = hold("again", &["25"]);
    let [_, other] = hold("other", &["25", "--holdout-seed", "1"]);
    assert_eq!(again, all(&TokenSet::open(&test.path("number-held")).unwrap()));
    assert_ne!(again, other);
    let [_, fraction] = hold("fraction", &["0.25"]);
    assert!((60..140).contains(&fraction.len()), "{}", fraction.len());
    assert!(
        test.refused(&[
            "tokenize",
            "text.jsonl",
            "--tokenizer",
            "tokenizer",
            "-o",
            "x",
            "--holdout",
            "400",
            "--holdout-output",
            "y"
        ])
        .contains("400 of 400")
    );
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let test = TestFolder::new(300);
    let whole = fs::read(test.path("text.jsonl")).unwrap();
    let packed = gzip(&whole);
    let table = parquet(&test.documents.iter().cloned().map(Some).collect::<Vec<_>>(), 50);
    let with = |line: &str| [&whole[..], line.as_bytes(), b"\n"].concat();
    let cases: [(&str, Vec<u8>, &[&str]); 12] = [
        ("a.jsonl", with("{\"text\": "), &["a.jsonl, line 301", "--skip-bad"]),
        ("b.jsonl", with("{\"body\": \"x\"}"), &["b.jsonl, line 301", "\"text\"", "--field"]),
        ("c.jsonl", with("{\"text\": 5}"), &["c.jsonl, line 301", "string"]),
        ("d.jsonl", with("[1]"), &["d.jsonl, line 301", "object"]),
        ("e.txt", b"good \xFF".to_vec(), &["e.txt", "UTF-8", "5"]),
        ("f.jsonl.gz", packed[..packed.len() / 2].to_vec(), &["f.jsonl.gz"]),
        ("g.jsonl.zst", whole.clone(), &["g.jsonl.zst"]),
        ("h.parquet", table[..table.len() - 9].to_vec(), &["h.parquet", "whole parquet file"]),
        ("i.parquet", [&table[..100], &vec![7; 4000], &table[4100..]].concat(), &["i.parquet"]),
        ("j.md", whole.clone(), &["j.md", "expected a file that ends in"]),
        ("k.jsonl", b"\n\n".to_vec(), &["expected documents, found none"]),
        (
            "l.jsonl",
            b"{\"text\": \"\"}".to_vec(),
            &["expected documents, found none", "1 records without text"],
        ),
    ];
    for (name, bytes, expected) in cases {
        fs::write(test.path(name), bytes).unwrap();
        let output = format!("{name}.set");
        let error = test.refused(&["tokenize", name, "--tokenizer", "tokenizer", "-o", &output]);
        assert!(expected.iter().all(|expected| error.contains(expected)), "{name}: {error}");
        assert!(!test.path(&output).join("manifest.json").exists());
    }
    let column = ["tokenize", "c.parquet", "--tokenizer", "tokenizer", "-o", "c.set", "--field"];
    fs::write(test.path("c.parquet"), &table).unwrap();
    assert!(test.refused(&[&column[..], &["n"]].concat()).contains("found INT64"));
    assert!(test.refused(&[&column[..], &["body"]].concat()).contains("found id, text, n"));
    // Counted instead.
    let said =
        test.succeeds(&["tokenize", "a.jsonl", "--tokenizer", "tokenizer", "-o", "skipped", "--skip-bad"]);
    assert!(said.contains("skipped 1 bad records; the first: a.jsonl, line 301"), "{said}");
    test.tokenize("text.jsonl", "plain", &[]);
    assert_eq!(test.shards("skipped"), test.shards("plain"));
    // Folders that are somebody else's, and tokenizers that are none.
    fs::create_dir(test.path("mine")).unwrap();
    fs::write(test.path("mine/thesis.txt"), "x").unwrap();
    let error = test.refused(&["tokenize", "text.jsonl", "--tokenizer", "tokenizer", "-o", "mine"]);
    assert!(error.contains("found thesis.txt"), "{error}");
    assert_eq!(files(&test.path("mine")).len(), 1);
    fs::write(test.path("wrong.json"), "{}").unwrap();
    let error = test.refused(&["tokenize", "text.jsonl", "--tokenizer", "wrong.json", "-o", "x"]);
    assert!(error.contains("wrong.json: expected a tokenizer"), "{error}");
}

/// A limit on the size of files stands in for a full disk: the system refuses the write in the same place.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_whole_shards_and_the_run_goes_on_with_room() {
    let test = TestFolder::new(2000);
    let small =
        ["tokenize", "text.jsonl", "--tokenizer", "tokenizer", "-o", "full", "--shard-tokens", "60000"];
    let program = env!("CARGO_BIN_EXE_thimble-train");
    let limited = |kilobytes: u32| {
        let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$0\" \"$@\"");
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &script, program]).args(small).current_dir(&test.folder);
        command.output().unwrap()
    };
    let output = limited(60);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("shard-00000.tokens: no space left on the disk")
            && error.contains("run the same command"),
        "{error}"
    );
    assert!(files(&test.path("full")).iter().all(|(name, _)| !name.contains("shard")));
    test.succeeds(&small);
    let mut again = small;
    again[5] = "fresh";
    test.succeeds(&again);
    assert_eq!(files(&test.path("full")), files(&test.path("fresh")));
}

#[test]
fn sources_that_changed_under_an_unfinished_run_are_refused() {
    let test = TestFolder::new(2000);
    fs::write(test.path("bad.jsonl"), [jsonl(&test.documents), "{\n".into()].concat()).unwrap();
    let arguments =
        ["tokenize", "bad.jsonl", "--tokenizer", "tokenizer", "-o", "set", "--shard-tokens", "20000"];
    assert!(test.refused(&arguments).contains("line 2001"));
    let mut other = arguments;
    other[7] = "30000";
    assert!(test.refused(&other).contains("shard_tokens was 20000 and is 30000"));
    assert!(
        test.refused(&[&arguments[..], &["--skip-bad"]].concat()).contains("skip_bad was false and is true")
    );
    fs::write(test.path("bad.jsonl"), jsonl(&test.documents)).unwrap();
    assert!(test.refused(&arguments).contains("the sources have changed"));
    fs::remove_dir_all(test.path("set")).unwrap();
    test.succeeds(&arguments);
}

#[test]
fn a_trained_tokenizer_is_what_was_asked_for() {
    let test = TestFolder::new(300);
    test.succeeds(&["train-tokenizer", "text.jsonl", "--vocab", "320", "-o", "again"]);
    assert_eq!(files(&test.path("tokenizer")), files(&test.path("again")));
    test.succeeds(&[
        "train-tokenizer",
        "text.jsonl",
        "--vocab",
        "300",
        "-o",
        "part",
        "--sample-bytes",
        "100000",
    ]);
    let encoder = Encoder::open(&test.path("tokenizer")).unwrap();
    assert_eq!(encoder.slow_because(), None, "Thimble's own tables must do");
    assert_eq!(encoder.vocab(), 320);
    for (text, id) in SPECIAL_TOKENS.into_iter().zip(0..) {
        assert_eq!(encoder.id(text), Some(id));
    }
    assert_eq!(encoder.end_of_document(None).unwrap(), 0);
    assert_eq!(encoder.end_of_document(Some("<|im_end|>")).unwrap(), 2);
    let oracle = tokenizers::Tokenizer::from_file(test.path("tokenizer/tokenizer.json")).unwrap();
    // Every byte has a token of its own, digits never join.
    let single: BTreeSet<String> =
        oracle.get_vocab(false).into_keys().filter(|token| token.chars().count() == 1).collect();
    assert_eq!(single.len(), 256);
    let digits = |token: &String| token.chars().filter(char::is_ascii_digit).count();
    assert!(oracle.get_vocab(false).keys().all(|token| digits(token) == 0 || token.len() == 1));
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(test.path("tokenizer/tokenizer_config.json")).unwrap()).unwrap();
    for name in ["bos_token", "eos_token", "unk_token"] {
        assert_eq!(config[name], SPECIAL_TOKENS[0]);
    }
    fs::write(test.path("little.txt"), "one two").unwrap();
    let error = test.refused(&["train-tokenizer", "little.txt", "--vocab", "5000", "-o", "x"]);
    assert!(
        error.contains("expected enough text for 5000 tokens") && error.contains("259 or less"),
        "{error}"
    );
    let error = test.refused(&["train-tokenizer", "little.txt", "--vocab", "100", "-o", "x"]);
    assert!(error.contains("at least 259"), "{error}");
}
