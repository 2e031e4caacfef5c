//! Adapters: the logits of a model with `W + weight * scale * B A` for each adapted matrix, in f64, and the same bits however
//! a text is cut.

use super::random_adapter::{RandomAdapter, Recipe};
use super::*;
use crate::adapter::{AdapterError, AdapterRecord, AdapterSet, WeightedAdapter};
use crate::format::{Encoding, TensorRole};
use crate::kernels::tests::all;
use crate::session::Session;

const ALL: &[TensorRole] = &AdapterRecord::ROLES;

fn config() -> Config {
    Config { heads: 4, kv_heads: 2, head_dim: 6, qkv_bias: true, ffn: 40, ..BASE }
}

fn recipe(seed: u64) -> Recipe<'static> {
    Recipe { encoding: Encoding::F32, ranks: &[3, 1, 20, 16], roles: ALL, seed }
}

/// Logits after each token, with adapters.
fn logits(
    setup: Setup,
    model: &RandomModel,
    kernels: Kernels,
    (tokens, adapters): (&[usize], &[(&RandomAdapter, f32)]),
) -> Vec<f32> {
    setup.with_cpu_and_adapters(model, kernels, adapters, |mut cpu| run(&mut cpu, &ids(tokens), 0))
}

#[test]
#[cfg_attr(miri, ignore = "takes hours there")]
fn adapters_add_low_rank_products_to_their_matrices() {
    let model = RandomModel::new(config(), 51);
    let tokens = tokens(90, 52);
    let plain = naive::logits(&model, &tokens);
    for encoding in AdapterRecord::ENCODINGS {
        let whole = RandomAdapter::new(&config(), &Recipe { encoding, ..recipe(53) });
        let some = [TensorRole::Value, TensorRole::Output, TensorRole::Up];
        let part = RandomAdapter::new(&config(), &Recipe { encoding, ranks: &[8], roles: &some, seed: 54 });
        for adapters in [vec![(&whole, 1.0)], vec![(&part, 1.5)], vec![(&whole, 0.5), (&part, -0.25)]] {
            let expected = naive::logits(&model.merged(&adapters), &tokens);
            let moved = distance(&plain, &expected);
            assert!(moved > 0.1, "the adapters change the logits by {moved}");
            for kernels in all() {
                let setup = Setup { context: 90, batch: 40, ..Setup::EXACT };
                let found: Vec<f64> = logits(setup, &model, kernels, (&tokens, &adapters))
                    .iter()
                    .map(|x| f64::from(*x))
                    .collect();
                let off = distance(&found, &expected);
                assert!(off < 2e-5, "{kernels:?} {encoding:?}: {off}");
            }
        }
    }
}

/// Largest difference, relative to the largest logit.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    found.iter().zip(expected).fold(0.0f64, |a, (f, e)| a.max((f - e).abs())) / size
}

#[test]
#[cfg_attr(miri, ignore = "takes hours there")]
fn the_cut_of_a_text_and_the_number_of_threads_do_not_matter() {
    let model = RandomModel::new(config(), 55);
    let tokens = tokens(130, 56);
    let first = RandomAdapter::new(&config(), &recipe(57));
    let second = RandomAdapter::new(&config(), &Recipe { encoding: Encoding::F16, ..recipe(58) });
    let adapters = [(&first, 1.0), (&second, 0.5)];
    for kernels in all() {
        for (kv, exact) in [(KvKind::F32, true), (KvKind::F16, false), (KvKind::Q8, false)] {
            let setup = Setup { context: 130, batch: 130, kv, exact, threads: 1 };
            let expected = bits(&logits(setup, &model, kernels, (&tokens, &adapters)));
            for (batch, threads) in [(1, 1), (1, 3), (7, 2), (17, 4), (33, 1), (130, 5)] {
                let found = logits(Setup { batch, threads, ..setup }, &model, kernels, (&tokens, &adapters));
                assert!(bits(&found) == expected, "{kernels:?} {kv:?} batch {batch}, {threads} threads");
            }
        }
    }
}

#[test]
fn weight_zero_is_the_model_and_weights_add_up() {
    let model = RandomModel::new(config(), 61);
    let tokens = tokens(24, 62);
    let adapter = RandomAdapter::new(&config(), &recipe(63));
    let kernels = Kernels::scalar();
    for exact in [true, false] {
        let setup = Setup { context: 24, batch: 9, exact, ..Setup::EXACT };
        let with = |weights: &[f32]| {
            let adapters: Vec<_> = weights.iter().map(|weight| (&adapter, *weight)).collect();
            logits(setup, &model, kernels, (&tokens, &adapters))
        };
        let plain = bits(&setup.logits(&model, kernels, &tokens));
        assert!(
            bits(&with(&[])) == plain && bits(&with(&[0.0])) == plain && bits(&with(&[0.0, 0.0])) == plain
        );
        let one = with(&[1.0]);
        assert!(bits(&one) != plain);
        assert!(bits(&with(&[0.0, 1.0])) == bits(&one));
        let [one, halves, opposed] = [one, with(&[0.5, 0.5]), with(&[1.0, 0.75, -0.75])]
            .map(|x| x.iter().map(|x| f64::from(*x)).collect());
        let (one, halves, opposed): (Vec<f64>, Vec<f64>, Vec<f64>) = (one, halves, opposed);
        let bound = if exact { 1e-5 } else { 2e-3 };
        assert!(distance(&halves, &one) < bound && distance(&opposed, &one) < bound);
    }
}

