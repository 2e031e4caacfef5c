//! What several commands share.

/// The number asked for, or one for each core. The flags allow at most 1,024, so that a typo does not start more.
pub(super) fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// Parses a number above 0, such as `110_000`.
pub(super) fn positive(text: &str) -> std::result::Result<f64, String> {
    match text.replace(['_', ','], "").parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("expected a number above 0".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::positive;

    #[test]
    fn positive_numbers_are_read_as_people_write_them() {
        assert!(positive("0").is_err() && positive("nan").is_err());
        assert_eq!(positive("110_000"), Ok(110_000.0));
    }
}
