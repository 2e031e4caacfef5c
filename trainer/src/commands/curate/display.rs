//! The progress of a stage: a live line on a terminal, occasional lines elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use thimble_curate::source::{Compression, TextSource};

/// Time between two lines if stderr is not a terminal.
const LINES_EVERY: Duration = Duration::from_secs(10);
/// Bytes of text in a byte of a compressed file, roughly, for the time left.
const EXPANSION: u64 = 3;

pub(super) struct Display {
    begin: Instant,
    /// Bytes of text that are expected, roughly.
    total: u64,
    bar: ProgressBar,
    last_line: Option<Instant>,
}

impl Display {
    /// `readings` is how often every source is read.
    pub(super) fn new(sources: &[TextSource], readings: usize) -> Display {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        let size = |source: &TextSource| {
            let bytes = std::fs::metadata(&source.path).map_or(0, |metadata| metadata.len());
            if source.compression == Compression::Plain { bytes } else { bytes.saturating_mul(EXPANSION) }
        };
        let now = Instant::now();
        Display {
            begin: now,
            total: sources.iter().map(size).sum::<u64>().saturating_mul(readings as u64),
            bar,
            last_line: (!std::io::stderr().is_terminal()).then_some(now),
        }
    }

    pub(super) fn show(&mut self, documents: u64, bytes: u64) {
        match &mut self.last_line {
            Some(last) if last.elapsed() < LINES_EVERY => {}
            Some(last) => {
                *last = Instant::now();
                eprintln!("{}", self.line(documents, bytes));
            }
            None => self.bar.set_message(self.line(documents, bytes)),
        }
    }

    /// Clears the live line and states the speed.
    pub(super) fn finish(&self, documents: u64, bytes: u64) {
        self.bar.finish_and_clear();
        eprintln!(
            "{} in {:.1} s",
            speed(documents, bytes, self.begin.elapsed()),
            self.begin.elapsed().as_secs_f64()
        );
    }

    fn line(&self, documents: u64, bytes: u64) -> String {
        let elapsed = self.begin.elapsed();
        let left = elapsed.as_secs_f64() * self.total.saturating_sub(bytes) as f64 / bytes.max(1) as f64;
        format!("{}, about {left:.0} s left", speed(documents, bytes, elapsed))
    }
}

fn speed(documents: u64, bytes: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64().max(1e-3);
    format!(
        "{documents} documents, {:.0} documents/s, {:.1} MB/s",
        documents as f64 / seconds,
        bytes as f64 / 1e6 / seconds
    )
}
