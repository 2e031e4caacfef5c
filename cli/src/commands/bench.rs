//! `thimble bench`: how fast a model runs on this machine.

use crate::failure::Failure;
use crate::flags::{Kv, MachineFlags, ModelFlags, at_least_one};
use crate::model::Location;
use crate::workspace::{self, Mapped, Need, Workspace};
use crate::{progress, terminal};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use thimble_host::{BackendKind, Generator};
use thimble_runtime::Token;
use thimble_runtime::sampler::Sampling;

/// Tokens of the prompts that are timed by default.
const PROMPTS: [usize; 3] = [128, 512, 2048];
/// Tokens that are decoded by default.
const DECODED: usize = 64;
/// Depths at which decoding is timed by default.
const DEPTHS: [usize; 4] = [0, 1024, 4096, 8000];
/// Context of the processes whose start is timed, where the model has as much.
const START_CONTEXT: usize = 2048;

/// `thimble bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// What to time, separated by commas [default: all]
    #[arg(long, value_enum, value_name = "NAMES", value_delimiter = ',')]
    test: Vec<Test>,
    /// Tokens of a prompt, or tokens that are decoded [default: 128,512,2048 and 64]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = at_least_one)]
    tokens: Vec<usize>,
    /// Tokens that are in the context already [default: 0 for prompts, 0,1024,4096,8000 for decoding]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    depth: Vec<usize>,
    /// Threads [default: 1, and one for each core that this process may use]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = at_least_one)]
    threads: Vec<usize>,
    /// Times that each figure is measured, after one run to warm up
    #[arg(long, value_name = "N", default_value = "5", value_parser = at_least_one)]
    rounds: usize,
    /// Reference mode: activations stay f32
    #[arg(long)]
    exact: bool,
    /// Instruction set of the kernels [default: the best that this CPU has; also THIMBLE_KERNELS]
    #[arg(long, value_name = "NAME")]
    kernels: Option<String>,
    /// How keys and values are kept
    #[arg(long, value_enum, value_name = "KIND")]
    kv: Option<Kv>,
    /// Processors: cpu, gpu, gpu+cpu (prompts on the GPU, tokens one by one on the CPU), cpu+gpu, or auto: the fastest,
    /// measured at first use [default: cpu; also THIMBLE_BACKEND]
    #[arg(long, value_name = "NAME")]
    backend: Option<BackendKind>,
    /// A JSON list on stdout instead of the table
    #[arg(long)]
    json: bool,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Test {
    /// A prompt, whole batches at a time
    Prefill,
    /// Tokens one by one
    Decode,
    /// A new process, until it has chosen its first token and ended
    Start,
}

/// One test of a running model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    test: Test,
    tokens: usize,
    depth: usize,
}

/// Median and extremes of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

/// What a GPU does for one token.
#[derive(Clone, Copy, Debug, Serialize)]
struct GpuWork {
    dispatches: u64,
    /// Weights and cache that are read.
    bytes: u64,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Figure {
    Speed {
        test: Test,
        tokens: usize,
        depth: usize,
        threads: usize,
        /// What computed it in the end.
        processors: String,
        tokens_per_second: Spread,
        /// Of a token that a GPU decodes.
        #[serde(skip_serializing_if = "Option::is_none")]
        gpu: Option<GpuWork>,
    },
    Start {
        test: Test,
        context: usize,
        threads: usize,
        seconds: Spread,
        peak_resident_bytes: Option<u64>,
    },
}

/// What a process prints whose start is timed.
#[derive(Deserialize)]
struct Started {
    stats: StartedStats,
}

#[derive(Deserialize)]
struct StartedStats {
    peak_resident_bytes: Option<u64>,
}

/// A model and what to time of it.
pub(crate) struct Job {
    location: Location,
    machine: MachineFlags,
    flags: Flags,
}

impl Job {
    /// Names the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let Flags { exact, kernels, kv, backend, .. } = flags.clone();
        let machine = MachineFlags { exact, kernels, kv, backend, ..MachineFlags::default() };
        workspace::settings(&machine, Need::default())?;
        Ok(Job { location: Location::resolve(flags.model.model.as_deref())?, machine, flags })
    }

