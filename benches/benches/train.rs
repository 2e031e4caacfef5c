//! Training steps beside PyTorch, on the same machine, threads and shapes, in one run, A B C A B C.
//!
//! ```text
//! pip install torch
//! cargo bench -p benches --bench train -- --python python3 --threads 1,2 --rounds 5
//! ```
//!
//! A step is one micro-batch of random tokens, forward and backward, the clip and AdamW, in f32. Every measurement is a process of
//! its own: this program called with `--once`, and `train_pytorch.py`, eager and compiled. Prints medians of the rounds:
//! tokens per second of the median step, processor seconds of a step (all threads), and what training adds to the
//! resident memory of the process.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use thimble_runtime::format::Config;
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::model::{Engine, EngineOptions, Parameters, init};
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::{AdamW, Buffer};

type Failure = Box<dyn std::error::Error>;

/// The shapes of a measurement; `train_pytorch.py` takes the same names.
const SHAPE: &str = r#"{"hidden": 256, "layers": 6, "heads": 8, "kv_heads": 4, "head_dim": 32, "ffn": 704,
    "vocab": 4096, "batch": 8, "context": 256}"#;

struct Arguments {
    python: PathBuf,
    threads: Vec<usize>,
    rounds: usize,
    steps: usize,
    shape: Value,
    once: bool,
}

impl Arguments {
    fn parse() -> Result<Arguments, Failure> {
        let mut arguments = Arguments {
            python: "python3".into(),
            threads: vec![1, 2],
            rounds: 5,
            steps: 10,
            shape: serde_json::from_str(SHAPE)?,
            once: false,
        };
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(flag) = words.next() {
            if flag == "--once" {
                arguments.once = true;
                continue;
            }
            let value = words.next().ok_or(format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--python" => arguments.python = value.into(),
                "--rounds" => arguments.rounds = value.parse()?,
                "--steps" => arguments.steps = value.parse()?,
                "--threads" => {
                    arguments.threads = value.split(',').map(str::parse).collect::<Result<_, _>>()?
                }
                "--shape" => {
                    let given: serde_json::Map<String, Value> = serde_json::from_str(&value)?;
                    for (key, value) in given {
                        let known = arguments.shape.get_mut(&key).ok_or(format!("unknown size {key}"))?;
                        *known = value;
                    }
                }
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(arguments)
    }
}

/// What one process measured.
struct Measured {
    tokens_per_second: f64,
    cpu_seconds: f64,
    added_bytes: f64,
}

impl Measured {
    fn of(line: &Value) -> Result<Measured, Failure> {
        let field = |name: &str| line[name].as_f64().ok_or(format!("no {name} in {line}"));
        Ok(Measured {
            tokens_per_second: field("tokens_per_second")?,
            cpu_seconds: field("step_cpu_seconds")?,
            added_bytes: field("steady_peak_rss_added_bytes").or_else(|_| field("peak_rss_added_bytes"))?,
        })
    }
}

/// Runs a command whose last line of output is a JSON object.
fn run(command: &mut Command) -> Result<Measured, Failure> {
    let output = command.output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().filter(|_| output.status.success());
    let line = line.ok_or_else(|| format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Measured::of(&serde_json::from_str(line)?)
}

/// A field of /proc/self/status, in bytes.
fn resident(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().unwrap_or(0) * 1024
}

/// Processor seconds of this process so far, from the kernel's count of hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn once(arguments: &Arguments) -> Result<(), Failure> {
    let size =
        |name: &str| arguments.shape[name].as_u64().map(|n| n as usize).ok_or(format!("no size {name}"));
    let config = Config {
        hidden: size("hidden")?,
        layers: size("layers")?,
        heads: size("heads")?,
        kv_heads: size("kv_heads")?,
        head_dim: size("head_dim")?,
        ffn: size("ffn")?,
        vocab: size("vocab")?,
        context: size("context")?,
        ..Config::PLAIN
    };
    let (sequences, context) = (size("batch")?, size("context")?);
    let before = resident("VmRSS");
    let parameters = Parameters::new(&config);
    let cpu = CpuOps::new(arguments.threads[0], parameters.len, config.norm_eps)?;
    let mut engine = Engine::new(&config, EngineOptions::default(), cpu);
    engine.write(Buffer::Weights, &init::weights(&parameters, 0.02, 1))?;
    let ids =
        (0..sequences * (context + 1)).map(|i| ((i * 7919 + i * i % 911) % config.vocab) as u32).collect();
    let tokens = (sequences * context) as f64;
    let batch = TrainingBatch::new(sequences, context, ids, vec![0; sequences * context])
        .weighed((1.0 / tokens) as f32);
    let mut seconds = Vec::new();
    let (mut cpu_start, warmup) = (0.0, 2);
    for step in 0..warmup + arguments.steps {
        if step == warmup {
            cpu_start = cpu_seconds();
        }
        let start = Instant::now();
        engine.zero_gradients()?;
        engine.accumulate(&batch)?;
        let norm = engine.gradient_norm()?;
        engine.update(AdamW {
            learning_rate: 3e-4,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step: step as u64 + 1,
            gradient_scale: AdamW::clip(norm, Some(1.0)),
            decayed: 0,
        })?;
        if step >= warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let cpu = (cpu_seconds() - cpu_start) / arguments.steps as f64;
    println!(
        "{}",
        json!({
            "tokens_per_second": tokens / median(seconds),
            "step_cpu_seconds": cpu,
            "peak_rss_added_bytes": resident("VmHWM") - before,
        })
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(arguments: &Arguments) -> Result<(), Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("train_pytorch.py");
    println!("{}", arguments.shape);
    println!("{:>7}  {:<18} {:>9} {:>10} {:>9}", "threads", "", "tokens/s", "cpu s/step", "MB added");
    for &threads in &arguments.threads {
        let names = ["thimble", "PyTorch", "PyTorch, compiled"];
        let mut rounds: [Vec<Measured>; 3] = Default::default();
        for _ in 0..arguments.rounds {
            for (which, measured) in rounds.iter_mut().enumerate() {
                let mut command = match which {
                    0 => Command::new(std::env::current_exe()?),
                    _ => Command::new(&arguments.python),
                };
                match which {
                    0 => command.args(["--once", "--shape"]).arg(arguments.shape.to_string()),
                    _ => command
                        .arg(&script)
                        .args(["--warmup", "2", "--config"])
                        .arg(arguments.shape.to_string()),
                };
                command.args(["--threads", &threads.to_string(), "--steps", &arguments.steps.to_string()]);
                if which == 2 {
                    command.arg("--compile");
                }
                measured.push(run(&mut command)?);
            }
        }
        let mut first = None;
        for (name, measured) in names.into_iter().zip(&rounds) {
            let of = |field: fn(&Measured) -> f64| median(measured.iter().map(field).collect());
            let (speed, cpu, added) =
                (of(|m| m.tokens_per_second), of(|m| m.cpu_seconds), of(|m| m.added_bytes));
            let base = *first.get_or_insert(speed);
            println!(
                "{threads:>7}  {name:<18} {speed:>9.0} {cpu:>10.3} {:>9.0}   x {:.2}",
                added / 1e6,
                base / speed
            );
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let done = Arguments::parse()
        .and_then(|arguments| if arguments.once { once(&arguments) } else { compare(&arguments) });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
