//! Numbers within a range, as clap's value parsers.

use std::str::FromStr;

fn at_least(text: &str, least: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&n: &usize| n >= least);
    number.ok_or_else(|| format!("expected a whole number of at least {least}"))
}

/// A whole number from 1.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    at_least(text, 1)
}

/// A whole number from 2.
pub(crate) fn at_least_two(text: &str) -> Result<usize, String> {
    at_least(text, 2)
}

/// A whole number from 0.
pub(crate) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

fn up_to(text: &str, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&n: &usize| n <= most);
    number.ok_or_else(|| format!("expected a whole number from 0 to {most}"))
}

/// A whole number from 0 to 16.
pub(crate) fn up_to_sixteen(text: &str) -> Result<usize, String> {
    up_to(text, 16)
}

/// A whole number from 0 to 20.
pub(crate) fn up_to_twenty(text: &str) -> Result<usize, String> {
    up_to(text, 20)
}

fn number(text: &str, fits: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|&x: &f32| x.is_finite() && fits(x));
    number.ok_or_else(|| format!("expected {expected}"))
}

/// Any finite number.
pub(crate) fn finite(text: &str) -> Result<f32, String> {
    number(text, |_| true, "a number")
}

/// A finite number from 0.
pub(crate) fn non_negative(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 0.0, "a number of at least 0")
}

/// A finite number above 0.
pub(crate) fn positive(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0, "a number above 0")
}

/// A number from 0 to 1.
pub(crate) fn fraction(text: &str) -> Result<f32, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")
}
