//! Checks a folder of the JSON Schema test suite (`tests/draft2020-12`): each schema is compiled or refused by name, and each
//! instance of a compiled one goes through the grammar byte by byte. Prints a table; fails if an invalid instance is accepted,
//! or if a valid one is rejected without a reason that the guide names.
//!
//!     cargo run -p thimble-grammar --example schema_suite -- FOLDER

#[path = "../tests/check/mod.rs"]
mod check;

use check::{Verdict, narrowing, verdict};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use thimble_grammar::{Grammar, GrammarError, GrammarLimits, GrammarSource, Vocabulary};

#[derive(Default)]
struct Counts {
    agree: usize,
    other_order: usize,
    narrower: usize,
    refused: usize,
    wrong: Vec<String>,
    keywords: BTreeMap<String, usize>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).ok_or("expected a folder of the test suite")?;
    let vocabulary = Vocabulary::of_bytes()?;
    let mut files: Vec<_> = std::fs::read_dir(Path::new(&folder))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    println!("| file | agree | other order | narrower | refused by name |\n|---|---|---|---|---|");
    let mut all = Counts::default();
    for file in files {
        let mut counts = Counts::default();
        let groups: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        for group in groups {
            check(&vocabulary, &group, &mut counts)?;
        }
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Counts { agree, other_order, narrower, refused, .. } = counts;
        println!("| {name} | {agree} | {other_order} | {narrower} | {refused} |");
        all.agree += agree;
        all.other_order += other_order;
        all.narrower += narrower;
        all.refused += refused;
        all.wrong.extend(counts.wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
        for (keyword, count) in counts.keywords {
            *all.keywords.entry(keyword).or_default() += count;
        }
    }
    println!("| all | {} | {} | {} | {} |", all.agree, all.other_order, all.narrower, all.refused);
    println!("\nrefused, in tests:");
    for (keyword, count) in &all.keywords {
        println!("{count:5} {keyword}");
    }
    all.wrong.iter().for_each(|wrong| println!("WRONG {wrong}"));
    if all.wrong.is_empty() { Ok(()) } else { Err(format!("{} tests are wrong", all.wrong.len()).into()) }
}

fn check(
    vocabulary: &std::sync::Arc<Vocabulary>,
    group: &Value,
    counts: &mut Counts,
) -> Result<(), Box<dyn std::error::Error>> {
    let schema = &group["schema"];
    let tests = group["tests"].as_array().ok_or("a group without tests")?;
    let described =
        |test: &Value| format!("{} / {} / {}", group["description"], test["description"], test["data"]);
    let source = GrammarSource::JsonSchema(schema.to_string());
    let grammar = match Grammar::compile(vocabulary, &source, &GrammarLimits::default()) {
        Ok(grammar) => grammar,
        // A schema that allows nothing: every instance is invalid.
        Err(GrammarError::Empty { .. }) => {
            for test in tests {
                match test["valid"].as_bool() {
                    Some(false) => counts.agree += 1,
                    _ => counts.wrong.push(format!("compiled to nothing: {}", described(test))),
                }
            }
            return Ok(());
        }
        Err(error) => {
            let name = match &error {
                GrammarError::Keyword { keyword, .. } => keyword.clone(),
                other => other.to_string(),
            };
            *counts.keywords.entry(name).or_default() += tests.len();
            counts.refused += tests.len();
            return Ok(());
        }
    };
    for test in tests {
        let valid = test["valid"].as_bool() == Some(true);
        match verdict(&grammar, &test["data"]) {
            Ok(Verdict::Accepted) if valid => counts.agree += 1,
            Ok(Verdict::OtherOrder) if valid => counts.other_order += 1,
            Ok(Verdict::Rejected) if !valid => counts.agree += 1,
            Ok(Verdict::Rejected) if narrowing(schema, &test["data"]).is_some() => counts.narrower += 1,
            Ok(verdict) => counts.wrong.push(format!("{verdict:?}: {} for {schema}", described(test))),
            Err(error) => counts.wrong.push(format!("{error}: {}", described(test))),
        }
    }
    Ok(())
}
