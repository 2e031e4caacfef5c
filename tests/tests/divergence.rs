//! The divergence of tiny models: against numbers computed by numpy (tests/golden/model.py), and between models
//! that cannot be compared.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]
#![allow(dead_code, reason = "the golden models have more to them")]

#[path = "model/golden.rs"]
mod golden;
mod tiny;

use conformance::converted;
use golden::{Golden, Grid};
use serde_json::Value;
use std::path::Path;
use thimble_converter::{BlockType, Quant};
use thimble_eval::divergence::{Divergence, DivergenceError, Pair, divergence};
use thimble_files::MappedModel;
use thimble_host::InferenceSettings;
use thimble_runtime::Token;
use tiny::{Folder, ODD, Shape, float_bytes};

/// The model, and one whose matrices lie on a coarser grid.
fn models(golden: &Golden, at: &Path) -> [MappedModel; 2] {
    let folder = |coarse: bool| {
        let mut folder = golden.folder(Grid::Bytes);
        for (_, _, shape, bytes) in folder.tensors.iter_mut().filter(|t| coarse && t.2.len() == 2) {
            let number = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
            let coarse = |b| (number(b) * 512.0 / 3.0).floor() * 3.0 / 512.0;
            let numbers: Vec<f32> = bytes.chunks_exact(4).map(coarse).collect();
            assert_eq!(numbers.len(), shape.iter().product::<usize>());
            *bytes = float_bytes(BlockType::F32, &numbers);
        }
        folder
    };
    [false, true].map(|coarse| {
        folder(coarse).write(at, 1);
        converted(at, &at.join(format!("{coarse}.thimble")), Quant::F32).0
    })
}

fn compare(
    [reference, model]: &[MappedModel; 2],
    windows: &[&[Token]],
    exact: bool,
) -> Result<Divergence, DivergenceError> {
    let pair = Pair { adapters: &[], model: model.file().unwrap(), reference: reference.file().unwrap() };
    let settings = InferenceSettings { exact, threads: Some(2), ..InferenceSettings::default() };
    let mut steps = Vec::new();
    let found = divergence(pair, windows, &settings, &mut |done| steps.push(done));
    if found.is_ok() {
        assert_eq!(steps, (1..=windows.len()).collect::<Vec<_>>());
    }
    found
}

#[test]
fn golden_divergence() {
    let expected: Value = serde_json::from_str(include_str!("../golden/divergence.json")).unwrap();
    for golden in golden::all() {
        let at = tempfile::tempdir().unwrap();
        let tokens = golden.tokens();
        let (first, second) = tokens.split_at(40);
        let found = compare(&models(&golden, at.path()), &[first, second], true).unwrap();
        let found = serde_json::to_value(found).unwrap();
        let expected = &expected[&golden.name];
        let fields = ["positions", "top_1_agreement", "perplexity", "reference_perplexity"];
        let fields = fields.into_iter().chain(["log_probability_difference"]);
        let fields = fields.map(|field| (field, &found[field], &expected[field]));
        let kl = expected["kl"].as_object().unwrap();
        let kl = kl.iter().map(|(field, value)| (field.as_str(), &found["kl"][field], value));
        for (field, found, expected) in fields.chain(kl) {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            // f32 forward passes against float64.
            let close = (found - expected).abs() < 2e-5 * expected.max(1.0);
            assert!(close, "{}, {field}: {found}, expected {expected}", golden.name);
        }
    }
}

#[test]
fn a_model_does_not_diverge_from_itself_and_little_on_the_fast_path() {
    let golden = golden::all().remove(0);
    let at = tempfile::tempdir().unwrap();
    let [reference, _] = models(&golden, at.path());
    let quick = converted(at.path(), &at.path().join("q8.thimble"), Quant::Q8).0;
    let tokens = golden.tokens();
    let same = [reference, MappedModel::read(&at.path().join("false.thimble")).unwrap()];
    let found = compare(&same, &[&tokens], true).unwrap();
    assert_eq!((found.kl.mean, found.kl.maximum, found.top_1_agreement), (0.0, 0.0, 1.0));
    assert_eq!(found.log_probability_difference, 0.0);
    let [reference, _] = same;
    // What was converted last in that folder is the coarse model.
    let found = compare(&[reference, quick], &[&tokens], false).unwrap();
    assert!(found.kl.mean > 1e-4, "{found:?}");
}

#[test]
fn models_that_cannot_be_compared_are_refused() {
    let at = tempfile::tempdir().unwrap();
    let model = |name: &str, change: &dyn Fn(&mut Folder)| {
        let mut folder = Folder::new(ODD, BlockType::F32);
        change(&mut folder);
        folder.write(at.path(), 1);
        converted(at.path(), &at.path().join(name), Quant::Keep).0
    };
    let plain = || model("plain.thimble", &|_| {});
    let tokens: Vec<Token> = (3..40).map(Token).collect();
    let refused = |other: MappedModel, windows: &[&[Token]]| {
        compare(&[plain(), other], windows, true).unwrap_err().to_string()
    };

    let larger =
        model("larger.thimble", &|folder| *folder = Folder::new(Shape { vocab: 310, ..ODD }, BlockType::F32));
    let sentence = refused(larger, &[&tokens]);
    assert!(sentence.contains("310") && sentence.contains("300"), "{sentence}");

    let renamed = model("renamed.thimble", &|folder| {
        folder.tokenizer["added_tokens"][1]["content"] = "<|start|>".into();
        let vocab = folder.tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove("<|im_start|>").unwrap();
        vocab.insert("<|start|>".into(), id);
    });
    let sentence = refused(renamed, &[&tokens]);
    assert!(sentence.contains("<|start|>") && sentence.contains("token 1 "), "{sentence}");

    let broken = model("broken.thimble", &|folder| {
        // Finite weights whose products are not.
        let huge = f32::MAX.to_le_bytes();
        folder.tensors[1].3.chunks_exact_mut(4).for_each(|number| number.copy_from_slice(&huge));
        folder.tensors[3].3.chunks_exact_mut(4).for_each(|number| number.copy_from_slice(&huge));
    });
    let sentence = refused(broken, &[&tokens]);
    assert!(sentence.contains("the model are not finite in window 0, token 1"), "{sentence}");

    for windows in [&[][..], &[&tokens[..1]], &[&tokens, &tokens[..0]]] {
        assert!(matches!(compare(&[plain(), plain()], windows, true), Err(DivergenceError::NoWindows)));
    }
    let unknown = [Token(5), Token(299), Token(300)];
    assert!(matches!(compare(&[plain(), plain()], &[&unknown], true), Err(DivergenceError::Session(_))));
    let long = vec![Token(5); 513];
    assert!(matches!(compare(&[plain(), plain()], &[&long], true), Err(DivergenceError::Plan(_))));
}
