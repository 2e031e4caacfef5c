//! Tells a person at a terminal how an evaluation goes; where there is none, a line now and then.

use super::run::EvalEvent;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// A progress bar on stderr with the time left, and notes.
#[derive(Debug)]
pub struct Watch {
    note: fn(&str),
    bar: Option<ProgressBar>,
    /// When a line was last written where no bar is seen.
    told: Instant,
}

/// How often such a line is written.
const TELL: Duration = Duration::from_secs(60);

fn time(seconds: f64) -> String {
    // Infinite where a speed is not known.
    let duration = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    HumanDuration(duration).to_string()
}

impl Watch {
    /// One that writes its notes with `note`.
    pub fn new(note: fn(&str)) -> Watch {
        Watch { note, bar: None, told: Instant::now() }
    }

    /// Takes notice.
    pub fn see(&mut self, event: EvalEvent) {
        match event {
            EvalEvent::Reading(_) => {}
            EvalEvent::Tokenizing { items } => self.say(&format!("tokenizing {items} items")),
            EvalEvent::Resumed { items, seconds } => {
                self.say(&format!("going on: {items} items are done, which took {}", time(seconds)));
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
                if bar.is_hidden() && self.told.elapsed() > TELL {
                    self.told = Instant::now();
                    (self.note)(&format!("{items} of {of} items, {left}"));
                }
            }
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
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
    // The template is a literal; a mistake in it falls back to indicatif's own bar.
    if let Ok(style) = ProgressStyle::with_template("items [{bar:30}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