#[test]
fn sessions_of_one_model_have_adapters_of_their_own() {
    let model = RandomModel::new(config(), 71);
    let tokens = ids(&tokens(20, 72));
    let [first, second] = [73, 74].map(|seed| RandomAdapter::new(&config(), &recipe(seed)));
    let kernels = Kernels::scalar();
    let setup = Setup { context: 40, batch: 8, ..Setup::EXACT };
    let alone = |adapters: &[(&RandomAdapter, f32)]| {
        setup.with_cpu_and_adapters(&model, kernels, adapters, |cpu| {
            let mut session = Session::new(cpu);
            session.prefill(&tokens).unwrap();
            bits(session.tokens_and_logits().1)
        })
    };
    let expected = [alone(&[(&first, 1.0)]), alone(&[(&second, 0.5)]), alone(&[])];
    assert!(expected[0] != expected[1] && expected[1] != expected[2] && expected[0] != expected[2]);
    setup.with_cpu_and_adapters(&model, kernels, &[(&first, 1.0)], |a| {
        setup.with_cpu_and_adapters(&model, kernels, &[(&second, 0.5)], |b| {
            let (mut a, mut b) = (Session::new(a), Session::new(b));
            for token in &tokens {
                a.prefill(&[*token]).unwrap();
                b.prefill(&[*token]).unwrap();
            }
            assert!(bits(a.tokens_and_logits().1) == expected[0]);
            assert!(bits(b.tokens_and_logits().1) == expected[1]);
        });
    });
    // One session, with one after the other.
    setup.with_cpu_and_adapters(&model, kernels, &[(&first, 1.0)], |cpu| {
        let mut session = Session::new(cpu);
        let sets = [
            vec![WeightedAdapter { file: second.file(), weight: 0.5 }],
            vec![],
            vec![WeightedAdapter { file: first.file(), weight: 1.0 }],
        ];
        for (set, expected) in sets.iter().zip([1, 2, 0].map(|index| &expected[index])) {
            session.prefill(&tokens[..7]).unwrap();
            session.reconfigure(|cpu| cpu.set_adapters(set)).unwrap();
            assert_eq!(session.position(), 0);
            assert!(session.tokens_and_logits().1.is_empty());
            session.prefill(&tokens).unwrap();
            assert!(bits(session.tokens_and_logits().1) == *expected);
        }
    });
}

#[test]
fn what_a_session_cannot_have_is_refused() {
    let model = RandomModel::new(config(), 81);
    let adapter = RandomAdapter::new(&config(), &recipe(82));
    let other = |change: Config, expected: &str| {
        let other = RandomAdapter::new(&change, &recipe(83));
        let error = other.file().check_base(&model.file()).unwrap_err();
        assert!(std::format!("{error}").contains(expected), "{error}");
    };
    other(Config { layers: 3, ..config() }, "a model of 3 layers, this one has 2");
    other(Config { ffn: 41, ..config() }, "gate matrix of layer 0 is 41 x 20, this model's 40 x 20");
    other(Config { kv_heads: 4, ..config() }, "key matrix of layer 0 is 24 x 20, this model's 12 x 20");
    assert_eq!(adapter.file().check_base(&model.file()), Ok(()));

    let setup = Setup { context: 8, batch: 4, ..Setup::EXACT };
    let kernels = Kernels::scalar();
    let one = WeightedAdapter { file: adapter.file(), weight: 1.0 };
    let bad = RandomAdapter::new(&Config { layers: 3, ..config() }, &recipe(84));
    setup.with_cpu_and_adapters(&model, kernels, &[(&adapter, 1.0)], |mut cpu| {
        let id = cpu.adapters().id();
        let many = [one; AdapterSet::MAX + 1];
        assert_eq!(cpu.set_adapters(&many), Err(AdapterError::TooMany { found: 9, limit: 8 }));
        let infinite = WeightedAdapter { weight: f32::INFINITY, ..one };
        assert_eq!(cpu.set_adapters(&[infinite]), Err(AdapterError::Weight { found: f32::INFINITY }));
        let bad = WeightedAdapter { file: bad.file(), weight: 1.0 };
        assert_eq!(cpu.set_adapters(&[one, bad]), Err(AdapterError::Layers { expected: 3, found: 2 }));
        assert_eq!(cpu.adapters().id(), id, "the adapters are as before");
        assert_eq!(cpu.set_adapters(&many[1..]), Ok(()));
        assert_ne!(cpu.adapters().id(), id);
        assert_eq!(cpu.set_adapters(&[WeightedAdapter { weight: 0.0, ..one }]), Ok(()));
        assert!(cpu.adapters().is_empty() && cpu.adapters().id() == 0);
    });
    setup.with_cpu(&model, kernels, |mut cpu| {
        assert_eq!(cpu.set_adapters(&[one]), Err(AdapterError::Rank { found: 20, planned: 0 }));
    });
}
