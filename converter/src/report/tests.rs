//! Reports of made-up trials.

use super::*;
use crate::TensorSummary;
use crate::test_config::CONFIG;
use std::collections::BTreeMap;
use thimble_runtime::format::Encoding;

fn trial(recipe: &str, bytes: u64, mean: f64) -> Trial {
    let tensor = |name: &str, rows, error| TensorSummary {
        name: name.to_owned(),
        rows,
        columns: 64,
        encoding: if rows == 1 { Encoding::Vector } else { Encoding::Q4Nl },
        bytes: 1000,
        error,
    };
    let summary = ConversionSummary {
        config: CONFIG,
        bytes,
        encodings: BTreeMap::from([("q4nl", (2, 2000)), ("f32 vector", (1, 256))]),
        rounding: 0.1,
        worst: None,
        notes: Vec::new(),
        chosen: None,
        tensors: vec![tensor("a.<b>|c", 64, 0.02), tensor("norm", 1, 0.0), tensor("worst", 64, 0.07)],
    };
    let cost =
        Cost { mean, standard_error: 0.001, percentile_99: 0.5, top_1_agreement: 0.876, perplexity: 30.5 };
    Trial { recipe: recipe.to_owned(), summary, cost }
}

fn report() -> Report {
    Report {
        source: "small & <quick>".to_owned(),
        perplexity: 29.0,
        text: "12 windows".to_owned(),
        trials: vec![
            trial("q4", 40_000_000, 0.02),
            trial("q8", 70_000_000, 0.0),
            trial("q3", 30_000_000, 0.3),
        ],
    }
}

#[test]
fn markdown_has_a_row_for_each_trial_by_size_and_for_each_matrix_by_error() {
    let page = report().render(ReportFormat::Markdown).unwrap();
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing in\n{page}"));
    assert!(at("| q3 | 30.0 |") < at("| q4 | 40.0 |") && at("| q4 | 40.0 |") < at("| q8 | 70.0 |"));
    assert!(at("| worst |") < at("| a.&lt;b>\\|c |"), "the one that lost most comes first");
    assert!(!page.contains("| norm |") && page.contains("87.6%") && page.contains("7.000%"));
}

#[test]
#[cfg(feature = "plot")]
fn html_is_one_page_that_escapes_names_and_draws_every_trial() {
    let page = report().render(ReportFormat::Html).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("small &amp; &lt;quick&gt;") && !page.contains("<b>"));
    assert_eq!(
        page.matches("<circle").count(),
        3,
        "a point for each trial, one of them without any divergence"
    );
    assert!(!page.contains("src=") && !page.contains("href="), "nothing is fetched");
}

#[test]
#[cfg(feature = "plot")]
fn odd_figures_are_drawn_all_the_same() {
    for trials in [vec![], vec![trial("one", 1_000_000, 0.1)], vec![trial("nan", 1_000_000, f64::NAN)]] {
        let report = Report { trials, ..report() };
        assert!(report.render(ReportFormat::Html).unwrap().contains("<svg"));
        assert!(report.render(ReportFormat::Markdown).unwrap().contains("| recipe |"));
    }
}

#[test]
fn the_name_decides_on_the_format() {
    for (name, format) in [
        ("a.html", Some(ReportFormat::Html)),
        ("b.MD", Some(ReportFormat::Markdown)),
        ("c.pdf", None),
        ("d", None),
    ] {
        assert_eq!(ReportFormat::of(Path::new(name)), format, "{name}");
    }
}

#[test]
#[cfg(feature = "calibrate")]
fn the_text_of_reports_is_not_the_one_of_calibration() {
    let calibration = crate::calibrate::default_text();
    let lines = default_text().lines().filter(|line| line.len() > 40);
    let shared: Vec<&str> = lines.filter(|line| calibration.contains(*line)).collect();
    assert!(shared.is_empty() && default_text().len() > 30_000, "{shared:?}");
}
