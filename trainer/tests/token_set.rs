//! Token sets: what is written is read again, and what is damaged is refused with its place.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use thimble_trainer::data::token_set::{
    HEADER_LEN, MANIFEST, Manifest, SetOptions, TokenSet, TokenSetWriter,
};

/// Documents of many lengths, the empty one among them.
fn documents(vocab: u32) -> Vec<Vec<u32>> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    (0..70).map(|len| (0..len * 3).map(|_| next() % vocab).collect()).collect()
}

struct Made {
    _home: TempDir,
    folder: PathBuf,
    documents: Vec<Vec<u32>>,
}

fn make(vocab: u32, shard_tokens: u64) -> Made {
    let home = tempfile::tempdir().unwrap();
    let tokenizer = home.path().join("tokenizer.json");
    fs::write(&tokenizer, "{}").unwrap();
    fs::write(home.path().join("tokenizer_config.json"), "{ }").unwrap();
    let folder = home.path().join("set");
    let options = SetOptions { tokenizer, vocab, end_of_document: 0, shard_tokens };
    let mut writer = TokenSetWriter::create(&folder, &options).unwrap();
    let documents = documents(vocab);
    for document in &documents {
        writer.push(document).unwrap();
    }
    writer.finish(Vec::new(), None).unwrap();
    Made { _home: home, folder, documents }
}

fn refusal(folder: &Path) -> String {
    let opened = TokenSet::open(folder).and_then(|set| set.verify());
    opened.expect_err("a damaged set").to_string()
}

#[test]
fn documents_come_back_as_they_were_written() {
    for (vocab, bytes, shard_tokens) in [(65_536, 2, 500), (65_537, 4, 500), (300, 2, 1), (300, 2, 1 << 20)] {
        let made = make(vocab, shard_tokens);
        let set = TokenSet::open(&made.folder).unwrap();
        set.verify().unwrap();
        assert_eq!(set.manifest().bytes_per_id, bytes);
        assert_eq!(set.documents(), made.documents.len());
        assert_eq!(
            set.tokens(),
            made.documents.iter().map(|document| document.len() as u64 + 1).sum::<u64>()
        );
        let shards = set.manifest().shards.len();
        assert!(if shard_tokens == 1 { shards == 70 } else { shards == 1 || shards > 5 }, "{shards}");
        assert!(made.folder.join("tokenizer_config.json").is_file());
        let mut before = (String::new(), 0);
        for (number, document) in made.documents.iter().enumerate() {
            let expected: Vec<u32> = document.iter().copied().chain([0]).collect();
            assert_eq!(set.document_len(number), expected.len());
            for from in [0, expected.len() / 2, expected.len()] {
                let mut out = vec![u32::MAX; expected.len() - from];
                set.copy(number, from, &mut out).unwrap();
                assert_eq!(out, expected[from..]);
            }
            let (file, within) = set.locate(number);
            assert_eq!(within, if file == before.0 { before.1 + 1 } else { 0 });
            before = (file.to_owned(), within);
        }
    }
}

#[test]
fn ids_beyond_the_vocabulary_are_refused_with_their_place() {
    let made = make(300, 500);
    let options =
        SetOptions { tokenizer: made.folder.clone(), vocab: 300, end_of_document: 0, shard_tokens: 500 };
    let other = made.folder.with_file_name("other");
    let error = TokenSetWriter::create(&other, &options).unwrap().push(&[1, 2, 300]).unwrap_err().to_string();
    assert!(error.contains("document 0, position 2") && error.contains("found 300"), "{error}");

    // The same in a finished shard: the third id of the shard's second document.
    let set = TokenSet::open(&made.folder).unwrap();
    let (file, within) = set.locate(20);
    let (path, first) = (made.folder.join(file), 20 - within);
    let start: usize = (first..20).map(|document| set.document_len(document)).sum();
    drop(set);
    let mut bytes = fs::read(&path).unwrap();
    bytes[HEADER_LEN + 2 * (start + 2)..][..2].copy_from_slice(&300u16.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = refusal(&made.folder);
    assert!(error.contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
    assert!(
        error.contains(&format!("document {within}, position 2")) && error.contains("found 300"),
        "{error}"
    );
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let made = make(300, 1 << 20);
    let path = made.folder.join("shard-00000.tokens");
    let whole = fs::read(&path).unwrap();
    for len in (0..whole.len()).step_by(29).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..len]).unwrap();
        let error = refusal(&made.folder);
        assert!(error.contains("shard-00000.tokens") && error.contains("truncated"), "{len}: {error}");
        assert!(error.contains(&len.to_string()), "{len}: {error}");
    }
    for at in (0..whole.len()).step_by(23) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        assert!(refusal(&made.folder).contains("shard-00000.tokens"), "byte {at}");
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert!(refusal(&made.folder).contains("too long"));
    fs::remove_file(&path).unwrap();
    assert!(refusal(&made.folder).contains("no such file"));
}

