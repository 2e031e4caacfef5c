//! Masked sampling: only allowed tokens, with drafts and without, and after a rewind.

use super::*;
use crate::lookup::PromptLookup;
use crate::sampler::{Sampler, Sampling, TokenMask};
use crate::session::Session;

/// Allows every seventh token, others at each step.
fn words(step: usize) -> [u32; VOCAB / 32] {
    let mut words = [0; VOCAB / 32];
    for token in (step % 7..VOCAB).step_by(7) {
        words[token / 32] |= 1 << (token % 32);
    }
    words
}

fn sampler(temperature: f32) -> Sampler<'static> {
    let sampling = Sampling { temperature, repetition_penalty: 1.1, seed: 3, ..Sampling::GREEDY };
    Sampler::new(sampling).unwrap()
}

/// Generates `count` tokens from step `from` on.
fn generate(
    session: &mut Session<Cpu<'_, '_, '_, Backwards>>,
    sampler: &mut Sampler<'_>,
    steps: core::ops::Range<usize>,
) {
    for step in steps {
        let words = words(step);
        let token = session.sample_masked(sampler, TokenMask::new(&words)).unwrap();
        assert_eq!(token.index() % 7, step % 7, "an allowed token");
        session.prefill(&[token]).unwrap();
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes hours there")]
fn drafts_and_rewinds_do_not_change_what_a_mask_allows() {
    let model = RandomModel::new(BASE, 71);
    let prompt: Vec<usize> = tokens(14, 72).iter().cycle().take(70).copied().collect();
    let setup = Setup { context: 500, batch: 64, kv: KvKind::Q8, exact: false, threads: 1 };
    for temperature in [0.0, 1.0] {
        let found = [0, 8].map(|most| {
            setup.with_cpu(&model, Kernels::scalar(), |cpu| {
                let mut session = Session::new(cpu).with_lookup(PromptLookup::new(most));
                session.prefill(&ids(&prompt)).unwrap();
                let mut sampler = sampler(temperature);
                generate(&mut session, &mut sampler, 0..200);
                session.rewind(100).unwrap();
                let words = words(0);
                assert_eq!(session.sample_masked(&mut sampler, TokenMask::new(&words)), None, "no logits");
                session.prefill(&ids(&prompt[..20])).unwrap();
                generate(&mut session, &mut sampler, 0..100);
                session.tokens().to_vec()
            })
        });
        assert_eq!(found[0], found[1], "temperature {temperature}");
    }
}

#[test]
fn a_mask_holds_against_the_bias() {
    let model = RandomModel::new(BASE, 73);
    let setup = Setup { context: 20, batch: 8, ..Setup::EXACT };
    setup.with_cpu(&model, Kernels::scalar(), |cpu| {
        let mut session = Session::new(cpu);
        session.prefill(&[Token(1), Token(2)]).unwrap();
        let bias = [(Token(9), f32::NEG_INFINITY), (Token(4), 1e30)];
        let mut sampler = sampler(1.0).with_bias(&bias).unwrap();
        // Token 4 is the likeliest by far and not allowed; token 9 is allowed and banned.
        let mut words = [0; VOCAB / 32];
        assert_eq!(session.sample_masked(&mut sampler, TokenMask::new(&words)), None);
        words[0] = 1 << 9;
        assert_eq!(session.sample_masked(&mut sampler, TokenMask::new(&words)), Some(Token(9)));
        session.prefill(&[Token(3)]).unwrap();
        words[0] = 1 << 9 | 1 << 17;
        assert_eq!(session.sample_masked(&mut sampler, TokenMask::new(&words)), Some(Token(17)));
    });
}
