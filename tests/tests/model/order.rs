//! What must not change the numbers: threads, batches, the way to a position, errors in between.

use super::golden::{self, Grid};
use super::{EXACT, FAST};
use conformance::{score, with_session};
use thimble_converter::Quant;
use thimble_files::MappedModel;
use thimble_host::{Generator, InferencePlan, InferenceSettings, PlanError};
use thimble_runtime::Token;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::memory::MemoryError;
use thimble_runtime::sampler::{Sampler, Sampling};
use thimble_runtime::session::SessionError;

/// Modes that all of this holds in.
fn modes() -> [InferenceSettings; 3] {
    [EXACT, FAST, InferenceSettings { kv: Some(KvKind::Q8), ..FAST }]
}

/// Runs `check` on a float, an 8-bit and a 4-bit model in every mode.
fn on_models(check: impl Fn(&MappedModel, &[Token], InferenceSettings)) {
    let all = golden::all();
    let recipes = [(Grid::Bytes, Quant::F16), (Grid::Bytes, Quant::Q8), (Grid::Nibbles, Quant::Q4Min)];
    for (golden, (grid, quant)) in [&all[0], &all[3], &all[6]].into_iter().zip(recipes) {
        let folder = tempfile::tempdir().unwrap();
        let model = golden.model(grid, quant, folder.path());
        for settings in modes() {
            check(&model, &golden.tokens(), settings);
        }
    }
}

/// Numbers that are the same bit by bit. On a GPU, whose kernels for one token and for many add up in another order, they
/// are so within a hundredth of the largest; nothing is promised beyond.
#[derive(Debug)]
struct Same(Vec<f64>);

impl PartialEq for Same {
    fn eq(&self, other: &Same) -> bool {
        let (a, b) = (&self.0, &other.0);
        if !conformance::on_gpu() {
            return a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()));
        }
        let size = b.iter().fold(0.0f64, |size, x| size.max(x.abs()));
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() <= 0.01 * size)
    }
}

/// The logits.
fn bits(session: &mut Generator<'_>) -> Same {
    Same(session.tokens_and_logits().1.iter().map(|&x| f64::from(x)).collect())
}

/// The logits behind each of `tokens`, run in pieces of `size` (logits behind each piece).
fn in_pieces(session: &mut Generator<'_>, tokens: &[Token], size: usize) -> Vec<Same> {
    let piece = |piece: &[Token]| {
        session.prefill(piece).unwrap();
        bits(session)
    };
    tokens.chunks(size).map(piece).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    on_models(|model, tokens, settings| {
        let run = |threads| {
            with_session(model, &InferenceSettings { threads: Some(threads), ..settings }, |session| {
                (Same(score(session, tokens).unwrap()), in_pieces(session, tokens, 1))
            })
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert!(run(threads) == one, "{threads} threads, {settings:?}");
        }
    });
}

#[test]
fn batches_do_not_change_a_bit() {
    on_models(|model, tokens, settings| {
        let one_by_one = with_session(model, &settings, |session| in_pieces(session, tokens, 1));
        for batch in [1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 24, 31, 64, 192] {
            let settings = InferenceSettings { batch: Some(batch), ..settings };
            let at_once = with_session(model, &settings, |session| in_pieces(session, tokens, tokens.len()));
            assert!(at_once[0] == one_by_one[tokens.len() - 1], "batches of {batch}, {settings:?}");
        }
        for rows in [1, 2, 3, 12, 75] {
            let run = |logit_rows| {
                let settings = InferenceSettings { logit_rows: Some(logit_rows), ..settings };
                with_session(model, &settings, |session| Same(score(session, tokens).unwrap()))
            };
            assert!(run(rows) == run(5), "{rows} rows of logits, {settings:?}");
        }
    });
}

#[test]
fn proposals_do_not_change_a_bit() {
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let varied = Sampling { temperature: 0.8, repetition_penalty: 1.05, seed: 7, ..Sampling::default() };
    on_models(|model, tokens, settings| {
        let prompt: Vec<Token> = tokens[..12].iter().copied().cycle().take(40).collect();
        for sampling in [greedy, varied] {
            let run = |lookup| {
                let settings = InferenceSettings { context: Some(200), lookup, ..settings };
                with_session(model, &settings, |session| {
                    let mut sampler = Sampler::new(sampling).unwrap();
                    session.prefill(&prompt).unwrap();
                    let mut steps = Vec::new();
                    // Back to an earlier position in between, with drafts ahead.
                    for place in [160, 60, 200] {
                        session.rewind(session.position().min(place)).unwrap();
                        if session.position() == place {
                            session.prefill(&tokens[..1]).unwrap();
                        }
                        while session.position() < place {
                            let logits = bits(session);
                            let token = session.sample(&mut sampler);
                            steps.push((token, logits));
                            session.prefill(&[token]).unwrap();
                        }
                    }
                    (steps, session.accepted_draft_tokens())
                })
            };
            let (plain, none) = run(0);
            assert_eq!(none, 0);
            for lookup in [1, 4, 16] {
                let (steps, accepted_draft_tokens) = run(lookup);
                assert!(steps == plain, "{lookup} proposed, {settings:?}");
                assert!(
                    accepted_draft_tokens > 0 || sampling != greedy,
                    "no draft was accepted, {settings:?}"
                );
            }
        }
    });
}

