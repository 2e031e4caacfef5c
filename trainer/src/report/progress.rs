//! Progress of a run: a live bar in a terminal, occasional lines in a log.

use super::metrics::StepMetrics;
use crate::units::span;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Decay of the running means.
const DECAY: f64 = 0.95;
/// Figures of the objective that a line shows.
const FIGURES_SHOWN: usize = 3;
/// Seconds between two lines of a log at a run's beginning and in the long run.
const LINE_EVERY: (f64, f64) = (5.0, 60.0);

/// Shows steps and notes on standard error. Failures are ignored: a run continues without its terminal.
#[derive(Debug)]
pub struct Progress {
    total: u64,
    output: ProgressOutput,
    loss: RunningMean,
    /// Seconds from one step's end to the next one's, with validation and checkpoints between them.
    pace: RunningMean,
    begun: Instant,
    last_step: Option<Instant>,
    last_line: Option<Instant>,
}

#[derive(Debug)]
enum ProgressOutput {
    Nowhere,
    Terminal(ProgressBar),
    Log,
}

/// A bias-corrected exponential mean (Kingma and Ba 2015, section 3).
#[derive(Debug, Default)]
struct RunningMean {
    sum: f64,
    weight: f64,
}

impl RunningMean {
    /// Ignores NaN and infinity, which would never leave the mean.
    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.sum = DECAY * self.sum + (1.0 - DECAY) * value;
            self.weight = DECAY * self.weight + (1.0 - DECAY);
        }
    }

    /// NaN before the first value.
    fn value(&self) -> f64 {
        self.sum / self.weight
    }
}

