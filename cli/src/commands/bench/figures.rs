//! What `thimble bench` measures, as a table and as JSON.

use crate::failure::Failure;
use clap::ValueEnum;
use serde::Serialize;
use std::io::Write;

/// What to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Test {
    /// A prompt, in whole batches
    Prefill,
    /// Tokens one by one
    Decode,
    /// A new process that generates one token and exits
    Start,
}

/// Median and extremes of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

/// What a GPU does for one token.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct GpuWork {
    pub(super) dispatches: u64,
    /// Weights and KV cache read.
    pub(super) bytes: u64,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Figure {
    Speed {
        test: Test,
        tokens: usize,
        depth: usize,
        threads: usize,
        /// The processors that computed it.
        processors: String,
        tokens_per_second: Spread,
        /// Work per token if a GPU decodes.
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

impl Spread {
    /// The spread of at least one number.
    pub(super) fn of(mut numbers: Vec<f64>) -> Spread {
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        let median = match numbers.len() % 2 {
            0 => f64::midpoint(numbers[middle - 1], numbers[middle]),
            _ => numbers[middle],
        };
        Spread { median, min: numbers[0], max: numbers[numbers.len() - 1] }
    }
}

/// Writes a table of the figures.
pub(super) fn table(figures: &[Figure], out: &mut dyn Write) -> Result<(), Failure> {
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
                "process start to exit with one token, context {context}, threads {threads}: {median:.1} ms ({min:.1} to {max:.1}){peak}"
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
