//! Every option and mixtures of them: the same logits as in f64, and the same bits however a text is cut.

use super::*;
use crate::format::{LayerPattern, RopeParameters, RopeScaling};
use crate::kernels::tests::all;

const LINEAR: RopeScaling = RopeScaling::Linear { factor: 2.5 };
const LLAMA3: RopeScaling =
    RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64 };
const YARN: RopeScaling = RopeScaling::Yarn {
    factor: 4.0,
    original_context: 100,
    beta_fast: 32.0,
    beta_slow: 1.0,
    attention_factor: 1.138_629_4,
    truncate: true,
};

/// A configuration of heads, key-value heads and head dimension.
fn heads(heads: usize, kv_heads: usize, head_dim: usize) -> Config {
    Config { heads, kv_heads, head_dim, ..BASE }
}

/// The layers without RoPE, and those with a sliding window.
fn pattern(layers: usize, no_rope: &[usize], sliding: &[usize]) -> LayerPattern {
    LayerPattern::new(layers, |layer| (!no_rope.contains(&layer), sliding.contains(&layer))).unwrap()
}

fn scaled(scaling: RopeScaling) -> RopeParameters {
    RopeParameters { theta: 5000.0, scaling }
}

/// Models with the tokens to run.
fn models() -> Vec<(&'static str, Config, usize)> {
    let both = Config { qkv_bias: true, qk_norm: true, ..BASE };
    vec![
        ("plain", heads(4, 2, 6), 150),
        ("bias", Config { qkv_bias: true, ..heads(4, 2, 6) }, 150),
        ("norms", Config { qk_norm: true, tied: false, ..heads(6, 2, 34) }, 210),
        ("no RoPE", Config { layers: 4, pattern: pattern(4, &[3], &[]), ..heads(3, 1, 80) }, 90),
        ("Llama 3", Config { rope: scaled(LLAMA3), ..heads(4, 4, 32) }, 300),
        ("YaRN", Config { rope: scaled(YARN), qk_norm: true, ..heads(2, 2, 64) }, 300),
        ("window 1", Config { window: 1, pattern: pattern(2, &[], &[0, 1]), ..heads(3, 1, 6) }, 130),
        (
            "window 5",
            Config { window: 5, pattern: pattern(2, &[1], &[0]), rope: scaled(LLAMA3), ..heads(3, 1, 34) },
            300,
        ),
        (
            "window 64, moves",
            Config { window: 64, layers: 3, pattern: pattern(3, &[], &[0, 1]), ..heads(6, 2, 6) },
            1600,
        ),
        (
            "window 600, mixed",
            Config {
                window: 600,
                pattern: pattern(2, &[0], &[1]),
                rope: scaled(YARN),
                heads: 3,
                head_dim: 34,
                ..both
            },
            1500,
        ),
        (
            "window 300, all layers",
            Config {
                window: 300,
                pattern: pattern(2, &[], &[0, 1]),
                rope: scaled(LINEAR),
                ..heads(2, 1, 80)
            },
            1300,
        ),
        (
            "window beyond the text",
            Config { window: 5000, pattern: pattern(2, &[], &[0, 1]), qkv_bias: true, ..heads(2, 1, 6) },
            700,
        ),
    ]
}

#[test]
#[cfg_attr(miri, ignore = "takes hours there")]
fn logits_of_every_option_match_f64() {
    for (name, config, count) in models() {
        let (model, tokens) = (RandomModel::new(config, 11), tokens(count, 12));
        let expected = naive::logits(&model, &tokens);
        let size = expected.iter().fold(0.0f64, |a, x| a.max(x.abs()));
        for kernels in all() {
            // Largest and mean difference, of the largest logit.
            for (kv, exact, bounds) in [
                (KvKind::F32, true, (4e-5, 1e-6)),
                (KvKind::F16, false, (2e-2, 5e-4)),
                (KvKind::Q8, false, (0.3, 8e-3)),
            ] {
                let setup = Setup { context: count, batch: 64, kv, exact, threads: 1 };
                let found = setup.logits(&model, kernels, &tokens);
                // NaNs must not get lost in a maximum.
                assert!(found.iter().all(|x| x.is_finite()), "{name} {kernels:?} {kv:?}");
                let differences = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs());
                let worst = differences.clone().fold(0.0, f64::max) / size;
                let mean = differences.sum::<f64>() / found.len() as f64 / size;
                let fits = worst <= bounds.0 && mean <= bounds.1;
                assert!(fits, "{name} {kernels:?} {kv:?}: {worst:e} at most, {mean:e} on average");
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes hours there")]
fn batches_and_threads_change_no_bit() {
    for (name, config, count) in models() {
        let (model, tokens) = (RandomModel::new(config, 21), tokens(count, 22));
        for kernels in all() {
            for kv in [KvKind::F32, KvKind::F16, KvKind::Q8] {
                let setup = Setup { context: count, kv, exact: kv == KvKind::F32, ..Setup::EXACT };
                let expected = bits(&setup.logits(&model, kernels, &tokens));
                for (batch, threads) in [(1, 3), (7, 1), (200, 4)] {
                    let setup = Setup { batch, threads, ..setup };
                    let same = bits(&setup.logits(&model, kernels, &tokens)) == expected;
                    assert!(same, "{name} {kernels:?} {setup:?}");
                }
            }
        }
    }
}
