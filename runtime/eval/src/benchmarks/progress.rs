//! Shows the progress of an evaluation: a bar on a terminal, otherwise a line now and then.

use super::event::EvalEvent;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// A progress bar on stderr with the time left, and notes.
#[derive(Debug)]
pub struct EvalProgress {
    note: fn(&str),
    bar: Option<ProgressBar>,
    /// When the last line was written without a visible bar.
    last_line: Instant,
}

/// How often such a line is written.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

fn time(seconds: f64) -> String {
    // Infinite if the speed is unknown.
    let duration = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    HumanDuration(duration).to_string()
}

impl EvalProgress {
    /// Writes notes with `note`.
    pub fn new(note: fn(&str)) -> EvalProgress {
        EvalProgress { note, bar: None, last_line: Instant::now() }
    }

    /// Shows an event.
    pub fn show(&mut self, event: EvalEvent) {
        match event {
            EvalEvent::Reading(_) => {}
            EvalEvent::Tokenizing { items } => self.say(&format!("tokenizing {items} items")),
            EvalEvent::Resumed { items, seconds } => {
                self.say(&format!("resuming: {items} items are done, which took {}", time(seconds)));
            }
            EvalEvent::Predicted { total, left } => {
                let (all, rest) = (time(total), time(left));
                self.say(&format!(
                    "predicted: {total:.0} seconds ({all}) in all, {left:.0} ({rest}) from now"
                ));
            }
            EvalEvent::Done { items, of, left } => {
                let left = left.map_or_else(String::new, |left| format!("{} left", time(left)));
                let bar = self.bar.get_or_insert_with(|| bar(of as u64));
                bar.set_position(items as u64);
                bar.set_message(left.clone());
                if bar.is_hidden() && self.last_line.elapsed() > LINE_INTERVAL {
                    self.last_line = Instant::now();
                    (self.note)(&format!("{items} of {of} items, {left}"));
                }
            }
        }
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| (self.note)(text)),
            None => (self.note)(text),
        }
    }
}

fn bar(items: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(items), ProgressDrawTarget::stderr_with_hz(10));
    // The template is a literal; without it indicatif's default style applies.
    if let Ok(style) = ProgressStyle::with_template("items [{bar:30}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
