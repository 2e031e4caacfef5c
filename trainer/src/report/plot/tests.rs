use super::curves::{POINTS, smoothed, thinned};
use super::*;
use crate::report::metrics::{self, MetricsEvent, StepMetrics, ValidationPoint};

fn step(number: u64, loss: f64) -> MetricsEvent {
    MetricsEvent::Step(StepMetrics {
        step: number,
        stage: if number <= 50 { "first" } else { "second" }.into(),
        loss,
        learning_rate: 1e-3,
        gradient_norm: 0.5,
        tokens: number * 4096,
        tokens_per_second: 1e5,
        mfu: None,
        seconds: 0.04,
        figures: Default::default(),
    })
}

fn falling(steps: u64) -> Vec<MetricsEvent> {
    (1..=steps).map(|number| step(number, 2.0 + 8.0 / number as f64)).collect()
}

#[test]
fn a_mean_keeps_straight_lines_and_the_first_point() {
    let line: Vec<(f64, f64)> = (0..20).map(|x| (f64::from(x), 3.0 * f64::from(x))).collect();
    let mean = smoothed(&line, 5);
    for (index, ((_, expected), (_, found))) in line.iter().zip(&mean).enumerate().take(18) {
        assert!((expected - found).abs() < 1e-9, "at {index}: expected {expected}, found {found}");
    }
    // Near the end one side runs short: (17 + 18 + 19) / 3 x 3.
    assert!((mean[19].1 - 54.0).abs() < 1e-9);
    assert_eq!(smoothed(&line, 1), line);
}

#[test]
fn thinning_keeps_ends_of_range_and_order() {
    let mut points: Vec<(f64, f64)> = (0..100_000).map(|x| (f64::from(x), f64::from(x % 7))).collect();
    points[33_333].1 = 50.0;
    let kept = thinned(&points);
    assert!(kept.len() <= POINTS + 2, "{}", kept.len());
    assert!(kept.contains(&(33_333.0, 50.0)));
    assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
}

#[test]
fn windows_are_round() {
    assert_eq!([0, 1, 4, 5, 19, 20, 2334].map(round_below), [0, 1, 2, 5, 10, 20, 2000]);
}

#[test]
fn a_picture_has_panels_stages_and_every_validation() {
    let mut events = falling(100);
    for number in [25, 50, 75] {
        events.push(MetricsEvent::Validation(ValidationPoint {
            step: number,
            loss: 3.0,
            perplexity: Some(3_f64.exp()),
            tokens: number * 4096,
            figures: Default::default(),
        }));
    }
    let run = RunMetrics::new("a <run> & more", events).unwrap();
    let svg = draw(std::slice::from_ref(&run), &PlotOptions::default()).unwrap();
    for words in
        ["Loss (nats per token, log scale)", "Learning rate", "Gradient norm", "first", "second", "Steps"]
    {
        assert!(svg.contains(words), "{words} is not in the picture");
    }
    assert!(svg.contains("a &lt;run&gt; &amp; more"));
    // White under blue for each point, and one in the legend.
    assert_eq!(svg.matches("<circle").count(), 3 * 2 + 1);
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    let along_tokens = PlotOptions { x_axis: XAxis::Tokens, ..PlotOptions::default() };
    assert!(draw(&[run], &along_tokens).unwrap().contains("400K"));
}

#[test]
fn several_runs_are_named_in_the_legend_and_two_of_a_name_by_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let runs = ["a/tiny", "b/tiny", "b/other"].map(|name| folder.path().join(name));
    for run in &runs {
        std::fs::create_dir_all(run).unwrap();
        let mut file = metrics::MetricsFile::create(run).unwrap();
        falling(10).iter().for_each(|event| file.write(event).unwrap());
    }
    let svg =
        draw(&read(&runs).unwrap(), &PlotOptions { title: Some("Both".into()), ..PlotOptions::default() })
            .unwrap();
    for words in [&runs[0].display().to_string(), &runs[1].display().to_string(), "\nother\n", "Both"] {
        assert!(svg.contains(words), "{words} is not in the picture");
    }
}

#[test]
fn odd_numbers_do_not_spoil_a_picture() {
    let cases: [(&str, Vec<MetricsEvent>); 5] = [
        ("one step", falling(1)),
        ("two alike", vec![step(1, 3.0), step(2, 3.0)]),
        ("not all finite", vec![step(1, 3.0), step(2, f64::NAN), step(3, f64::INFINITY), step(4, 2.0)]),
        ("zero and below", vec![step(1, 0.0), step(2, -1.0)]),
        ("huge", vec![step(1, 1e300), step(2, 1e-300), step(3, 1e99)]),
    ];
    for (name, events) in cases {
        let svg = draw(&[RunMetrics::new(name, events).unwrap()], &PlotOptions::default()).unwrap();
        assert!(svg.contains("<polyline") && !svg.contains("NaN"), "{name}");
    }
}

#[test]
fn nothing_to_draw_is_said() {
    let error = RunMetrics::new("runs/empty", vec![]).unwrap_err().to_string();
    assert!(error.contains("runs/empty") && error.contains("no step"), "{error}");
    let nan = RunMetrics::new("runs/nan", vec![step(1, f64::NAN)]).unwrap();
    let error = draw(&[nan], &PlotOptions::default()).unwrap_err().to_string();
    assert!(error.contains("runs/nan") && error.contains("finite"), "{error}");
    assert!(draw(&[], &PlotOptions::default()).is_err());
}