    /// The table, or with `--json` a list, on `stdout`.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let path = self.location.fetch()?;
        let mapped = Mapped::open(&path)?;
        let context = mapped.file()?.config().context;
        let cases = self.cases(context)?;
        let starts = self.wants(Test::Start);
        let threads = self.threads();
        let bar = progress::steps("measuring", (threads.len() * (cases.len() + usize::from(starts))) as u64);
        let mut figures = Vec::new();
        for &threads in &threads {
            let machine = MachineFlags { threads: Some(threads), ..self.machine.clone() };
            // First, so that the threads of the sessions do not share the processor with it.
            if starts {
                figures.push(self.start(&path, START_CONTEXT.min(context), threads)?);
                bar.inc(1);
            }
            self.speeds(&mapped, &machine, threads, &cases, &mut |figure| {
                figures.push(figure);
                bar.inc(1);
            })?;
        }
        bar.finish_and_clear();
        if self.flags.json {
            serde_json::to_writer(&mut *stdout, &figures).map_err(std::io::Error::from)?;
            return Ok(writeln!(stdout)?);
        }
        table(&figures, stdout)
    }

    fn wants(&self, test: Test) -> bool {
        self.flags.test.is_empty() || self.flags.test.contains(&test)
    }

    fn threads(&self) -> Vec<usize> {
        match self.flags.threads.is_empty() {
            false => self.flags.threads.clone(),
            true => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                if cores == 1 { vec![1] } else { vec![1, cores] }
            }
        }
    }

    /// The tests of a running model, the shallow ones first. What was asked for by number has to fit the context; of the
    /// default ones those that do are left.
    fn cases(&self, context: usize) -> Result<Vec<Case>, Failure> {
        let given = |numbers: &[usize], default: &[usize]| {
            if numbers.is_empty() { default.to_vec() } else { numbers.to_vec() }
        };
        let (tokens, depth) = (&self.flags.tokens, &self.flags.depth);
        let mut cases = Vec::new();
        for (test, all_tokens, depths) in [
            (Test::Prefill, given(tokens, &PROMPTS), given(depth, &[0])),
            (Test::Decode, given(tokens, &[DECODED]), given(depth, &DEPTHS)),
        ] {
            let all = depths.iter().flat_map(|&depth| all_tokens.iter().map(move |&tokens| (tokens, depth)));
            for (tokens, depth) in all.filter(|_| self.wants(test)) {
                if depth.saturating_add(tokens) <= context {
                    cases.push(Case { test, tokens, depth });
                    continue;
                }
                let what =
                    format!("{tokens} tokens behind {depth} do not fit the model's context of {context}");
                if !self.flags.tokens.is_empty() || !self.flags.depth.is_empty() {
                    return Err(Failure::Usage(format!("{what}: lower --tokens or --depth")));
                }
                terminal::note(&format!("left out: {what}"));
            }
        }
        cases.sort_by_key(|case| case.depth);
        Ok(cases)
    }

    /// Runs the cases in one session.
    fn speeds(
        &self,
        mapped: &Mapped,
        machine: &MachineFlags,
        threads: usize,
        cases: &[Case],
        each: &mut dyn FnMut(Figure),
    ) -> Result<(), Failure> {
        let Some(longest) = cases.iter().map(|case| case.depth + case.tokens).max() else { return Ok(()) };
        let file = mapped.file()?;
        let plan = workspace::chosen(mapped, machine, Need { context: Some(longest), ..Need::default() })?;
        let mut bench = Workspace::new(&plan)?;
        let mut generator = bench.generator(&file, &plan)?;
        let vocab = file.config().vocab;
        let tokens: Vec<Token> = (0..longest).map(|i| Token((i * 7919 % vocab) as u32)).collect();
        for &Case { test, tokens: count, depth } in cases {
            if generator.position() < depth {
                let missing = &tokens[generator.position()..depth];
                generator.prefill(missing).map_err(workspace::engine)?;
            }
            let own = &tokens[depth..depth + count];
            let mut speeds = Vec::new();
            generator.rewind(depth).map_err(workspace::engine)?;
            let gpu = if test == Test::Decode { work(&mut generator, own[0])? } else { None };
            for round in 0..=self.flags.rounds {
                generator.rewind(depth).map_err(workspace::engine)?;
                let start = Instant::now();
                match test {
                    Test::Prefill => computed(&mut generator, own, count)?,
                    // A GPU draws, too, and goes on by itself.
                    _ if gpu.is_some() => drawn(&mut generator, own)?,
                    _ => computed(&mut generator, own, 1)?,
                }
                let seconds = start.elapsed().as_secs_f64().max(1e-9);
                if round > 0 {
                    speeds.push(count as f64 / seconds);
                }
            }
            let tokens_per_second = Spread::of(speeds);
            let processors = generator.sequence().processors();
            each(Figure::Speed { test, tokens: count, depth, threads, processors, tokens_per_second, gpu });
        }
        Ok(())
    }

    /// Starts this program anew with one token to generate, and waits for its end.
    fn start(&self, path: &Path, context: usize, threads: usize) -> Result<Figure, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::Engine(format!("cannot find myself: {error}")))?;
        let mut seconds = Vec::new();
        let mut peak_resident_bytes = None;
        for round in 0..=self.flags.rounds {
            let mut command = Command::new(&program);
            command.arg("run").args(["--prompt", "The", "--tokens", "1", "--temperature", "0", "--json"]);
            command.args(["--context", &context.to_string(), "--threads", &threads.to_string()]);
            command.args(self.flags.kernels.iter().flat_map(|name| ["--kernels", name]));
            if let Some(kv) = self.flags.kv.and_then(|kv| kv.to_possible_value()) {
                command.args(["--kv", kv.get_name()]);
            }
            command
                .args(self.flags.backend.iter().flat_map(|kind| ["--backend".to_owned(), kind.to_string()]));
            if self.flags.exact {
                command.arg("--exact");
            }
            command.arg("--").arg(path);
            let start = Instant::now();
            let output = command.stdin(Stdio::null()).output();
            let elapsed = start.elapsed().as_secs_f64();
            let output = output.map_err(|error| Failure::Engine(format!("cannot start myself: {error}")))?;
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let started: Started = serde_json::from_slice(&output.stdout)
                .map_err(|_| Failure::Engine(format!("a new process did not answer; it said: {said}")))?;
            peak_resident_bytes = peak_resident_bytes.max(started.stats.peak_resident_bytes);
            if round > 0 {
                seconds.push(elapsed);
            }
        }
        let seconds = Spread::of(seconds);
        Ok(Figure::Start { test: Test::Start, context, threads, seconds, peak_resident_bytes })
    }
}

