//! Rewinds, transfers and memory of models with sliding windows.

use super::*;
use crate::format::LayerPattern;
use crate::kernels::CHUNK;
use crate::kernels::tests::all;
use crate::lookup::PromptLookup;
use crate::sampler::{Sampler, Sampling};
use crate::sequence::Sequence;
use crate::session::Session;

const KINDS: [KvKind; 3] = [KvKind::F32, KvKind::F16, KvKind::Q8];

/// Layers with and without a window of 100 positions.
fn windowed(seed: u64) -> RandomModel {
    let pattern = LayerPattern::new(3, |layer| (layer != 2, layer != 1)).unwrap();
    let config = Config {
        layers: 3,
        heads: 3,
        kv_heads: 1,
        head_dim: 10,
        qkv_bias: true,
        window: 100,
        pattern,
        ..BASE
    };
    RandomModel::new(config, seed)
}

/// The logits after the last token of a session, as bits.
fn last(session: &mut Session<Cpu<'_, '_, '_, Backwards>>) -> Vec<u32> {
    bits(session.tokens_and_logits().1)
}

#[test]
#[cfg_attr(miri, ignore = "takes hours there")]
fn a_rewind_is_as_if_the_rest_had_never_been() {
    let model = windowed(31);
    let (tokens, other) = (ids(&tokens(2100, 32)), ids(&tokens(40, 33)));
    for (kernels, kv) in all().into_iter().zip(KINDS.into_iter().cycle()) {
        let setup = Setup { context: 2200, kv, batch: 50, ..Setup::EXACT };
        // Positions within the batch, in the slack behind the window, before it, and in the first span.
        for to in [2099, 2060, 1990, 1700, 900, 513, 100, 1, 0] {
            let fresh = setup.with_cpu(&model, kernels, |cpu| {
                let mut session = Session::new(cpu);
                session.prefill(&[&tokens[..to], &other].concat()).unwrap();
                last(&mut session)
            });
            let rewound = setup.with_cpu(&model, kernels, |cpu| {
                let mut session = Session::new(cpu);
                session.prefill(&tokens).unwrap();
                session.rewind(to).unwrap();
                session.prefill(&other).unwrap();
                let found = last(&mut session);
                // Again, with a token at a time, and behind where it was.
                session.rewind(to).unwrap();
                other.iter().for_each(|token| session.prefill(&[*token]).unwrap());
                assert!(last(&mut session) == found, "{kernels:?} {kv:?} to {to}, one by one");
                session.rewind(to).unwrap();
                session.prefill(&tokens[to..]).unwrap();
                let whole = last(&mut session);
                session.rewind(0).unwrap();
                session.prefill(&tokens).unwrap();
                assert!(last(&mut session) == whole, "{kernels:?} {kv:?} to {to}, and back");
                found
            });
            assert!(rewound == fresh, "{kernels:?} {kv:?} to {to}");
        }
    }
}

#[test]
fn short_rewinds_compute_nothing() {
    let model = windowed(41);
    let setup = Setup { context: 4000, batch: 20, ..Setup::EXACT };
    setup.with_cpu(&model, Kernels::scalar(), |mut cpu| {
        for end in (20..4000).step_by(20) {
            cpu.reserve(end - 20..end);
            for position in end.saturating_sub(20 + CHUNK)..=end {
                assert_eq!(cpu.resumes_from(position), position, "after {end}");
                assert_eq!(cpu.cached_chunks(1, position), 0..position.div_ceil(CHUNK));
                // The window's chunks are there to be read.
                let chunks = cpu.cached_chunks(0, position);
                assert_eq!(chunks.start, (position + 1).saturating_sub(100).min(position) / CHUNK);
                assert_eq!(cpu.cache(0, 0, chunks.clone()).values.len(), chunks.len() * CHUNK * 16 * 4);
            }
        }
        assert_eq!(cpu.resumes_from(1000), 0);
        cpu.reserve(0..10);
        assert_eq!(cpu.resumes_from(10), 10);
    });
}

