//! Progress bars on stderr, hidden if stderr is not a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// A bar that counts bytes; `label` says of what.
pub(crate) fn bytes(label: &str, total: u64) -> ProgressBar {
    let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar(label, Some(total), template)
}

/// A bar that counts steps.
pub(crate) fn steps(label: &str, total: u64) -> ProgressBar {
    bar(label, Some(total), "{msg} [{bar:30}] {pos}/{len} {eta}")
}

fn bar(label: &str, total: Option<u64>, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
    // The templates are literals of this file; a mistake in one falls back to indicatif's own bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(label.to_string());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