impl Progress {
    /// Progress of a run of `total_steps` steps, including those before a resume. `quiet` shows nothing.
    pub fn new(total_steps: u64, quiet: bool) -> Progress {
        let output = if quiet {
            ProgressOutput::Nowhere
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(total_steps), ProgressDrawTarget::stderr_with_hz(5));
            // Two lines, so that 80 columns hold it all.
            if let Ok(style) = ProgressStyle::with_template("{bar:24.cyan/blue} {prefix}\n{wide_msg}") {
                bar.set_style(style.progress_chars("━╸─"));
            }
            ProgressOutput::Terminal(bar)
        } else {
            ProgressOutput::Log
        };
        Progress {
            total: total_steps,
            output,
            loss: RunningMean::default(),
            pace: RunningMean::default(),
            begun: Instant::now(),
            last_step: None,
            last_line: None,
        }
    }

    /// Shows a finished step, with the first of its figures.
    pub fn step(&mut self, step: &StepMetrics, figures: &[(&'static str, f64)]) {
        let now = Instant::now();
        self.loss.add(step.loss);
        self.pace.add(self.last_step.map_or(step.seconds, |last| (now - last).as_secs_f64()));
        self.last_step = Some(now);
        match &self.output {
            ProgressOutput::Nowhere => {}
            ProgressOutput::Terminal(bar) => {
                bar.set_position(step.step);
                let (place, left, numbers) = self.parts(step, figures);
                bar.set_prefix(format!("{place} | {left}"));
                bar.set_message(numbers);
            }
            ProgressOutput::Log => {
                let wait = ((now - self.begun).as_secs_f64() / 60.0).clamp(LINE_EVERY.0, LINE_EVERY.1);
                let due = self.last_line.is_none_or(|last| (now - last).as_secs_f64() >= wait);
                if due || step.step >= self.total {
                    self.last_line = Some(now);
                    print_line(&self.line(step, figures));
                }
            }
        }
    }

    /// Prints a permanent line: above the bar, or in the log.
    pub fn note(&self, text: &str) {
        match &self.output {
            ProgressOutput::Nowhere => {}
            ProgressOutput::Terminal(bar) => bar.suspend(|| print_line(text)),
            ProgressOutput::Log => print_line(text),
        }
    }

    /// Ends the bar and leaves it visible.
    pub fn finish(&self) {
        if let ProgressOutput::Terminal(bar) = &self.output {
            bar.abandon();
        }
    }

    /// `step 120/4000 epoch 1 | loss 4.812 | lr 3.0e-4 | norm 0.83 | 12,345 tok/s | MFU 31% (causal) | 12m left`.
    fn line(&self, step: &StepMetrics, figures: &[(&'static str, f64)]) -> String {
        let (place, left, numbers) = self.parts(step, figures);
        format!("{place} | {numbers} | {left}")
    }

    /// Position, time left, and the numbers; the loss is a running mean, but a NaN is shown as it is.
    fn parts(&self, step: &StepMetrics, figures: &[(&'static str, f64)]) -> (String, String, String) {
        let loss = if step.loss.is_finite() { self.loss.value() } else { step.loss };
        let mfu = step.mfu.map_or(String::new(), |mfu| format!(" | MFU {} (causal)", percent(mfu)));
        let left = self.total.saturating_sub(step.step) as f64 * self.pace.value();
        let figures = figures.iter().take(FIGURES_SHOWN);
        let figures: String =
            figures.map(|(name, value)| format!(" | {} {value:.3}", name.replace('_', " "))).collect();
        let numbers = format!(
            "loss {loss:.3}{figures} | lr {:.1e} | norm {:.2} | {} tok/s{mfu}",
            step.learning_rate,
            step.gradient_norm,
            crate::units::grouped(step.tokens_per_second.round() as u64),
        );
        (format!("step {}/{} {}", step.step, self.total, step.stage), format!("{} left", span(left)), numbers)
    }
}

/// Like `eprintln!`, but does not panic if standard error is closed.
pub(super) fn print_line(text: &str) {
    let mut line = String::from(text);
    line.push('\n');
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A share in percent, with two significant digits.
fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent < 9.95 => format!("{percent:.1}%"),
        percent => format!("{percent:.0}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u64, loss: f64) -> StepMetrics {
        StepMetrics {
            step: number,
            stage: "epoch 1".into(),
            loss,
            learning_rate: 3e-4,
            gradient_norm: 0.834,
            tokens: number * 262_144,
            tokens_per_second: 12_345.4,
            mfu: Some(0.312),
            seconds: 0.1857,
            figures: Default::default(),
        }
    }

    fn shown(steps: &[StepMetrics]) -> String {
        let mut progress = Progress::new(4000, true);
        for step in steps {
            progress.loss.add(step.loss);
            progress.pace.add(step.seconds);
        }
        progress.line(steps.last().unwrap(), &[])
    }

    #[test]
    fn a_line_says_it_all() {
        assert_eq!(
            shown(&[step(120, 4.812)]),
            "step 120/4000 epoch 1 | loss 4.812 | lr 3.0e-4 | norm 0.83 | 12,345 tok/s | MFU 31% (causal) | 12m left"
        );
        let bare = StepMetrics { mfu: None, ..step(4000, 4.0) };
        let line = "step 4000/4000 epoch 1 | loss 4.000 | lr 3.0e-4 | norm 0.83 | 12,345 tok/s | 0s left";
        assert_eq!(shown(&[bare]), line);
    }

    #[test]
    fn the_loss_is_a_mean_that_nan_does_not_poison() {
        // Bias-corrected: (0.95 x 0.05 x 4 + 0.05 x 2) / (0.95 x 0.05 + 0.05) = 2.974...
        assert!(shown(&[step(1, 4.0), step(2, 2.0)]).contains("loss 2.974"));
        assert!(shown(&[step(1, 4.0), step(2, f64::NAN)]).contains("loss NaN"));
        assert!(shown(&[step(1, 4.0), step(2, f64::NAN), step(3, 4.0)]).contains("loss 4.000"));
    }

    #[test]
    fn spans_and_numbers_read_well() {
        let spans =
            [0.0, 59.9, 60.0, 3_599.0, 4_000.0, 86_000.0, 200_000.0, f64::NAN, f64::INFINITY].map(span);
        assert_eq!(spans, ["0s", "59s", "1m", "1h 00m", "1h 07m", "23h 53m", "2d 07h", "?", "?"]);
        let numbers = [0, 999, 1_000, 123_456, 1_000_000_000].map(crate::units::grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "123,456", "1,000,000,000"]);
        assert_eq!([0.0042, 0.0994, 0.0996, 0.312].map(percent), ["0.4%", "9.9%", "10%", "31%"]);
    }
}
