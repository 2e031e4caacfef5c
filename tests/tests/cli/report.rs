//! `thimble convert --report`.

use crate::setup::setup;
use std::fs;

#[test]
fn a_report_says_what_the_file_and_other_recipes_cost() {
    let bench = setup("report");
    let convert = |report: &[&str]| {
        bench.run(&[&["convert", "hf", "-o", "q4.thimble", "--quant", "q4"], report].concat(), b"")
    };
    convert(&["--report", "r.md", "--report-recipes", "q8,q4"]).succeeds();
    let page = fs::read_to_string(bench.path("r.md")).unwrap();
    let row = |name: &str| -> Vec<f64> {
        let line = page.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap();
        line.split('|').skip(2).take(3).map(|cell| cell.trim().parse().unwrap()).collect()
    };
    let (q4, q8) = (row("q4"), row("q8"));
    assert!(q4[1] < q8[1] && q4[2] > q8[2], "bits, then divergence: {q4:?} and {q8:?}");
    assert_eq!(page.matches("| q4 |").count(), 1, "the recipe of the file itself is not tried twice");
    let bits = fs::metadata(bench.path("q4.thimble")).unwrap().len() as f64 / 1e6;
    assert!((q4[0] - bits).abs() < 0.06);

    let text = "the cat sat on the mat and looked at the dog. ".repeat(40);
    fs::write(bench.path("text"), text).unwrap();
    let html = ["--report", "r.html", "--report-recipes", "none", "--report-text", "text"];
    convert(&html).succeeds();
    let page = fs::read_to_string(bench.path("r.html")).unwrap();
    assert!(page.contains("<svg") && page.matches("<circle").count() == 1 && page.contains("windows"));
}

#[test]
fn reports_that_cannot_be_are_refused() {
    let bench = setup("report-bad");
    fs::write(bench.path("short"), "the cat").unwrap();
    for (arguments, code, sentence) in [
        (&["--report", "r.pdf"][..], 2, ".html or .md"),
        (&["--report", "r.md", "--report-recipes", "q8,q9"], 2, "q9"),
        (&["--report-text", "short"], 2, "--report"),
        (&["--report", "r.md", "--report-text", "none"], 1, "none"),
        (&["--report", "r.md", "--report-text", "short"], 1, "use a longer text"),
    ] {
        let out = bench.run(&[&["convert", "hf", "-o", "x.thimble"], arguments].concat(), b"");
        assert_eq!(out.code, Some(code), "{arguments:?}: {}", out.stderr);
        assert!(out.stderr.contains(sentence), "{}", out.stderr);
        assert!(!bench.path("r.md").exists() && !bench.path("r.pdf").exists());
    }
}