#[test]
fn every_way_to_a_position_gives_the_same_logits() {
    on_models(|model, tokens, settings| {
        let fresh = with_session(model, &settings, |session| in_pieces(session, tokens, 1));
        with_session(model, &settings, |session| {
            session.prefill(tokens).unwrap();
            for at in [74, 64, 63, 33, 16, 1, 0] {
                session.rewind(at).unwrap();
                assert_eq!(session.position(), at);
                assert!(bits(session).0.is_empty(), "no logits after a rewind");
                session.prefill(&tokens[at..]).unwrap();
                assert!(bits(session) == fresh[tokens.len() - 1], "rewound to {at}, {settings:?}");
                assert_eq!(session.tokens(), tokens);
            }
            // Other tokens in between leave no trace, also in the half-filled block behind the new end.
            for at in [20, 40] {
                session.rewind(at).unwrap();
                session.prefill(&[Token(9); 30]).unwrap();
                let mut other = tokens.to_vec();
                other[60] = Token(other[60].0 ^ 1);
                assert_eq!(session.reuse(&tokens[..60]), at);
                session.prefill(&tokens[at..60]).unwrap();
                assert!(bits(session) == fresh[59], "other tokens behind {at}, {settings:?}");
                assert_eq!(session.reuse(tokens), 60);
                session.prefill(&tokens[60..]).unwrap();
                assert_eq!(session.reuse(&other), 60);
                session.prefill(&tokens[60..]).unwrap();
                assert!(bits(session) == fresh[tokens.len() - 1], "reused, {settings:?}");
            }
            // At least one token is left to run, so that there are logits.
            assert_eq!((session.reuse(tokens), session.position()), (tokens.len() - 1, tokens.len() - 1));
            assert_eq!(session.reuse(&[]), 0);
        });
    });
}

#[test]
fn errors_leave_the_session_as_it_was() {
    on_models(|model, tokens, settings| {
        let fresh = with_session(model, &settings, |session| in_pieces(session, tokens, 1));
        let settings = InferenceSettings { context: Some(50), ..settings };
        with_session(model, &settings, |session| {
            assert_eq!(session.prefill(&[]), Err(SessionError::Empty));
            assert_eq!(session.score(&[], 1, &mut |_| {}), Err(SessionError::Empty));
            assert_eq!(session.rewind(1), Err(SessionError::Rewind { to: 1, position: 0 }));
            let full = SessionError::ContextFull { position: 0, more: 51, context: 50 };
            assert_eq!(session.prefill(&tokens[..51]), Err(full));
            session.prefill(&tokens[..40]).unwrap();
            let vocab = bits(session).0.len();
            let unknown = Token(vocab as u32);
            let error = SessionError::UnknownToken { found: unknown.0, vocab };
            assert_eq!(session.prefill(&[tokens[40], unknown]), Err(error));
            assert_eq!(session.score(&[tokens[40], unknown], 1, &mut |_| {}), Err(error));
            assert_eq!(
                session.prefill(&[Token(u32::MAX)]).unwrap_err().to_string().matches("not in").count(),
                1
            );
            let full = SessionError::ContextFull { position: 40, more: 11, context: 50 };
            assert_eq!(session.prefill(&tokens[40..51]), Err(full));
            assert_eq!(session.score(&tokens[40..52], 1, &mut |_| {}), Err(full));
            assert_eq!(session.rewind(41), Err(SessionError::Rewind { to: 41, position: 40 }));
            assert_eq!((session.position(), session.tokens()), (40, &tokens[..40]));
            assert!(bits(session) == fresh[39], "the logits are still there");
            session.prefill(&tokens[40..50]).unwrap();
            assert!(bits(session) == fresh[49], "up to the last position");
            let full = SessionError::ContextFull { position: 50, more: 1, context: 50 };
            assert_eq!(session.prefill(&tokens[..1]), Err(full));
            session.rewind(0).unwrap();
            // The last token is not run, so a text of one more than the context can be scored.
            assert_eq!(score(session, &tokens[..51]).unwrap().len(), 50);
        });
    });
}

#[test]
fn a_context_of_one_position() {
    on_models(|model, tokens, settings| {
        let fresh = with_session(model, &settings, |session| in_pieces(session, &tokens[..1], 1));
        with_session(model, &InferenceSettings { context: Some(1), ..settings }, |session| {
            session.prefill(&tokens[..1]).unwrap();
            assert!(bits(session) == fresh[0]);
            let full = SessionError::ContextFull { position: 1, more: 1, context: 1 };
            assert_eq!(session.prefill(&tokens[1..2]), Err(full));
            session.rewind(0).unwrap();
            assert_eq!(score(session, &tokens[..2]).unwrap().len(), 1);
        });
        for context in [0, 513] {
            let file = model.file().unwrap();
            let plan =
                InferencePlan::new(file.config(), &InferenceSettings { context: Some(context), ..settings });
            let error = MemoryError::Context { found: context, limit: 512 };
            assert!(matches!(plan, Err(PlanError::Memory(e)) if e == error), "{context}");
        }
    });
}

#[test]
fn the_whole_context_is_usable() {
    on_models(|model, tokens, settings| {
        let long: Vec<Token> = tokens.iter().copied().cycle().take(512).collect();
        let run = |batch| {
            let settings = InferenceSettings { context: Some(512), batch: Some(batch), ..settings };
            with_session(model, &settings, |session| in_pieces(session, &long, 512))
        };
        let logits = run(192);
        assert!(logits[0].0.iter().all(|x| x.is_finite()));
        assert!(logits == run(100), "{settings:?}");
    });
}
