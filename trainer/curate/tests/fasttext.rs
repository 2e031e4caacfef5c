//! fastText: the C++ library's predictions, damaged files, and training.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thimble_curate::fasttext::{ClassifierOptions, Example, FastText, Preset, Scratch, train};
use thimble_needs::{Need, skip};

/// The largest difference from the C++ library that the issue allows.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Expected {
    text: String,
    predictions: Vec<(String, f64)>,
}

fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fasttext")
}

/// Compares every prediction of `folder`'s models with its `expected.json`; returns the worst difference.
fn compare(folder: &Path) -> f64 {
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<Expected>> = serde_json::from_str(&expected).unwrap();
    assert!(!expected.is_empty());
    let mut worst = 0f64;
    for (name, texts) in &expected {
        let model = FastText::open(&folder.join(name)).unwrap();
        let mut scratch = Scratch::default();
        assert!(texts.len() > 20, "{name}");
        for Expected { text, predictions } in texts {
            let found = model.predict(text, &mut scratch).unwrap();
            let found: Vec<(&str, f64)> = found
                .iter()
                .map(|one| (model.labels()[one.label].as_str(), f64::from(one.probability)))
                .collect();
            assert_eq!(found.len(), predictions.len(), "{name}: {text:?}");
            for (place, (label, probability)) in predictions.iter().enumerate() {
                let ours = found.iter().find(|(other, _)| other == label).map(|one| one.1);
                let ours = ours.unwrap_or_else(|| panic!("{name}: {text:?}: {label} is missing"));
                worst = worst.max((ours - probability).abs());
                assert!(
                    (found[place].1 - probability).abs() <= TOLERANCE,
                    "{name}: {text:?}: order at {place}"
                );
            }
        }
    }
    assert!(worst <= TOLERANCE, "{worst}");
    worst
}

#[test]
fn probabilities_are_those_of_the_library() {
    assert!(compare(&own()) > 0.0, "the comparison compares nothing");
}

#[test]
fn reference_models_are_met() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/fasttext");
    if !folder.is_dir() {
        return skip(Need::Shared, format!("{} is missing", folder.display()));
    }
    compare(&folder);
}

#[test]
fn damaged_files_are_refused_or_read_but_never_panic() {
    let mut refused = 0;
    for name in ["softmax.bin", "tree.bin", "one_against_all.bin", "pruned.ftz"] {
        let whole = std::fs::read(own().join(name)).unwrap();
        assert!(FastText::parse(whole.clone()).is_ok());
        for len in 0..whole.len() {
            assert!(FastText::parse(whole[..len].to_vec()).is_err(), "{name} cut to {len} bytes");
        }
        for at in 0..whole.len().min(3000) {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                match FastText::parse(damaged) {
                    Ok(model) => {
                        let _ = model.predict("tide größe 山 unseen </s>", &mut Scratch::default());
                    }
                    Err(why) => {
                        refused += 1;
                        assert!(why.contains("found"), "{why}");
                    }
                }
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn weights_that_are_not_numbers_are_an_error() {
    let mut file = std::fs::read(own().join("softmax.bin")).unwrap();
    let end = file.len();
    file[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let model = FastText::parse(file).unwrap();
    let error = model.predict("tide", &mut Scratch::default()).unwrap_err().to_string();
    assert!(error.contains("not a number"), "{error}");
}

fn examples() -> Vec<Example> {
    let words = [("sea", ["tide", "gull", "salt"]), ("hill", ["peak", "snow", "ridge"])];
    let text = |words: &[&str; 3], i: usize| {
        format!("the {} of a {} in\n{}", words[i % 3], words[i / 3 % 3], words[i / 9 % 3])
    };
    let example = |i: usize| {
        let (label, words) = &words[i % 2];
        Example { labels: vec![(*label).to_owned()], text: text(words, i / 2) }
    };
    (0..60).map(example).collect()
}

#[test]
fn a_trained_model_separates_its_examples_and_reads_back() {
    for (word_ngrams, longest) in [(1, 0), (2, 0), (1, 3), (3, 4)] {
        let options = ClassifierOptions {
            dimensions: 10,
            epochs: 200,
            learning_rate: 0.5,
            word_ngrams,
            shortest: usize::from(longest > 0) * 2,
            longest,
            buckets: 500,
            ..ClassifierOptions::default()
        };
        let mut losses = Vec::new();
        let write = |losses: &mut Vec<f64>| {
            let mut file = Vec::new();
            train(&examples(), &options, |_, loss| losses.push(loss)).unwrap().write(&mut file).unwrap();
            file
        };
        let file = write(&mut losses);
        assert_eq!(file, write(&mut Vec::new()), "the same examples give the same bytes");
        assert!(losses[losses.len() - 1] < losses[0] / 2.0, "{losses:?}");
        let model = FastText::parse(file).unwrap();
        for Example { labels, text } in examples() {
            let mut scratch = Scratch::default();
            let first = model.predict(&text, &mut scratch).unwrap()[0];
            assert_eq!(model.labels()[first.label], format!("__label__{}", labels[0]), "{text}");
        }
        let (label, scratch) =
            (Preset::Language("sea".to_owned()).label_in(&model).unwrap(), &mut Scratch::default());
        let keeps = |text: &str, scratch: &mut Scratch| {
            Preset::Language("sea".to_owned()).keeps(label, model.predict(text, scratch).unwrap())
        };
        assert!(keeps("gull tide", scratch) && !keeps("peak snow", scratch));
        assert!(Preset::Dclm.label_in(&model).unwrap_err().to_string().contains("__label__hq"));
    }
}

#[test]
fn labels_in_the_text_count_as_labels() {
    let inside = examples()
        .into_iter()
        .map(|one| Example { labels: Vec::new(), text: format!("__label__{} {}", one.labels[0], one.text) });
    let bytes = |examples: &[Example]| {
        let options = ClassifierOptions { dimensions: 4, ..ClassifierOptions::default() };
        let mut file = Vec::new();
        train(examples, &options, |_, _| ()).unwrap().write(&mut file).unwrap();
        file
    };
    assert_eq!(bytes(&examples()), bytes(&inside.collect::<Vec<_>>()));
}

#[test]
fn examples_and_options_that_cannot_be_used_are_refused() {
    let refused = |examples: &[Example], options: ClassifierOptions| {
        train(examples, &options, |_, _| ()).unwrap_err().to_string()
    };
    let options = ClassifierOptions::default;
    assert!(refused(&[], options()).contains("two labels"));
    let one = Example { labels: vec!["a".to_owned()], text: "x".to_owned() };
    assert!(refused(std::slice::from_ref(&one), options()).contains("two labels"));
    let spaced = Example { labels: vec!["a b".to_owned()], ..one.clone() };
    assert!(refused(&[spaced], options()).contains("white space"));
    for wrong in [
        ClassifierOptions { dimensions: 0, ..options() },
        ClassifierOptions { epochs: 0, ..options() },
        ClassifierOptions { word_ngrams: 0, ..options() },
        ClassifierOptions { longest: 101, ..options() },
        ClassifierOptions { shortest: 3, longest: 2, ..options() },
        ClassifierOptions { word_ngrams: 2, buckets: 0, ..options() },
    ] {
        assert!(refused(&examples(), wrong.clone()).contains("between"), "{wrong:?}");
    }
    for rate in [0.0, -1.0, f32::NAN] {
        assert!(
            refused(&examples(), ClassifierOptions { learning_rate: rate, ..options() }).contains("above 0")
        );
    }
}
