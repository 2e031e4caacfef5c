//! Code in the documentation is code that is tested: a block behind `<!-- in PATH -->` stands in that file, line for line.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

use std::fs;
use std::path::Path;

/// Documents that may have such blocks.
const DOCUMENTS: [&str; 6] = [
    "README.md",
    "GUIDE.md",
    "bindings/README.md",
    "mobile/README.md",
    "mobile/android/README.md",
    "mobile/ios/README.md",
];

/// Without the spaces that all lines begin with, and without empty lines at both ends.
fn flush_left(lines: &[&str]) -> String {
    let indentation = |line: &&&str| line.len() - line.trim_start().len();
    let least = lines.iter().filter(|line| !line.trim().is_empty()).map(|line| indentation(&line)).min();
    let cut: Vec<&str> = lines.iter().map(|line| line.get(least.unwrap_or(0)..).unwrap_or("")).collect();
    cut.join("\n").trim_matches('\n').to_owned()
}

/// The files named by a document, each with the block behind its name.
fn blocks(document: &str) -> Vec<(&str, String)> {
    let lines: Vec<&str> = document.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(path) = line.strip_prefix("<!-- in ").and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        assert!(lines[number + 1].starts_with("```"), "a block comes behind {line}");
        let end = lines[number + 2..].iter().position(|line| *line == "```").unwrap();
        found.push((path, flush_left(&lines[number + 2..number + 2 + end])));
    }
    found
}

fn stands_in(file: &str, block: &str) -> bool {
    let lines: Vec<&str> = file.lines().collect();
    let length = block.lines().count();
    lines.windows(length).any(|window| flush_left(window) == block)
}

#[test]
fn code_in_documents_is_tested_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = 0;
    for document in DOCUMENTS.map(|name| root.join(name)).into_iter().filter(|path| path.exists()) {
        let text = fs::read_to_string(&document).unwrap();
        let document = document.display();
        for (path, block) in blocks(&text) {
            found += 1;
            let file = fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
            assert!(stands_in(&file, &block), "{document} shows what is not in {path}:\n{block}");
        }
    }
    assert!(found > 0, "some document has such blocks");
    assert!(stands_in("x\n    a\n\n      b\ny", "a\n\n  b"));
    assert!(!stands_in("x\n    a\n    b\ny", "a\n  b"));
}
