//! Text embeddings against numpy's, and against themselves where the order of work must not matter.

use super::golden::{self, Grid, RECIPES};
use super::{EXACT, FAST, differences};
use conformance::{on_gpu, with_session};
use thimble_converter::Quant;
use thimble_host::{Generator, InferenceSettings, embed};
use thimble_runtime::Token;
use thimble_runtime::embedding::Pooling;
use thimble_runtime::session::SessionError;

const KINDS: [Pooling; 2] = [Pooling::Mean, Pooling::Last];

#[test]
fn golden_embeddings_in_every_encoding() {
    for (grid, quant) in RECIPES {
        for golden in &golden::all() {
            let folder = tempfile::tempdir().unwrap();
            let model = golden.model(grid, quant, folder.path());
            let values = golden.values(grid);
            for (settings, bound) in [(EXACT, 1e-5f64), (FAST, 0.06)] {
                let bound = if on_gpu() { bound.max(1e-4) } else { bound };
                with_session(&model, &settings, |session| {
                    let expected = [&values.mean_embedding, &values.last_embedding];
                    for (pooling, expected) in KINDS.into_iter().zip(expected) {
                        let found: Vec<f64> =
                            vector(session, &golden.tokens(), pooling).into_iter().map(f64::from).collect();
                        let (most, _) = differences(&found, expected);
                        assert!(
                            most < bound,
                            "{}, {quant}, {pooling:?}, {settings:?}: {most:e}",
                            golden.name
                        );
                    }
                });
            }
        }
    }
}

fn vector(session: &mut Generator<'_>, tokens: &[Token], pooling: Pooling) -> Vec<f32> {
    embed(session, tokens, pooling).unwrap()
}

/// Bits on a CPU; on a GPU, where kernels for few and for many tokens add up in another order, numbers within 1e-3.
fn same(a: &[f32], b: &[f32]) -> bool {
    match on_gpu() {
        true => a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3),
        false => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
    }
}

#[test]
fn batches_threads_and_earlier_texts_do_not_change_a_bit() {
    let golden = &golden::all()[3];
    let folder = tempfile::tempdir().unwrap();
    let model = golden.model(Grid::Bytes, Quant::Q8, folder.path());
    let tokens = golden.tokens();
    for pooling in KINDS {
        for settings in [EXACT, FAST] {
            let expected = with_session(&model, &settings, |session| vector(session, &tokens, pooling));
            for (batch, threads) in [(1, 1), (2, 3), (7, 2), (31, 1), (74, 2), (75, 4), (192, 2)] {
                let cut = InferenceSettings { batch: Some(batch), threads: Some(threads), ..settings };
                let found = with_session(&model, &cut, |session| {
                    session.prefill(&tokens[20..60]).unwrap();
                    vector(session, &tokens[..9], pooling);
                    let found = vector(session, &tokens, pooling);
                    // The sequence is the text's, without logits, and goes on.
                    assert_eq!(session.tokens(), tokens);
                    assert!(session.tokens_and_logits().1.is_empty());
                    session.prefill(&tokens[..1]).unwrap();
                    assert!(!session.tokens_and_logits().1.is_empty());
                    found
                });
                assert!(same(&found, &expected), "batches of {batch}, {threads} threads, {pooling:?}");
            }
        }
    }
}

#[test]
fn states_from_any_token_on_are_those_of_the_whole() {
    let golden = &golden::all()[0];
    let folder = tempfile::tempdir().unwrap();
    let model = golden.model(Grid::Bytes, Quant::F16, folder.path());
    let tokens = golden.tokens();
    let settings = InferenceSettings { batch: Some(10), ..EXACT };
    let states = |from: usize| {
        with_session(&model, &settings, |session| {
            let mut states = Vec::new();
            session
                .hidden_states(&tokens, from, &mut |index, state| states.push((index, state.to_vec())))
                .unwrap();
            states
        })
    };
    let all = states(0);
    assert_eq!(all.len(), tokens.len());
    for from in [1, 9, 10, 11, 74, 75, 100] {
        let found = states(from);
        assert_eq!(found.len(), tokens.len().saturating_sub(from));
        for (index, state) in found {
            assert!(all[index].0 == index && same(&all[index].1, &state), "token {index}, from {from}");
        }
    }
}

#[test]
fn what_is_no_text_is_refused() {
    let golden = &golden::all()[0];
    let folder = tempfile::tempdir().unwrap();
    let model = golden.model(Grid::Bytes, Quant::F16, folder.path());
    let tokens = golden.tokens();
    with_session(&model, &InferenceSettings { context: Some(20), ..EXACT }, |session| {
        let refused = |session: &mut Generator<'_>, tokens: &[Token]| {
            embed(session, tokens, Pooling::Mean).unwrap_err()
        };
        assert_eq!(refused(session, &[]), SessionError::Empty);
        let long = SessionError::ContextFull { position: 0, more: 21, context: 20 };
        assert_eq!(refused(session, &tokens[..21]), long);
        let unknown = SessionError::UnknownToken { found: 9999, vocab: golden.vocab };
        assert_eq!(refused(session, &[Token(9999)]), unknown);
        let expected = session.hidden();
        let error = session.text_embedding(&tokens[..5], Pooling::Mean, &mut [0.0; 3]).unwrap_err();
        assert_eq!(error, SessionError::EmbeddingLength { expected, found: 3 });
        // A text that fills the context.
        let found = vector(session, &tokens[..20], Pooling::Last);
        let length: f64 = found.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        assert!((length - 1.0).abs() < 1e-6, "{length}");
    });
}
