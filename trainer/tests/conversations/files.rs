//! Files of rows: their formats, and what is wrong with one.

use crate::reference::GOLDEN;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use thimble_trainer::data::conversations::{
    ConversationCounts, ConversationEncoder, ConversationOptions, ConversationSet,
};
use thimble_trainer::error::Result;

const OPTIONS: ConversationOptions = ConversationOptions { max_length: 256, all_tokens: false };

fn encoder() -> ConversationEncoder {
    ConversationEncoder::open(&Path::new(GOLDEN).join("model")).unwrap()
}

fn load(path: &Path, options: ConversationOptions) -> Result<ConversationSet> {
    ConversationSet::load(&[path.display().to_string()], &encoder(), options)
}

const MIXED: [&str; 4] = [
    r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}"#,
    r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "extra": 1}"#,
    r#"{"instruction": "Hi", "output": "Hello"}"#,
    r#"{"prompt": "Hi", "completion": "Hello"}"#,
];

#[test]
fn the_same_rows_are_read_from_every_container() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let lines = MIXED.join("\n\n");
    let array = format!("\u{feff} [\n{}\n]", MIXED.join(",\n"));
    let gzip = |text: &str| {
        let mut out = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    std::fs::write(at("a.jsonl"), &lines).unwrap();
    std::fs::write(at("b.json"), &array).unwrap();
    std::fs::write(at("c.json"), &lines).unwrap();
    std::fs::write(at("d.jsonl.gz"), gzip(&lines)).unwrap();
    std::fs::write(at("e.json.zst"), zstd::encode_all(array.as_bytes(), 1).unwrap()).unwrap();
    let expected = load(&at("a.jsonl"), OPTIONS).unwrap();
    assert_eq!(expected.examples.len(), 4);
    assert!(expected.examples.windows(2).all(|pair| pair[0] == pair[1]), "four shapes of one example");
    assert!(expected.origins[1].ends_with("a.jsonl, line 3"), "{:?}", expected.origins);
    for name in ["b.json", "c.json", "d.jsonl.gz", "e.json.zst"] {
        let found = load(&at(name), OPTIONS).unwrap();
        assert_eq!((&found.examples, &found.counts), (&expected.examples, &expected.counts), "{name}");
        assert_eq!(found.hash(), expected.hash());
    }
}

/// A list of structs, as data sets of the hub have it.
#[test]
fn nested_parquet_columns_are_conversations() {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    let schema =
        "message schema { optional group messages (LIST) { repeated group list { optional group element {
        optional binary role (UTF8); optional binary content (UTF8); } } } optional binary source (UTF8); }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.parquet");
    let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    // Two rows of two messages each.
    let nested: [(&[&str], &[i16], &[i16]); 3] = [
        (&["user", "assistant", "user", "assistant"], &[4, 4, 4, 4], &[0, 1, 0, 1]),
        (&["Hi", "Hello", "Count.", "1, 2"], &[4, 4, 4, 4], &[0, 1, 0, 1]),
        (&["x", "y"], &[1, 1], &[0, 0]),
    ];
    for (texts, defined, repeated) in nested {
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = texts.iter().map(|&text| text.into()).collect();
        column.typed::<ByteArrayType>().write_batch(&values, Some(defined), Some(repeated)).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let found = load(&path, OPTIONS).unwrap();
    assert_eq!(found.examples.len(), 2);
    let lines = folder.path().join("a.jsonl");
    std::fs::write(&lines, MIXED[0]).unwrap();
    assert_eq!(found.examples[0], load(&lines, OPTIONS).unwrap().examples[0]);
    assert!(found.origins[1].ends_with("chats.parquet, row 2"), "{:?}", found.origins);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = load(&path, OPTIONS).unwrap_err().to_string();
    assert!(error.contains("expected a whole parquet file"), "{error}");
}

