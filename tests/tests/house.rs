//! Keeps the repository's own order: the field's terms, one meaning for a name, no import cycles, files of a readable length.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "house/modules.rs"]
mod modules;

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A text file of the repository.
struct Source {
    /// From the repository's root.
    path: String,
    text: String,
}

impl Source {
    fn has_extension(&self, extensions: &[&str]) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
    }
}

/// What git tracks or would track: code, build files and documentation.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(&root);
    let listed = git.output().unwrap();
    assert!(listed.status.success(), "git lists the files: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let paths = listed.lines().map(str::to_owned).collect::<BTreeSet<String>>().into_iter();
    let read = |path: String| Some(Source { text: fs::read_to_string(root.join(&path)).ok()?, path });
    paths.filter_map(read).collect()
}

/// Fails with all that was found, if anything was.
fn none(found: &[String], expected: &str) {
    assert!(found.is_empty(), "{expected}:\n{}", found.join("\n"));
}

/// Private terms and what to write instead. Plain English uses of the words do not match.
const TERMS: [(&str, &str); 23] = [
    (r"(?:\b|_)crews?(?:\b|_)|Crew", "thread pool, ParallelKernels"),
    (r"\bTeam(?:\b|[A-Z])|(?:\b|_)team(?:_|\(|:)", "ThreadPool"),
    (r"\bAlone\b", "SingleThread"),
    (r"\b(?:struct|for) Pool\b|\bPool::new", "SpinPool"),
    (r"(?:\b|_)partners?(?:\b|_)|Partner", "accelerator"),
    (r"(?i)foreseen", "accepted draft tokens"),
    (
        r"\bproposals?\b|\b(?:are|is|was|were) proposed\b|\bproposed token|\bproposes tokens",
        "drafts, draft tokens",
    ),
    (r"(?:\b|_)twins?(?:\b|_)|Twin", "lossless encoding"),
    (r"\.narrow\(\)|fn narrow\(&?self|\bis_narrow\b", "has_two_level_scales"),
    (r"\b(?:let|let mut|val|fn) ways\b|\bfor way in\b|\bways: &", "kernel variants"),
    (r"\btake_up|\b(?:is|are|be|or|not) taken up\b|\btakes up[.,]", "restore"),
    (r"\bChooser\b", "BackendChooser"),
    (
        r"\bProducts::|\benum Products\b|\bTile::Plain\b|\bwith_tile\b|\.tiles\(\)|::tiles\(\)",
        "MatmulVariant",
    ),
    (r"\bconvert_checkpoint\b", "convert_model: a checkpoint is what the trainer resumes from"),
    (r"(?i)made of software", "software renderer, software driver"),
    (
        r"\b(?:through|across|over) the border\b|\bborder of (?:other )?languages|BorderBench|\bborder\.py",
        "FFI overhead",
    ),
    (r"(?i)\brestless\b", "timings vary between runs"),
    (r"\bOut again\b", "export"),
    (r"(?i)wants? to be root", "requires root"),
    (r"(?i)\bone line says so\b", "thimble warns"),
    (r"(?i)\bname that is none\b", "unknown name"),
    (r"(?i)\bthey are anything\b", "contents are unspecified"),
    (r"(?i)\bwrong,? or lost in the middle\b", "if the startup check fails or the device is lost"),
];

/// This file lists the terms, and the changelog may name what was renamed.
const MAY_NAME_TERMS: [&str; 2] = ["tests/tests/house.rs", "CHANGELOG.md"];

#[test]
fn private_terms_stay_out() {
    let written = ["rs", "md", "py", "kt", "kts", "swift", "toml", "sh", "wgsl", "c", "S", "xml"];
    let sources = sources();
    let read = sources.iter().filter(|source| {
        (source.has_extension(&written) || source.path.starts_with(".ci/"))
            && !MAY_NAME_TERMS.contains(&&*source.path)
    });
    let terms = TERMS.map(|(term, instead)| (Regex::new(term).unwrap(), instead));
    let mut found = Vec::new();
    for Source { path, text } in read {
        for (number, line) in text.lines().enumerate() {
            for (term, instead) in &terms {
                if let Some(word) = term.find(line) {
                    found.push(format!("{path}:{}: {:?}, write: {instead}", number + 1, word.as_str()));
                }
            }
        }
    }
    none(&found, "expected the field's terms");
}

/// Public types that several crates define, and why.
const SHARED_NAMES: [(&str, &str); 11] = [
    ("Adapter", "the FFI's is an open file, the trainer's the matrices beside a layer; apps see the name"),
    ("Backend", "the FFI's mirror of BackendKind; apps see the name"),
    ("MatmulVariant", "the host's has no value; it stands in for the GPU's in builds without one"),
    ("Message", "the FFI's record of a message; apps see the name"),
    ("Pooling", "the FFI's mirror of the runtime's; apps see the name"),
    ("Result", "an alias with the crate's own error"),
    ("Sampling", "the FFI's mirror of the runtime's settings; apps see the name"),
    ("ToolCall", "the FFI's record, with JSON as text; apps see the name"),
    ("ToolChoice", "the FFI's mirror of the chat's; apps see the name"),
    ("ToolDefinition", "the FFI's record, with JSON as text; apps see the name"),
    ("Vocabulary", "the converter's is what a source's tokenizer holds; the grammar's is prepared for masks"),
];

#[test]
fn a_public_type_has_one_meaning() {
    let definition = Regex::new(r"(?m)^pub (?:unsafe )?(?:struct|enum|union|trait|type) (\w+)").unwrap();
    let mut crates: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Source { path, text } in sources().iter().filter(|source| source.path.ends_with(".rs")) {
        let Some((folder, _)) = path.split_once("/src/") else { continue };
        for name in definition.captures_iter(text).map(|found| found.get(1).unwrap()) {
            let line = text[..name.start()].lines().count();
            let at = format!("{path}:{line}");
            crates.entry(name.as_str().to_owned()).or_default().insert(folder.to_owned(), at);
        }
    }
    let mut found = Vec::new();
    for (name, places) in crates.iter().filter(|(_, places)| places.len() > 1) {
        if SHARED_NAMES.iter().all(|(shared, _)| shared != name) {
            let places: Vec<&str> = places.values().map(String::as_str).collect();
            found.push(format!("{}: {name}, qualify all but one", places.join(", ")));
        }
    }
    none(&found, "expected each public type's name in one crate");
    for (name, _) in SHARED_NAMES {
        assert!(crates.get(name).is_some_and(|places| places.len() > 1), "{name} is not shared: remove it");
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    none(
        &modules::cycles(&sources()),
        "expected imports in one direction: move what both need to a file of its own",
    );
}

/// Lines that a source file must not exceed.
const LINES: usize = 400;
#[test]
fn files_have_a_readable_length() {
    let code = ["rs", "kt", "kts", "swift", "py", "wgsl", "sh", "c", "S", "h", "cpp", "cu", "cuh"];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.has_extension(&code)) {
        let lines = source.text.lines().count();
        if lines > LINES {
            found.push(format!("{}: {lines} lines, split it along concepts", source.path));
        }
    }
    none(&found, &format!("expected at most {LINES} lines"));
}
