//! Files as people have them: compressed in every way, linked in circles, cut off, of another system.

use crate::setup::{TestFolder, gzip, jsonl, parquet};
use std::fs;

/// A frame that says that its window has `1 << log` bytes, and an eighth of that more for each of `eighths`.
fn zstd_with_window(bytes: &[u8], log: u8, eighths: u8) -> Vec<u8> {
    let mut frame = zstd::encode_all(bytes, 1).unwrap();
    assert_eq!(frame[4] & 0x20, 0, "the window's size follows");
    frame[5] = (log - 10) << 3 | eighths;
    frame
}

#[test]
fn frames_with_long_windows_and_padded_members_are_read() {
    let test = TestFolder::new(300);
    let text = jsonl(&test.documents);
    let half = text.match_indices('\n').nth(150).unwrap().0 + 1;
    let (first, second) = text.as_bytes().split_at(half);
    test.tokenize("text.jsonl", "plain", &[]);
    let zeros = [0; 1 << 12];
    for (name, bytes) in [
        ("w27.jsonl.zst", zstd_with_window(text.as_bytes(), 27, 7)),
        ("w31.jsonl.zst", [zstd_with_window(first, 31, 0), zstd_with_window(second, 28, 0)].concat()),
        ("padded.jsonl.gz", [gzip(first), gzip(second), zeros.to_vec()].concat()),
        ("blocks.jsonl.gz", [&gzip(first)[..], &zeros, &gzip(second), &zeros].concat()),
    ] {
        fs::write(test.path(name), bytes).unwrap();
        test.tokenize(name, &format!("{name}.set"), &[]);
        assert_eq!(test.shards(&format!("{name}.set")), test.shards("plain"), "{name}");
    }
    fs::write(test.path("more.jsonl.zst"), zstd_with_window(first, 31, 1)).unwrap();
    let error = refused(&test, "more.jsonl.zst");
    assert!(error.contains("more.jsonl.zst, line 1") && error.contains("compress it again"), "{error}");
    // Made by `zstd --long=31`.
    let case = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/zstd_long_window");
    if case.is_dir() {
        for name in ["long28.jsonl.zst", "long31.jsonl.zst"] {
            test.tokenize(case.join(name).to_str().unwrap(), name, &[]);
        }
        assert_eq!(test.shards("long28.jsonl.zst"), test.shards("long31.jsonl.zst"));
    } else {
        thimble_needs::skip(thimble_needs::Need::Shared, "the cases of long windows");
    }
}

fn refused(test: &TestFolder, source: &str) -> String {
    test.refused(&["tokenize", source, "--tokenizer", "tokenizer", "-o", "refused"])
}

#[test]
fn files_that_are_cut_off_or_damaged_are_named_with_their_line() {
    let test = TestFolder::new(300);
    let text = jsonl(&test.documents);
    let cut = |bytes: Vec<u8>, share: usize| bytes[..bytes.len() * share / 10].to_vec();
    let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    for (name, bytes, words) in [
        ("a.jsonl.gz", cut(gzip(text.as_bytes()), 9), ["a.jsonl.gz, line ", "ends too early"]),
        ("b.jsonl.zst", cut(zstd(&text), 9), ["b.jsonl.zst, line ", "ends too early"]),
        ("c.jsonl.gz", vec![], ["c.jsonl.gz, line 1", "ends too early"]),
        ("d.jsonl.zst", vec![], ["d.jsonl.zst, line 1", "ends too early"]),
        ("e.txt.gz", text.clone().into_bytes(), ["e.txt.gz: cannot read", "gzip"]),
        (
            "f.jsonl.gz",
            [&gzip(text.as_bytes())[..], b"more"].concat(),
            ["f.jsonl.gz, line 301", "behind the last"],
        ),
        ("g.jsonl", "\u{FEFF}{}".encode_utf16().flat_map(u16::to_le_bytes).collect(), ["line 1", "iconv"]),
        ("h.parquet", vec![], ["h.parquet", "whole parquet file"]),
        ("i.jsonl.bz2", text.clone().into_bytes(), ["i.jsonl.bz2", ".bz2 is not supported: decompress it"]),
        ("j.jsonl", vec![], ["expected documents, found none", "0 records"]),
    ] {
        fs::write(test.path(name), bytes).unwrap();
        let error = refused(&test, name);
        assert!(words.iter().all(|word| error.contains(word)), "{name}: {error}");
        let _ = fs::remove_dir_all(test.path("refused"));
    }
    // The line is the one at which it ends.
    let error = refused(&test, "a.jsonl.gz");
    let line = error.split("line ").nth(1).unwrap().split(':').next().unwrap().parse::<usize>().unwrap();
    assert!((200..=300).contains(&line), "{error}");
}

