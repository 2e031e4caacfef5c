//! Progress of a task that comes before the steps: a bar in a terminal, occasional lines in a log.

use super::progress::print_line;
use crate::units::{grouped, span};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between two lines of a log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows on standard error how much of a task is done; failures are ignored.
#[derive(Debug)]
pub struct TaskProgress {
    title: String,
    total: u64,
    begun: Instant,
    last_line: Instant,
    /// None in a log.
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl TaskProgress {
    /// Says that a task of `total` parts begins; `quiet` shows nothing.
    pub fn begin(title: String, total: u64, quiet: bool) -> TaskProgress {
        let terminal = !quiet && std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
            if let Ok(style) = ProgressStyle::with_template("{bar:24.cyan/blue} {wide_msg}") {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar
        });
        let now = Instant::now();
        let task = TaskProgress { title, total, begun: now, last_line: now, bar, quiet };
        if !quiet {
            print_line(&task.title);
        }
        task
    }

    /// Shows that so many parts are done.
    pub fn done(&mut self, parts: u64) {
        let elapsed = self.begun.elapsed();
        match &self.bar {
            Some(bar) => {
                bar.set_position(parts);
                bar.set_message(self.line(parts, elapsed));
                if parts >= self.total {
                    bar.finish_and_clear();
                }
            }
            None if !self.quiet && self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                print_line(&self.line(parts, elapsed));
            }
            None => {}
        }
    }

    /// `120 of 1,100, 3m left`.
    fn line(&self, parts: u64, elapsed: Duration) -> String {
        let left = elapsed.as_secs_f64() * self.total.saturating_sub(parts) as f64 / parts as f64;
        format!("{} of {}, {} left", grouped(parts), grouped(self.total), span(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_done_and_what_is_left() {
        let task = TaskProgress::begin(String::new(), 1100, true);
        assert_eq!(task.line(100, Duration::from_secs(30)), "100 of 1,100, 5m left");
        assert_eq!(task.line(1100, Duration::from_secs(30)), "1,100 of 1,100, 0s left");
        assert_eq!(task.line(0, Duration::ZERO), "0 of 1,100, ? left");
    }
}
