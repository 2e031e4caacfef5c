//! Runs that begin with a given model: adapters, frozen parts, and what their checkpoints and exports hold.

use crate::setup::{TestFolder, assert_same_run, copy, refused, succeeds, wait_for};
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;
use thimble_converter::write_gguf::{GgufType, write_gguf};
use thimble_converter::{ConversionOptions, Quant, convert};
use thimble_trainer::base;
use thimble_trainer::export::read_model;
use thimble_trainer::model::Parameters;
use thimble_trainer::recipe::TrainingRecipe;

const SHORT: [&str; 4] = ["--set", "stages.0.length={steps=12}", "--set", "stages.1.length={steps=12}"];

/// A test folder with a trained model in `base`, whose weights are random but not zero anywhere.
fn with_base() -> TestFolder {
    let test = TestFolder::new();
    let quick = ["--set", "stages.0.length={steps=6}", "--set", "stages.1.length={steps=2}", "--quiet"];
    succeeds(test.pretrain("first", &quick));
    succeeds(test.command(&["export", "first", "-o", "base"]));
    test
}

/// Names and numbers of a safetensors file.
fn tensors(path: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> =
        file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    tensors.sort();
    tensors
}

#[test]
fn adapters_resume_exactly_and_only_on_their_base() {
    let test = with_base();
    let tune = ["--set", "init_from=base", "--set", "adapter={rank=4}", "--quiet"];
    let tune = [&SHORT[..], &tune].concat();
    succeeds(test.pretrain("whole", &tune));
    for (steps, threads) in [(3, "1"), (9, "2"), (17, "3")] {
        let more = [&tune[..], &["--resume", "--threads", threads]].concat();
        let mut child = test.pretrain("killed", &more).spawn().unwrap();
        assert!(wait_for(&mut child, || test.steps("killed") >= steps), "it ended before step {steps}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    succeeds(test.pretrain("killed", &[&tune[..], &["--resume"]].concat()));
    assert_same_run(&test, "whole", "killed");

    let last = test.newest("whole").unwrap();
    let checkpoint = test.path("whole").join("checkpoints").join(&last);
    let names = tensors(&checkpoint.join("model.safetensors"));
    assert_eq!(names.len(), 2 * 7 * 2, "A and B of seven matrices in two layers");
    assert!(names.iter().all(|(name, _)| name.starts_with("base_model.model.model.layers.")), "{names:?}");
    let moments = fs::metadata(checkpoint.join("optimizer.safetensors")).unwrap().len();
    assert!(moments < 2 * 4 * 10_000, "moments of the adapters alone, found {moments} bytes");

    succeeds(test.command(&["export", "whole", "--checkpoint", "last", "-o", "merged"]));
    let (config, merged) = read_model(&test.path("merged")).unwrap();
    let (_, base) = read_model(&test.path("base")).unwrap();
    assert_eq!(merged.len(), base.len());
    assert!(merged != base && config.layers == 2);
    succeeds(test.command(&["export", "whole", "--checkpoint", "last", "--adapter", "-o", "adapter"]));
    assert_eq!(tensors(&test.path("adapter/adapter_model.safetensors")), names);
    let from = "adapter={rank=4, from=\"adapter\"}";
    let again = [&SHORT[..], &["--set", "init_from=base", "--set", from, "--quiet"]].concat();
    succeeds(test.pretrain("again", &again));
    let said = refused(test.command(&["export", "first", "--adapter", "-o", "none"]), 2);
    assert!(said.contains("trains the model itself"), "{said}");

    // Another base of the same shape.
    succeeds(test.pretrain("other", &[&SHORT[..], &["--set", "seed=4", "--quiet"]].concat()));
    copy(&test.path("base"), &test.path("kept"));
    fs::remove_dir_all(test.path("base")).unwrap();
    succeeds(test.command(&["export", "other", "-o", "base"]));
    fs::remove_dir_all(test.path("killed/checkpoints").join(&last)).unwrap();
    for (said, expected) in [
        (refused(test.pretrain("killed", &[&tune[..], &["--resume"]].concat()), 1), "other frozen weights"),
        (refused(test.pretrain("third", &again), 1), "other frozen weights"),
        (refused(test.command(&["export", "whole", "-o", "wrong"]), 1), "other frozen weights"),
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!test.path("wrong").exists());
}

#[test]
fn frozen_parts_stay_as_they_were() {
    let test = with_base();
    let freeze = r#"freeze=["embedding", "layers.0"]"#;
    let tune = [&SHORT[..], &["--set", "init_from=base", "--set", freeze, "--quiet"]].concat();
    succeeds(test.pretrain("run", &tune));
    succeeds(test.command(&["export", "run", "--checkpoint", "last", "-o", "tuned"]));
    let [base, tuned] = ["base", "tuned"].map(|folder| tensors(&test.path(folder).join("model.safetensors")));
    for ((name, before), (_, after)) in base.iter().zip(&tuned) {
        let frozen = name.contains("layers.0.") || name.contains("embed_tokens");
        assert_eq!(before == after, frozen, "{name}");
    }
    let said =
        refused(test.pretrain("none", &["--set", "init_from=base", "--set", r#"freeze=["layers.7"]"#]), 1);
    assert!(said.contains("\"layers.7\" names no tensor"), "{said}");
}

/// The whole model from a source of every container, its shape without a [model] table, and its own files in the export.
#[test]
fn a_run_takes_shape_weights_and_files_from_its_source() {
    let test = with_base();
    let config = test.path("base/config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["eos_token_id"] = serde_json::json!([2, 1]);
    fs::write(&config, json.to_string()).unwrap();
    let text = fs::read_to_string(test.path("recipe.toml")).unwrap();
    let (before, rest) = text.split_once("[model]").unwrap();
    let (_, after) = rest.split_once("[data.sets]").unwrap();
    let text = format!("{before}init_from = \"base\"\n[data.sets]{after}");
    let at_home = |text: &str| text.replace("\"base\"", &format!("{:?}", test.path("base")));
    let recipe = TrainingRecipe::parse(&at_home(&text), "recipe", &[]).unwrap();
    assert_eq!((recipe.model.hidden, recipe.model.vocab, recipe.model.kv_heads), (32, 300, 2));
    fs::write(test.path("recipe.toml"), &text).unwrap();
    // The same model in other containers, both in f32 as the source.
    let [thimble, gguf] = ["base.thimble", "base.gguf"].map(|name| test.path(name));
    let options = ConversionOptions { quant: Quant::Keep, ..ConversionOptions::default() };
    convert(&test.path("base"), &thimble, &options, &mut |_| {}).unwrap();
    let source = thimble_converter::read::open(&test.path("base")).unwrap();
    write_gguf(&source, &gguf, GgufType::Keep, &mut |_| {}).unwrap();
    let parameters = Parameters::of(&recipe).unwrap();
    let read = |path: &Path| {
        let init_from = Some(path.to_str().unwrap().to_owned());
        base::weights(&TrainingRecipe { init_from, ..recipe.clone() }, &parameters).unwrap()
    };
    let expected = read(&test.path("base"));
    assert!(read(&thimble) == expected && read(&gguf) == expected);
    let narrow = TrainingRecipe::parse(&at_home(&text), "recipe", &["model.ffn=32".to_owned()]).unwrap();
    let error = base::weights(&narrow, &Parameters::of(&narrow).unwrap()).unwrap_err().to_string();
    assert!(error.contains("gate_proj.weight is [48, 32], expected [32, 32]"), "{error}");
    // So low a learning rate leaves the source's weights.
    let still = ["--set", "stages.*.schedule={kind=\"constant\", peak=1e-30}", "--quiet"];
    let still = [&SHORT[..], &still].concat();
    succeeds(test.pretrain("run", &still));
    succeeds(test.command(&["export", "run", "--checkpoint", "last", "-o", "same"]));
    assert!(tensors(&test.path("same/model.safetensors")) == tensors(&test.path("base/model.safetensors")));
    let exported: serde_json::Value =
        serde_json::from_slice(&fs::read(test.path("same/config.json")).unwrap()).unwrap();
    assert_eq!(exported["eos_token_id"], serde_json::json!([2, 1, 0]), "and generation_config.json's");
    let said = refused(test.pretrain("none", &["--set", "init_from=nowhere"]), 2);
    assert!(said.contains("init_from: ") || said.contains("thimble pull nowhere"), "{said}");
}