#[test]
fn marks_line_ends_and_nulls_change_nothing() {
    let test = TestFolder::new(40);
    let text = jsonl(&test.documents);
    test.tokenize("text.jsonl", "plain", &[]);
    let lines: Vec<&str> = text.lines().collect();
    let mark = "\u{FEFF}";
    let nulls = "{\"text\": null}\n{\"id\": 3, \"text\": null}\n{\"text\": \"\"}\n";
    for (name, bytes, left_out) in [
        ("mark.jsonl", format!("{mark}{text}"), 0),
        ("crlf.jsonl", format!("{mark}{}\r\n\r\n", lines.join("\r\n")), 0),
        ("no-end.jsonl", text.trim_end().to_owned(), 0),
        // Put together of two files that begin with a mark.
        ("marks.jsonl", format!("{mark}{}\n{mark}{}", lines[..20].join("\n"), lines[20..].join("\n")), 0),
        ("only-mark.jsonl", format!("{mark}\n{text}"), 0),
        ("nulls.jsonl", format!("{nulls}{text}"), 3),
    ] {
        fs::write(test.path(name), bytes).unwrap();
        let set = format!("{name}.set");
        let said = test.succeeds(&["tokenize", name, "--tokenizer", "tokenizer", "-o", &set]);
        assert_eq!(test.shards(&set), test.shards("plain"), "{name}");
        let warned = format!("warning: skipped {left_out} records without text");
        assert_eq!(said.contains(&warned), left_out > 0, "{name}: {said}");
    }
    // A null is the same in both forms, held-out documents among them.
    let mut rows: Vec<Option<String>> = vec![None, None, Some(String::new())];
    rows.extend(test.documents.iter().cloned().map(Some));
    fs::write(test.path("nulls.parquet"), parquet(&rows, 11)).unwrap();
    let sets = ["nulls.jsonl", "nulls.parquet"].map(|name| {
        let (set, held) = (format!("{name}.rest"), format!("{name}.held"));
        let more = ["--holdout", "5", "--holdout-output", &held];
        let said =
            test.succeeds(&[&["tokenize", name, "--tokenizer", "tokenizer", "-o", &set][..], &more].concat());
        assert!(said.contains("warning: skipped 3 records without text"), "{said}");
        (test.shards(&set), test.shards(&held))
    });
    assert_eq!(sets[0], sets[1]);
    fs::write(test.path("number.jsonl"), format!("{text}{{\"text\": 7}}\n")).unwrap();
    let error = refused(&test, "number.jsonl");
    assert!(error.contains("line 41") && error.contains("a string in \"text\""), "{error}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_once_and_what_is_no_file_is_passed_over() {
    use std::os::unix::fs::symlink;
    let test = TestFolder::new(30);
    fs::create_dir_all(test.path("data/a/deep")).unwrap();
    fs::create_dir_all(test.path("elsewhere")).unwrap();
    for (number, place) in
        ["data/1.txt", "data/a/2.txt", "data/a/deep/3.txt", "elsewhere/4.txt"].iter().enumerate()
    {
        fs::write(test.path(place), &test.documents[number]).unwrap();
    }
    fs::write(test.path("four.jsonl"), jsonl(&test.documents[..4])).unwrap();
    test.tokenize("four.jsonl", "four", &[]);
    for (to, from) in [
        ("..", "data/a/deep/up"),
        (".", "data/self"),
        ("../../data", "data/a/round"),
        ("1.txt", "data/other-name.txt"),
        ("../elsewhere", "data/further"),
        ("../elsewhere/4.txt", "data/z.txt"),
    ] {
        symlink(to, test.path(from)).unwrap();
    }
    let tokenize = |set: &str| test.succeeds(&["tokenize", "data", "--tokenizer", "tokenizer", "-o", set]);
    assert!(!tokenize("once").contains("warning"));
    assert_eq!(test.shards("once"), test.shards("four"));
    // What would hang, or be left out without a word.
    let fifo = std::process::Command::new("mkfifo").arg(test.path("data/pipe.jsonl")).status().unwrap();
    assert!(fifo.success());
    fs::write(test.path("data/more.jsonl.xz"), "packed").unwrap();
    fs::write(test.path("data/picture.xz"), "no text").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(test.path("data/socket.txt")).unwrap();
    let said = tokenize("with-pipe");
    assert!(said.contains("warning: skipped data/more.jsonl.xz") && said.contains("and 2 more"), "{said}");
    assert_eq!(test.shards("with-pipe"), test.shards("four"));
    for (name, what) in
        [("data/pipe.jsonl", "a pipe"), ("data/socket.txt", "a socket"), ("/dev/zero", "a device")]
    {
        let error = refused(&test, name);
        assert!(error.contains(&format!("{name}: expected a file, found {what}")), "{error}");
    }
    // A link that leads nowhere is named.
    symlink("nowhere.txt", test.path("data/b.txt")).unwrap();
    assert!(refused(&test, "data").contains("data/b.txt"));
    fs::remove_file(test.path("data/b.txt")).unwrap();
    symlink("b.txt", test.path("data/b.txt")).unwrap();
    assert!(refused(&test, "data").contains("data/b.txt"));
}