/// Runs the tokens, so many at a time.
fn computed(generator: &mut Generator<'_>, tokens: &[Token], at_once: usize) -> Result<(), Failure> {
    for part in tokens.chunks(at_once) {
        generator.prefill(part).map_err(workspace::engine)?;
        // A GPU may only have been told: the next token is drawn from these.
        generator.tokens_and_logits();
    }
    Ok(())
}

/// Runs the first token and as many more as there are others, each the likeliest behind the one before.
fn drawn(generator: &mut Generator<'_>, tokens: &[Token]) -> Result<(), Failure> {
    let mut sampler = workspace::sampler(Sampling::default(), &[], 0)?;
    let mut next = tokens[0];
    for _ in tokens {
        generator.prefill(&[next]).map_err(workspace::engine)?;
        next = generator.sample(&mut sampler);
    }
    Ok(())
}

/// What a token takes at the end of what is there, where a GPU decodes.
fn work(generator: &mut Generator<'_>, token: Token) -> Result<Option<GpuWork>, Failure> {
    let position = generator.position();
    let dispatches = |generator: &Generator<'_>| {
        let decodes = generator.sequence().kind().decodes_on_gpu();
        generator.sequence().gpu_work(position).filter(|_| decodes)
    };
    let Some(before) = dispatches(generator) else { return Ok(None) };
    computed(generator, &[token], 1)?;
    // None where it was given up for this token.
    let work = dispatches(generator)
        .map(|after| GpuWork { dispatches: after.dispatches - before.dispatches, bytes: after.read_bytes });
    generator.rewind(position).map_err(workspace::engine)?;
    Ok(work)
}

impl Spread {
    /// Of at least one number.
    fn of(mut numbers: Vec<f64>) -> Spread {
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        let median = match numbers.len() % 2 {
            0 => f64::midpoint(numbers[middle - 1], numbers[middle]),
            _ => numbers[middle],
        };
        Spread { median, min: numbers[0], max: numbers[numbers.len() - 1] }
    }
}

fn table(figures: &[Figure], out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "test       tokens  depth  threads   tokens/s   lowest  highest  processors")?;
    for figure in figures {
        if let Figure::Speed { test, tokens, depth, threads, processors, tokens_per_second: speed, gpu } =
            figure
        {
            let work = gpu.map_or(String::new(), |GpuWork { dispatches, bytes }| {
                let gigabytes = speed.median * bytes as f64 / 1e9;
                format!(
                    "; {dispatches} dispatches of {:.2} MB a token, {gigabytes:.1} GB/s",
                    bytes as f64 / 1e6 / dispatches.max(1) as f64
                )
            });
            let name = if *test == Test::Prefill { "prefill" } else { "decode" };
            let Spread { median, min, max } = speed;
            writeln!(
                out,
                "{name:<10} {tokens:>6} {depth:>6} {threads:>8} {median:>10.1} {min:>8.1} {max:>8.1}  {processors}{work}"
            )?;
        }
    }
    for figure in figures {
        if let Figure::Start { context, threads, seconds, peak_resident_bytes, .. } = figure {
            let [median, min, max] = [seconds.median, seconds.min, seconds.max].map(|s| s * 1e3);
            let peak =
                peak_resident_bytes.map_or(String::new(), |b| format!("; {:.1} MB resident", b as f64 / 1e6));
            writeln!(
                out,
                "start to end of a process with one token, context {context}, threads {threads}: {median:.1} ms ({min:.1} to {max:.1}){peak}"
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!([spread.median, spread.min, spread.max], [2.0, 1.0, 3.0]);
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(vec![4.0]).median, 4.0);
    }
}
