use super::tests::with;
use super::*;
use thimble_runtime::format::{LayerPattern, RopeParameters, RopeScaling};

const LLAMA3: &str = "model.rope_scaling={kind='llama3', factor=8, original_context=8192}";
const YARN: &str = "model.rope_scaling={kind='yarn', factor=4.0, original_context=32768}";

#[test]
fn a_model_that_no_format_can_hold_is_refused_at_once() {
    let four = "model.pattern={ period = 4, no_rope = [3] }";
    for (sets, key) in [
        (&["model.layers=9000000000000000000", four][..], "model.layers"),
        (&["model.layers=999999999", four], "model.layers"),
        (&["model.rope_theta=0.5"], "model"),
        (&["model.rms_norm_eps=1.5"], "model"),
        (&["stages.0.rope_theta=0.5"], "stages.0.rope_theta"),
        (
            &[
                "model.rope_scaling={ kind = \"yarn\", factor = 2.0, original_context = 64 }",
                "stages.0.rope_theta=1",
            ],
            "stages.0.rope_theta",
        ),
    ] {
        let error = with(sets).unwrap_err();
        assert!(error.faults.iter().any(|fault| fault.key == key), "{sets:?}: {error}");
    }
}

#[test]
fn options_give_a_config() {
    let recipe = with(&[
        LLAMA3,
        "model.layers=8",
        "model.window=16",
        "model.pattern={period=4, no_rope=[3], sliding=[0, 1, 2]}",
    ])
    .unwrap();
    let config = recipe.model.config();
    config.check().unwrap();
    assert_eq!(config.window, 16);
    assert!(with(&["model.qkv_bias=true"]).unwrap().model.config().qkv_bias);
    assert!(with(&["model.qk_norm=true"]).unwrap().model.config().qk_norm);
    for layer in 0..8 {
        let options = config.layer(layer);
        let fourth = layer % 4 == 3;
        assert_eq!((options.rope, options.window), (!fourth, (!fourth).then_some(16)));
    }
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    assert_eq!(config.rope, RopeParameters { theta: 1e4, scaling });
    assert_eq!(TrainingRecipe::parse(&recipe.to_toml().unwrap(), "again", &[]).unwrap(), recipe);

    let yarn = with(&[YARN, "model.window=16", "stages.0.rope_theta=5e5"]).unwrap();
    let RopeScaling::Yarn { attention_factor, beta_fast, truncate: true, .. } = yarn.config(0).rope.scaling
    else {
        panic!("{yarn:?}");
    };
    assert!((attention_factor - 1.138_629_4).abs() < 1e-6 && beta_fast == 32.0);
    assert_eq!((yarn.config(0).rope.theta, yarn.model.config().rope.theta), (5e5, 1e4));
    assert!(yarn.model.config().pattern.is_sliding(1));
    assert_eq!(TrainingRecipe::parse(&yarn.to_toml().unwrap(), "again", &[]).unwrap(), yarn);
}

#[test]
fn a_plain_model_is_written_as_ever() {
    let recipe = with(&[]).unwrap();
    let config = recipe.model.config();
    assert_eq!((config.version(), config.pattern), (1, LayerPattern::PLAIN));
    let text = toml::to_string(&recipe.model).unwrap();
    for key in ["rope_scaling", "qkv_bias", "qk_norm", "window", "pattern"] {
        assert!(!text.contains(key), "{key}: {text}");
    }
}

#[test]
fn options_that_cannot_be_are_refused_by_name() {
    let nan = "model.rope_scaling={kind='linear', factor=nan}";
    for (sets, key, what) in [
        (&[nan][..], "model.rope_scaling.factor", "found NaN"),
        (&["model.rope_scaling={kind='linear', factor=inf}"], "model.rope_scaling.factor", "found inf"),
        (&["model.rope_scaling={kind='linear', factor=0.5}"], "model.rope_scaling.factor", "found 0.5"),
        (&["model.rope_scaling={kind='dynamic', factor=2}"], "model.rope_scaling", "dynamic"),
        (
            &[LLAMA3, "model.rope_scaling.low_freq_factor=4"],
            "model.rope_scaling.high_freq_factor",
            "more than low_freq_factor = 4",
        ),
        (&[YARN, "model.rope_scaling.beta_slow=64"], "model.rope_scaling.beta_fast", "expected 64"),
        (&[YARN, "model.rope_scaling.original_context=0"], "model.rope_scaling.original_context", "found 0"),
        (&[YARN, "model.rope_theta=1"], "model.rope_theta", "for YaRN"),
        (&["model.window=0"], "model.window", "found 0"),
        (&["model.pattern={period=2, sliding=[0]}"], "model.window", "found none"),
        (&["model.window=8", "model.pattern={period=2, no_rope=[0]}"], "model.pattern.sliding", "found none"),
        (&["model.pattern={period=2, no_rope=[2]}"], "model.pattern.no_rope", "found 2"),
        (&["model.pattern={period=0}"], "model.pattern.period", "found 0"),
        (&["model.qkv_bias=true", "model.qk_norm=true"], "model", "biases of query, key and value"),
        (&["model.pattern={period=65}"], "model.pattern.period", "at most 64"),
    ] {
        let faults = with(sets).unwrap_err().faults;
        let found = faults.iter().any(|fault| fault.key == key && fault.what.contains(what));
        assert!(found, "{sets:?}: {faults:?}");
    }
}