#[test]
#[cfg_attr(miri, ignore = "takes hours there")]
fn accepted_and_rejected_drafts_change_nothing() {
    let model = windowed(51);
    let prompt: Vec<usize> = tokens(30, 52).iter().cycle().take(900).copied().collect();
    let setup = Setup { context: 2000, batch: 64, kv: KvKind::Q8, exact: false, threads: 1 };
    let kernels = all().pop().unwrap();
    let generate = |lookup: PromptLookup| {
        setup.with_cpu(&model, kernels, |cpu| {
            let mut session = Session::new(cpu).with_lookup(lookup);
            session.prefill(&ids(&prompt)).unwrap();
            let mut sampler = Sampler::new(Sampling::GREEDY).unwrap();
            for _ in 0..1000 {
                let token = session.sample(&mut sampler);
                session.prefill(&[token]).unwrap();
            }
            session.tokens().to_vec()
        })
    };
    assert_eq!(generate(PromptLookup::new(8)), generate(PromptLookup::new(0)));
}

#[test]
#[cfg_attr(miri, ignore = "takes hours there")]
fn copied_chunks_continue_the_sequence() {
    let model = windowed(61);
    let (tokens, end) = (ids(&tokens(1700, 62)), 1610);
    let kernels = all().pop().unwrap();
    for kv in KINDS {
        let setup = Setup { context: 1700, kv, batch: 50, ..Setup::EXACT };
        setup.with_cpu(&model, kernels, |mut from| {
            run(&mut from, &tokens[..end], 0);
            // A cache that is empty, and one with the first positions and others behind them.
            for have in [0, 130, 1500] {
                setup.with_cpu(&model, kernels, |mut to| {
                    run(&mut to, &tokens[..have], 0);
                    to.reserve(have..end);
                    for layer in 0..3 {
                        let chunks = from.cached_chunks(layer, end);
                        let chunks = chunks.start.max(have / CHUNK)..chunks.end;
                        let (part, copy) = (from.cache(layer, 0, chunks.clone()), to.cache(layer, 0, chunks));
                        copy.keys.copy_from_slice(part.keys);
                        copy.values.copy_from_slice(part.values);
                        copy.key_scales.copy_from_slice(part.key_scales);
                        copy.value_scales.copy_from_slice(part.value_scales);
                    }
                    let found = run(&mut to, &tokens[end..], end);
                    let expected = setup.with_cpu(&model, kernels, |mut cpu| run(&mut cpu, &tokens, 0));
                    let expected = &expected[end * VOCAB..];
                    assert!(bits(&found) == bits(expected), "{kv:?} from {have}");
                });
            }
        });
    }
}

#[test]
fn a_window_bounds_the_cache() {
    let config = |sliding: fn(usize) -> bool| Config {
        layers: 36,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        context: 1 << 17,
        window: 4096,
        pattern: LayerPattern::new(36, |layer| (true, sliding(layer))).unwrap(),
        ..BASE
    };
    let bytes = |config: &Config, context: usize| {
        let options = PlanOptions { batch: 192, ..PlanOptions::generate(context) };
        MemoryPlan::new(config, &options, &Kernels::scalar()).unwrap().bytes()
    };
    let full = Config { window: 0, pattern: LayerPattern::PLAIN, ..config(|_| true) };
    let position = 2 * 8 * 128 * 2;
    // 4,096 + 192 + 64 positions rounded up to spans, and a span.
    let recent = 4608 + 512;
    for (config, sliding) in [(config(|_| true), 36), (config(|layer| layer % 4 != 3), 27)] {
        let saved = sliding * (config.context - recent) * position;
        assert_eq!(bytes(&full, config.context) - bytes(&config, config.context), saved);
        // A context that the region of a window would exceed.
        assert_eq!(bytes(&full, 4096), bytes(&config, 4096));
    }
}
