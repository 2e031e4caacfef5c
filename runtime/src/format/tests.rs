//! RoPE's scaling against transformers, and configurations with bad options.

use super::{Config, FormatError, LayerPattern, RopeParameters, RopeScaling};
use std::vec;

const LLAMA3: RopeScaling =
    RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
const YARN: RopeScaling = RopeScaling::Yarn {
    factor: 4.0,
    original_context: 32_768,
    beta_fast: 32.0,
    beta_slow: 1.0,
    attention_factor: 1.138_629_4,
    truncate: true,
};

/// Theta, head dimension, scaling, and some of the frequencies with their indices.
type Frequencies = (f32, usize, RopeScaling, &'static [(usize, f64)]);

/// `ROPE_INIT_FUNCTIONS` of transformers 5.24.
#[rustfmt::skip]
const TRANSFORMERS: [Frequencies; 9] = [
    (10_000.0, 64, RopeScaling::Linear { factor: 2.5 },
        &[(0, 0.4), (1, 2.999576926e-1), (5, 9.485494345e-2), (10, 2.249365114e-2), (17, 2.999576973e-3), (31, 5.334086018e-5)]),
    (500.0, 6, RopeScaling::Linear { factor: 4.0 }, &[(0, 0.25), (1, 3.149802610e-2), (2, 3.968502395e-3)]),
    (500_000.0, 64, LLAMA3,
        &[(0, 1.0), (8, 3.760603070e-2), (15, 1.290548011e-3), (16, 4.295567051e-4), (17, 9.708286234e-5), (21, 5.687232260e-6), (31, 9.418306490e-8)]),
    (10_000.0, 34, RopeScaling::Llama3 { factor: 3.7, low_freq_factor: 1.5, high_freq_factor: 5.25, original_context: 100 },
        &[(0, 1.0), (2, 3.383855224e-1), (4, 3.813094273e-2), (5, 1.800228469e-2), (7, 6.091712974e-3), (9, 2.061346779e-3), (16, 4.646140951e-5)]),
    (1_000_000.0, 128, YARN,
        &[(0, 1.0), (16, 3.162277862e-2), (31, 8.029597811e-4), (32, 6.029411452e-4), (42, 2.886954826e-5), (63, 3.102344408e-7)]),
    (10_000.0, 64, RopeScaling::Yarn { factor: 3.3, original_context: 2048, beta_fast: 20.0, beta_slow: 2.0, attention_factor: 1.119_392_2, truncate: false },
        &[(0, 1.0), (8, 1.000000015e-1), (10, 5.474948138e-2), (15, 7.174249273e-3), (16, 4.508715123e-3), (17, 2.727742773e-3), (24, 3.030303051e-4), (31, 4.040974090e-5)]),
    (5000.0, 34, RopeScaling::Yarn { factor: 8.5, original_context: 100, beta_fast: 32.0, beta_slow: 1.0, attention_factor: 0.75, truncate: true },
        &[(0, 1.0), (1, 5.168120265e-1), (2, 2.591548860e-1), (4, 5.550131202e-2), (5, 2.161878161e-2), (8, 2.137417207e-3), (16, 3.883269528e-5)]),
    (10_000.0, 80, RopeScaling::Yarn { factor: 16.0, original_context: 4096, beta_fast: 32.0, beta_slow: 1.0, attention_factor: 0.936_397_5, truncate: false },
        &[(0, 1.0), (10, 1.000000015e-1), (13, 5.011872575e-2), (19, 7.955245674e-3), (21, 4.029907752e-3), (26, 4.920898937e-4), (39, 7.868282410e-6)]),
    // The end of its range is before the start.
    (150_000.0, 6, RopeScaling::Yarn { factor: 2.0, original_context: 7, beta_fast: 32.0, beta_slow: 1.0, attention_factor: 1.069_314_7, truncate: true },
        &[(0, 1.0), (1, 9.410358965e-3), (2, 1.771097304e-4)]),
];

#[test]
fn frequencies_are_those_of_transformers() {
    for (theta, dim, scaling, expected) in TRANSFORMERS {
        let rope = RopeParameters { theta, scaling };
        rope.check().unwrap();
        let mut found = vec![0.0; dim / 2];
        rope.inverse_frequencies(&mut found);
        for &(i, expected) in expected {
            let error = (f64::from(found[i]) - expected).abs() / expected;
            assert!(error <= 1e-6, "{rope:?} at {i}: {} for {expected}", found[i]);
        }
    }
}

#[test]
fn the_attention_factor_scales_cosine_and_sine() {
    let rope = RopeParameters { theta: 10_000.0, scaling: YARN };
    let plain = RopeParameters::new(10_000.0);
    for position in [0, 1, 77, 40_000] {
        let [cos, sin] = plain.rotation(position, 0.01);
        assert_eq!(rope.rotation(position, 0.01), [cos * 1.138_629_4, sin * 1.138_629_4]);
    }
}

/// The section of a configuration with some words replaced.
fn patched(config: &Config, words: &[(usize, u32)]) -> [u8; Config::LEN] {
    let mut bytes = config.emit();
    for (index, word) in words {
        bytes[index * 4..][..4].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

#[test]
fn options_are_read_as_written() {
    let pattern = LayerPattern::new(6, |layer| (layer % 3 != 2, layer % 2 == 0)).unwrap();
    for scaling in TRANSFORMERS.map(|(_, _, scaling, _)| scaling).into_iter().chain([RopeScaling::None]) {
        let rope = RopeParameters { theta: 5e5, scaling };
        let config =
            Config { rope, layers: 6, qkv_bias: true, qk_norm: true, window: 77, pattern, ..Config::PLAIN };
        assert_eq!(config.version(), 2);
        assert_eq!(Config::parse(&config.emit(), 2), Ok(config));
        assert_eq!(
            Config::parse(&config.emit(), 1).unwrap_err(),
            FormatError::Reserved { kind: super::SectionKind::Config }
        );
    }
    assert_eq!(Config::PLAIN.version(), 1);
}

#[test]
fn bad_options_are_rejected() {
    let sliding = LayerPattern::new(3, |layer| (true, layer != 2)).unwrap();
    let windowed = Config { layers: 3, window: 64, pattern: sliding, ..Config::PLAIN };
    let with = |scaling| Config { rope: RopeParameters { theta: 1e4, scaling }, ..Config::PLAIN };
    let bits = f32::to_bits;
    let not_numbers = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -2.0, 0.5, 2e6].map(bits);
    let factors = not_numbers.map(|word| [(21, word)]);
    for config in [with(RopeScaling::Linear { factor: 2.0 }), with(LLAMA3), with(YARN)] {
        assert_eq!(Config::parse(&config.emit(), 2), Ok(config));
        for words in &factors {
            assert!(Config::parse(&patched(&config, words), 2).is_err(), "{words:?}");
        }
    }
    let not_positive = [f32::NAN, f32::INFINITY, 0.0, -1.0].map(bits);
    let beta = |index: usize| not_positive.map(|word| (index, word));
    for word in [beta(23), beta(24)].concat() {
        assert!(Config::parse(&patched(&with(LLAMA3), &[word]), 2).is_err(), "{word:?}");
        assert!(Config::parse(&patched(&with(YARN), &[word]), 2).is_err(), "{word:?}");
    }
    for word in beta(25) {
        assert!(Config::parse(&patched(&with(YARN), &[word]), 2).is_err(), "{word:?}");
    }
    type Case<'a> = (&'a str, Config, &'a [(usize, u32)]);
    let cases: [Case<'_>; 17] = [
        ("no window in layers with one", windowed, &[(26, 0)]),
        ("a window too long", windowed, &[(26, (1 << 20) + 1)]),
        ("a window without layers", windowed, &[(27, 0), (30, 0)]),
        ("a period of 65", windowed, &[(27, 65)]),
        ("the greatest period", windowed, &[(27, u32::MAX)]),
        ("a period of 0 with a mask", windowed, &[(27, 0)]),
        ("bits behind the period", windowed, &[(30, 0xff)]),
        ("high bits behind the period", windowed, &[(31, 1)]),
        ("a period that is not the shortest", windowed, &[(27, 2), (30, 3)]),
        ("an unknown scaling", Config::PLAIN, &[(20, 5)]),
        ("words of no scaling", Config::PLAIN, &[(21, bits(2.0))]),
        ("a word that linear scaling lacks", with(RopeScaling::Linear { factor: 2.0 }), &[(22, 8)]),
        ("no context of pretraining", with(LLAMA3), &[(22, 0)]),
        ("a context of pretraining too long", with(YARN), &[(22, u32::MAX)]),
        ("equal frequency factors", with(LLAMA3), &[(23, bits(4.0))]),
        ("betas the wrong way round", with(YARN), &[(23, bits(1.0)), (24, bits(32.0))]),
        ("theta 1 with YaRN", with(YARN), &[(8, bits(1.0))]),
    ];
    for (what, config, words) in cases {
        let found = Config::parse(&patched(&config, words), 2);
        assert!(found.is_err(), "{what}: {found:?}");
        assert!(Config::parse(&patched(&config, words), 1).is_err(), "{what} in version 1");
    }
    for flags in [2, 4, 6, 8, 1 << 31] {
        assert!(Config::parse(&patched(&Config::PLAIN, &[(10, flags)]), 1).is_err(), "flags {flags}");
    }
    assert!(Config::parse(&patched(&Config::PLAIN, &[(10, 8)]), 2).is_err());
    // Any word in any place: an error or a configuration, never a panic.
    let words =
        [0, 1, 2, 3, 4, 63, 64, 65, 1 << 20, u32::MAX, bits(1.5), bits(f32::NAN), bits(f32::MIN_POSITIVE)];
    for config in [windowed, with(LLAMA3), with(YARN), Config::PLAIN] {
        for (first, second) in (0..32).flat_map(|a| (a..32).map(move |b| (a, b))) {
            for word in words {
                let bytes = patched(&config, &[(first, word), (second, word)]);
                if let Ok(config) = Config::parse(&bytes, 2) {
                    assert_eq!(config.emit(), bytes);
                    let mut frequencies = vec![0.0; config.head_dim / 2];
                    config.rope.inverse_frequencies(&mut frequencies);
                    assert!((0..config.layers).all(|layer| config.layer(layer).window != Some(0)));
                }
            }
        }
    }
}
