//! Compiles every JSON Schema of a folder and prints what became of each, its time, and the peak of memory:
//! `compile_schemas FOLDER [MOST]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use thimble_grammar::{Grammar, GrammarError, GrammarLimits, GrammarSource, Vocabulary};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args_os().skip(1);
    let folder = words.next().ok_or("expected a folder of JSON Schemas")?;
    let most = words.next().and_then(|word| word.to_str()?.parse().ok()).unwrap_or(usize::MAX);
    let vocabulary = Vocabulary::of_bytes()?;
    let entries: Result<Vec<_>, std::io::Error> =
        std::fs::read_dir(Path::new(&folder))?.map(|entry| Ok(entry?.path())).collect();
    let mut files = entries?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    // Spread over the folder, not the first of the alphabet.
    let step = files.len().div_ceil(most.max(1)).max(1);
    let (mut counts, mut times): (BTreeMap<String, usize>, Vec<f64>) = (BTreeMap::new(), Vec::new());
    for file in files.iter().step_by(step) {
        let text = std::fs::read_to_string(file)?;
        let start = Instant::now();
        let compiled =
            Grammar::compile(&vocabulary, &GrammarSource::JsonSchema(text), &GrammarLimits::default());
        times.push(start.elapsed().as_secs_f64() * 1e3);
        let outcome = match &compiled {
            Ok(_) => "compiled".to_string(),
            Err(GrammarError::Keyword { keyword, .. }) => format!("refused: {keyword}"),
            Err(GrammarError::TooComplex { .. }) => "refused: too complex".to_string(),
            Err(GrammarError::Empty { .. }) => "refused: allows nothing".to_string(),
            Err(_) => "refused: other".to_string(),
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match compiled {
            Ok(_) => println!("{name}: compiled in {:.1} ms", times.last().unwrap_or(&0.0)),
            Err(error) => println!("{name}: {error} ({:.1} ms)", times.last().unwrap_or(&0.0)),
        }
        *counts.entry(outcome).or_default() += 1;
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(0.0);
    println!(
        "\n{} schemas; {:.1} ms (median), {:.1} ms (p90), {:.1} ms (most)",
        times.len(),
        at(0.5),
        at(0.9),
        at(0.9999)
    );
    for (outcome, count) in &counts {
        println!("{count:5} {outcome}");
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    }
    Ok(())
}
