//! Counts, sizes and durations as people read them.

use std::time::Duration;

/// A whole number with its thousands set apart: `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with an SI unit: `10.20 B`.
pub(crate) fn si(number: f64) -> String {
    let (scaled, unit) = match number {
        n if n >= 1e12 => (n / 1e12, " T"),
        n if n >= 1e9 => (n / 1e9, " B"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " K"),
        n => (n, ""),
    };
    match scaled {
        s if s >= 100.0 => format!("{s:.0}{unit}"),
        s => format!("{s:.2}{unit}"),
    }
}

/// A size in decimal units: `46.00 GB`.
pub(crate) fn bytes(size: u64) -> String {
    match size as f64 {
        s if s >= 1e9 => format!("{:.2} GB", s / 1e9),
        s if s >= 1e6 => format!("{:.1} MB", s / 1e6),
        s => format!("{:.1} kB", s / 1e3),
    }
}

/// A duration in its two largest units: `45s`, `12m`, `3h 20m`, `2d 4h`.
pub(crate) fn span(seconds: f64) -> String {
    let Ok(time) = Duration::try_from_secs_f64(seconds) else { return "?".into() };
    let (seconds, minutes) = (time.as_secs(), (time.as_secs() + 30) / 60);
    match minutes {
        _ if seconds < 60 => format!("{seconds}s"),
        0..60 => format!("{minutes}m"),
        60..1440 => format!("{}h {:02}m", minutes / 60, minutes % 60),
        _ => format!("{}d {:02}h", minutes / 1440, minutes % 1440 / 60),
    }
}
