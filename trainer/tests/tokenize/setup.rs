//! A folder with texts and a tokenizer, and the command.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub(crate) struct TestFolder {
    _home: TempDir,
    pub(crate) folder: PathBuf,
    pub(crate) documents: Vec<String>,
}

/// Numbers that look random.
pub(crate) fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

/// Documents of many lengths, with what tokenizers stumble over.
pub(crate) fn documents(count: usize) -> Vec<String> {
    let words = [
        "the ",
        "river ",
        "runs ",
        "42",
        " 2024",
        "don't ",
        "\n\n",
        "  ",
        "na\u{EF}ve ",
        "\u{4F60}\u{597D}",
        "\u{1F44D}\u{1F3FD} ",
        "<|endoftext|>",
        "<|im_start|>",
        "\t",
        "mountain",
        ", ",
        "\u{301}",
        "\"quoted\" ",
        "\\",
        "e",
        "\u{1}",
        "----------------------------------------------------------------------------------------------------",
    ];
    let mut next = numbers(7);
    (0..count)
        .map(|_| {
            let most = 1 + next(400);
            let long = 1 + next(most);
            // Never blank, for blank lines are no records.
            format!("x{}", (0..long).map(|_| words[next(words.len())]).collect::<String>())
        })
        .collect()
}

impl TestFolder {
    /// Writes `count` documents to `text.jsonl` and trains a tokenizer on them, in `tokenizer`.
    pub(crate) fn new(count: usize) -> TestFolder {
        let home = tempfile::tempdir().unwrap();
        let test = TestFolder { folder: home.path().to_owned(), _home: home, documents: documents(count) };
        fs::write(test.path("text.jsonl"), jsonl(&test.documents)).unwrap();
        test.succeeds(&["train-tokenizer", "text.jsonl", "--vocab", "320", "-o", "tokenizer"]);
        test
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The command, in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
        command.current_dir(&self.folder).args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        errors
    }

    /// Runs what must be refused; returns what it says.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {:?} {errors}", output.status);
        assert!(errors.contains("error: ") && !errors.contains("panicked"), "{errors}");
        errors
    }

    pub(crate) fn tokenize(&self, source: &str, output: &str, more: &[&str]) {
        self.succeeds(&[&["tokenize", source, "--tokenizer", "tokenizer", "-o", output][..], more].concat());
    }

    /// The shards of a set, which do not depend on the sources' names.
    pub(crate) fn shards(&self, set: &str) -> Vec<Vec<u8>> {
        let mut files: Vec<_> = files(&self.path(set));
        files.retain(|(name, _)| name.ends_with(".tokens"));
        files.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

/// Names and bytes of a folder's files, sorted.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    });
    let mut files: Vec<_> = entries.collect();
    files.sort();
    files
}

pub(crate) fn jsonl(documents: &[String]) -> String {
    let line = |text: &String| {
        format!("{}\n", serde_json::json!({ "id": 1, "text": text, "more": { "text": "no" } }))
    };
    documents.iter().map(line).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A parquet file with an optional column `text`, in row groups of `rows`.
pub(crate) fn parquet(documents: &[Option<String>], rows: usize) -> Vec<u8> {
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;
    let schema = "message m { required binary id (UTF8); optional binary text (UTF8); required int64 n; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    for group in documents.chunks(rows) {
        let mut row_group = writer.next_row_group().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        let ids = vec![ByteArray::from("id"); group.len()];
        column.typed::<ByteArrayType>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        let texts: Vec<ByteArray> =
            group.iter().flatten().map(|text| ByteArray::from(text.as_str())).collect();
        let levels: Vec<i16> = group.iter().map(|text| i16::from(text.is_some())).collect();
        column.typed::<ByteArrayType>().write_batch(&texts, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        let numbers = vec![1i64; group.len()];
        column.typed::<parquet::data_type::Int64Type>().write_batch(&numbers, None, None).unwrap();
        column.close().unwrap();
        row_group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}