#[test]
fn a_wrong_row_is_named_with_its_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.jsonl");
    for (text, expected) in [
        (format!("{}\nnot json", MIXED[0]), "bad.jsonl, line 2: expected a JSON object"),
        (format!("{}\n\n{{\"text\": \"x\"}}", MIXED[0]), "bad.jsonl, line 3: expected messages"),
        (format!("[{}, 3]", MIXED[0]), "bad.jsonl, row 2: expected a JSON object, found a number"),
        (format!("[{}", MIXED[0]), "bad.jsonl: expected a JSON array: EOF"),
        (String::new(), "expected at least one row, found none"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = load(&path, OPTIONS).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(load(&folder.path().join("none.json"), OPTIONS).is_err());
}

#[test]
fn other_files_are_named_with_what_was_found_and_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for (name, expected) in [
        ("a.txt", "found .txt; plain text has no rows"),
        ("a.csv", "found .csv; convert it to JSON Lines"),
        ("a.zip", "found .zip; .zip is not supported: decompress it"),
        ("chats", "found a name without an ending; rename it"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, "x").unwrap();
        let error = load(&path, OPTIONS).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("{}: expected a file that ends in .jsonl", path.display())),
            "{said}"
        );
        assert!(said.contains(expected), "{said}");
        assert_eq!(error.exit_code(), 2);
    }
}

/// What lies beside the examples is left out; files of rows are read whatever their kind.
#[test]
fn stray_files_in_a_folder_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["README.md", "notes.txt", "LICENSE", "a.csv"] {
        std::fs::write(at(name), "not rows").unwrap();
    }
    std::fs::write(at("dataset_infos.json"), "{\n  \"default\": {}\n}\n").unwrap();
    std::fs::write(at("a.jsonl"), MIXED.join("\n")).unwrap();
    std::fs::write(at("b.json"), format!("[{}]", MIXED.join(","))).unwrap();
    std::fs::write(at("c.json"), MIXED.join("\n")).unwrap();
    let found = load(folder.path(), OPTIONS).unwrap();
    assert_eq!(found.counts.rows, 12);
    assert!(found.origins[0].ends_with("a.jsonl, line 1") && found.origins[11].ends_with("c.json, line 4"));
}

#[test]
fn what_is_cut_and_dropped_is_counted_and_nothing_left_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let long = r#"{"messages": [{"role": "user", "content": "QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"}, {"role": "assistant", "content": "b"}]}"#;
    let open = r#"{"messages": [{"role": "user", "content": "Hi"}]}"#;
    std::fs::write(&path, [MIXED[0], long, open, MIXED[2]].join("\n")).unwrap();
    let all = load(&path, OPTIONS).unwrap();
    let one = all.examples[0].ids.len();
    let ConversationCounts { rows, examples, truncated, dropped, .. } = all.counts;
    assert_eq!((rows, examples, truncated, dropped), (4, 4, 0, 1));
    assert_eq!(all.counts.end_trained, 3);
    assert_eq!(all.counts.lengths.iter().map(|count| count.examples).sum::<u64>(), 4);
    let cut = load(&path, ConversationOptions { max_length: one - 2, ..OPTIONS }).unwrap();
    // Only the line break and the end token are lost of the short ones; nothing of the long one's answer is left.
    assert_eq!((cut.counts.truncated, cut.counts.dropped, cut.examples.len()), (3, 2, 2));
    assert_eq!(cut.examples[0].target_count() + 1, all.examples[0].target_count());
    assert_eq!(cut.counts.tokens, 2 * (one as u64 - 2));
    assert_eq!(cut.counts.end_trained, 0);
    let error = load(&path, ConversationOptions { max_length: 4, ..OPTIONS }).unwrap_err().to_string();
    assert!(error.contains("found none: each of the 4 examples is without a target"), "{error}");
    let everything = load(&path, ConversationOptions { all_tokens: true, ..OPTIONS }).unwrap();
    assert_eq!(everything.counts.targets + everything.examples.len() as u64, everything.counts.tokens);
}

#[test]
fn the_four_shared_sets_are_read() {
    let Some(shared) = thimble_needs::shared() else { return };
    for (name, rows) in [
        ("dolly_subset", 4_356),
        ("oasst_en_100_conversations", 123),
        ("rasbt_instruction", 1_100),
        ("self_instruct_seed_tasks", 175),
    ] {
        let path = shared.join(format!("data/sft/{name}.jsonl"));
        let set = load(&path, ConversationOptions { max_length: 1024, ..OPTIONS }).unwrap();
        println!("{name}: {:?}", set.counts);
        assert!(set.counts.rows >= rows, "{name}: {}", set.counts.rows);
        assert_eq!(set.examples.len() as u64 + set.counts.dropped, set.counts.examples, "{name}");
        assert!(set.counts.dropped * 10 < set.counts.examples, "{name}: {:?}", set.counts);
    }
}
