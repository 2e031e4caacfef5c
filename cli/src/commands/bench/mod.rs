//! `thimble bench`: how fast a model runs on this machine.

mod figures;
mod speed;
mod start;

use crate::adapters::Adapters;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::flags::machine::ComputeFlags;
use crate::flags::numbers::at_least_one;
use crate::model::{Location, ModelFlags};
use crate::workspace::Mapped;
use crate::{json, progress, terminal};
use clap::Args;
use figures::Test;
use speed::Case;
use std::io::Write;
use thimble_host::InferenceSettings;

/// Default prompt lengths.
const PROMPTS: [usize; 3] = [128, 512, 2048];
/// Default number of tokens to decode.
const DECODED: usize = 64;
/// Default depths of decoding.
const DEPTHS: [usize; 4] = [0, 1024, 4096, 8000];
/// Context of the processes whose start is timed, if the model has as much.
const START_CONTEXT: usize = 2048;

/// `thimble bench`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// What to time, separated by commas [default: all]
    #[arg(long, value_enum, value_name = "NAMES", value_delimiter = ',')]
    test: Vec<Test>,
    /// Tokens per prompt, or tokens to decode [default: 128,512,2048 for prompts, 64 for decoding]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = at_least_one)]
    tokens: Vec<usize>,
    /// Tokens already in the context [default: 0 for prompts, 0,1024,4096,8000 for decoding]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    depth: Vec<usize>,
    /// Threads [default: 1, and one per core available to this process]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = at_least_one)]
    threads: Vec<usize>,
    /// Measurements per figure, after one warm-up run
    #[arg(long, value_name = "N", default_value = "5", value_parser = at_least_one)]
    rounds: usize,
    /// Print a JSON list instead of the table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeFlags,
}

/// A model and what to time.
pub(crate) struct Job {
    location: Location,
    flags: Flags,
}

impl Job {
    /// Locates the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { location: flags.model.location()?, flags })
    }

    /// Writes the table, or a JSON list.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let path = self.location.fetch(Notes::unless(self.flags.json))?;
        let mapped = Mapped::open(&path)?;
        let context = mapped.file()?.config().context;
        let cases = self.cases(context)?;
        let adapters = Adapters::open(&self.flags.compute.adapters, &mapped.file()?)?;
        let starts = self.wants(Test::Start);
        let threads = self.threads();
        let bar = progress::steps("measuring", (threads.len() * (cases.len() + usize::from(starts))) as u64);
        let mut figures = Vec::new();
        for &threads in &threads {
            // First, so that it does not compete with the threads of the sessions.
            if starts {
                let sizes = [START_CONTEXT.min(context), threads];
                figures.push(start::measure(&path, sizes, &self.flags.compute, self.flags.rounds)?);
                bar.inc(1);
            }
            let settings = InferenceSettings {
                threads: Some(threads),
                adapter_rank: adapters.rank()?,
                ..self.flags.compute.settings()
            };
            speed::measure((&mapped, &adapters), &settings, &cases, self.flags.rounds, &mut |figure| {
                figures.push(figure);
                bar.inc(1);
            })?;
        }
        bar.finish_and_clear();
        if self.flags.json {
            return json::write(stdout, &figures);
        }
        figures::table(&figures, stdout)
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

    /// The tests of a running model, sorted by depth. Those that were asked for must fit the context; default ones that do
    /// not are skipped.
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
                    format!("{tokens} tokens at depth {depth} do not fit the model's context of {context}");
                if !self.flags.tokens.is_empty() || !self.flags.depth.is_empty() {
                    return Err(Failure::Usage(format!("{what}: lower --tokens or --depth")));
                }
                terminal::note(&format!("skipped: {what}"));
            }
        }
        cases.sort_by_key(|case| case.depth);
        Ok(cases)
    }
}