/// In one shard that stays open, and in many, of which the last ones do not.
#[test]
fn a_shard_that_is_truncated_after_it_was_opened_is_an_error() {
    for shard_tokens in [1 << 20, 1] {
        let made = make(300, shard_tokens);
        let set = TokenSet::open(&made.folder).unwrap();
        let last = set.documents() - 1;
        let (name, _) = set.locate(last);
        let path = made.folder.join(name);
        let whole = fs::read(&path).unwrap();
        let mut out = vec![0; set.document_len(last)];
        let truncate =
            |len: usize| fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len as u64);
        let index = 8 * if shard_tokens == 1 { 1 } else { set.documents() };
        for len in [0, HEADER_LEN - 1, HEADER_LEN + 2, whole.len() - index - 8] {
            truncate(len).unwrap();
            let errors = [set.copy(last, 0, &mut out).unwrap_err(), set.verify().unwrap_err()];
            for error in errors.map(|error| error.to_string()) {
                assert!(error.contains(name) && error.contains("the shard was truncated"), "{error}");
                assert!(error.contains(&format!("expected {} bytes", whole.len())), "{error}");
                assert!(error.contains(&format!("found {len};")), "{error}");
            }
        }
        // The same set reads the file again that was put back.
        fs::write(&path, &whole).unwrap();
        set.copy(last, 0, &mut out).unwrap();
        assert_eq!(out.split_last(), Some((&0, &made.documents[last][..])));
        set.verify().unwrap();
    }
}

#[test]
fn a_changed_version_tokenizer_or_manifest_is_refused() {
    let made = make(300, 1 << 20);
    let path = made.folder.join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("\"version\": 1", "\"version\": 2", "expected version 1, found 2"),
        ("thimble-token-set", "something", "expected format"),
        ("\"documents\": 70", "\"documents\": 71", "expected 71 documents, but the shards sum to"),
        ("\"bytes_per_id\": 2", "\"bytes_per_id\": 4", "expected 2 bytes per id"),
        ("shard-00000.tokens", "../set/shard-00000.tokens", "expected the name of a file"),
        ("\"end_of_document\": 0", "\"end_of_document\": 1", "expected its last id to be 1"),
        ("\"vocab\"", "\"vocabulary\"", "vocab"),
    ] {
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = refusal(&made.folder);
        assert!(error.contains(expected), "{from}: {error}");
    }
    fs::write(&path, &text).unwrap();
    let shard = made.folder.join("shard-00000.tokens");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[8] = 9;
    fs::write(&shard, bytes).unwrap();
    assert!(refusal(&made.folder).contains("expected version 1, found 9"));
    fs::write(made.folder.join("tokenizer.json"), "{ }").unwrap();
    assert!(refusal(&made.folder).contains("expected the tokenizer that made the ids"));
    fs::remove_file(&path).unwrap();
    assert!(refusal(&made.folder).contains("no finished token set"));
}

#[test]
fn an_unfinished_set_goes_on_behind_its_last_whole_shard() {
    let made = make(300, 500);
    let expected = Manifest::read(&made.folder).unwrap();
    let options =
        SetOptions { tokenizer: made.folder.clone(), vocab: 300, end_of_document: 0, shard_tokens: 500 };
    let folder = made.folder.with_file_name("other");
    let mut writer = TokenSetWriter::create(&folder, &options).unwrap();
    let closed = made.documents.iter().map(|document| writer.push(document).unwrap());
    let at = closed.take(30).collect::<Vec<_>>().iter().rposition(|&closed| closed).unwrap() + 1;
    let shards = writer.shards().to_vec();
    drop(writer);
    assert!(!folder.join(MANIFEST).exists());
    let mut writer = TokenSetWriter::resume(&folder, &options, shards).unwrap();
    for document in &made.documents[at..] {
        writer.push(document).unwrap();
    }
    assert_eq!(writer.finish(Vec::new(), None).unwrap(), expected);
    for entry in fs::read_dir(&made.folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(
            fs::read(made.folder.join(&name)).unwrap(),
            fs::read(folder.join(&name)).unwrap(),
            "{name:?}"
        );
    }
    assert_eq!(fs::read_dir(&made.folder).unwrap().count(), fs::read_dir(&folder).unwrap().count());
}
