//! Documents stay true: a block behind `<!-- in PATH -->` is in that file, line for line; links between documents lead
//! somewhere; files that ARCHITECTURE.md names exist.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

use std::fs;
use std::path::{Path, PathBuf};

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
    let root = root();
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

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files below a folder, without what builds leave there.
fn files(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let built = ["target", "build", "node_modules"].contains(&name.as_str()) && prefix != "trainer/";
        match entry.file_type().unwrap().is_dir() {
            true if built || name.starts_with('.') => {}
            true => files(&entry.path(), &format!("{prefix}{name}/"), found),
            false => found.push(format!("{prefix}{name}")),
        }
    }
}

/// Every file of the checkout, as a path from its root.
fn checkout() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        found.push(entry.file_name().into_string().unwrap());
    }
    for folder in ["benches", "bindings", "cli", "converter", "mobile", "runtime", "tests", "trainer"] {
        files(&root().join(folder), &format!("{folder}/"), &mut found);
    }
    found
}

/// A heading as GitHub names its anchor.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || "-_ ".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The targets of a document's links to other places of the repository.
fn links(document: &str) -> impl Iterator<Item = &str> {
    let targets = document.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    targets.filter(|target| !target.contains("://") && !target.contains(' '))
}

#[test]
fn links_between_documents_lead_somewhere() {
    for name in checkout().iter().filter(|name| name.ends_with(".md")) {
        let path = root().join(name);
        let text = fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{name} links to {link}, which does not exist");
            if !heading.is_empty() {
                let there = fs::read_to_string(&target).unwrap();
                let mut headings =
                    there.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
                assert!(
                    headings.any(|line| anchor(line) == heading),
                    "{name} links to {link}: no such heading"
                );
            }
        }
    }
}

#[test]
fn files_that_the_architecture_names_exist() {
    let checkout = checkout();
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let words =
        text.split('`').skip(1).step_by(2).filter(|word| !word.contains("NAME") && !word.contains("..."));
    let kinds = [".rs", ".md", ".wgsl", ".kt", ".swift", ".toml", ".xml", "/"];
    for name in words.filter(|word| kinds.iter().any(|kind| word.ends_with(kind)) && !word.contains(' ')) {
        let name = name.split('*').next().unwrap();
        let here = |file: &String| format!("/{file}").contains(&format!("/{name}"));
        assert!(checkout.iter().any(here), "ARCHITECTURE.md names {name}, which does not exist");
    }
}
