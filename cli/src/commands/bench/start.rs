//! How long a new process takes to generate one token and exit.

use super::figures::{Figure, Spread, Test};
use crate::failure::Failure;
use crate::flags::machine::ComputeFlags;
use clap::ValueEnum;
use serde::Deserialize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What a timed process prints.
#[derive(Deserialize)]
struct Started {
    stats: StartedStats,
}

#[derive(Deserialize)]
struct StartedStats {
    peak_resident_bytes: Option<u64>,
}

/// What to do if no process can be timed.
const WITHOUT: &str = "leave this test out with --test prefill,decode";

/// Times `rounds` processes after a warm-up.
pub(super) fn measure(
    path: &Path,
    [context, threads]: [usize; 2],
    compute: &ComputeFlags,
    rounds: usize,
) -> Result<Figure, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::Other(format!("cannot find the program file of thimble ({error}): {WITHOUT}"))
    })?;
    let mut seconds = Vec::new();
    let mut peak_resident_bytes = None;
    for round in 0..=rounds {
        let mut command = Command::new(&program);
        command.arg("run").args(["--prompt", "The", "--tokens", "1", "--temperature", "0", "--json"]);
        command.args(["--context", &context.to_string(), "--threads", &threads.to_string()]);
        command.args(compute.kernels.iter().flat_map(|kernels| ["--kernels".into(), kernels.to_string()]));
        if let Some(kv) = compute.kv.and_then(|kv| kv.to_possible_value()) {
            command.args(["--kv", kv.get_name()]);
        }
        command.args(compute.backend.iter().flat_map(|backend| ["--backend".into(), backend.to_string()]));
        command.args(compute.adapters.arguments());
        command.args(compute.exact.then_some("--exact"));
        command.arg("--").arg(path);
        let start = Instant::now();
        let output = command.stdin(Stdio::null()).output();
        let elapsed = start.elapsed().as_secs_f64();
        let output = output.map_err(|error| {
            Failure::Other(format!("cannot start another thimble process ({error}): {WITHOUT}"))
        })?;
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let started: Started = serde_json::from_slice(&output.stdout).map_err(|_| {
            Failure::Other(format!("the process whose start is timed failed ({message}): {WITHOUT}"))
        })?;
        peak_resident_bytes = peak_resident_bytes.max(started.stats.peak_resident_bytes);
        if round > 0 {
            seconds.push(elapsed);
        }
    }
    let seconds = Spread::of(seconds);
    Ok(Figure::Start { test: Test::Start, context, threads, seconds, peak_resident_bytes })
}
