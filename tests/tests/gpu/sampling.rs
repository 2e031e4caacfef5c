//! Sampling on the device: the tokens that the host would choose.

use super::*;

#[test]
fn the_device_draws_what_the_host_would() {
    let Some(_alone) = adapter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), SHAPE, 512);
    let prompt = tokens(60, 7);
    let nothing = [(Token(0), 0.0)];
    let greedy = Sampling { temperature: 0.0, ..WARM };
    let penalties =
        Sampling { repetition_penalty: 1.1, frequency_penalty: 0.1, penalty_window: Some(64), ..WARM };
    for backend in [BackendKind::Gpu, BackendKind::GpuTokens] {
        for sampling in [greedy, WARM, penalties] {
            let run = |bias: &[(Token, f32)]| {
                with_session(&model, &on(backend), |session| {
                    session.prefill(&prompt).unwrap();
                    let mut seen = Vec::new();
                    // Every now and then somebody looks at the logits.
                    let first = drawn(session, sampling, bias, 50, &mut |i, session| {
                        if i % 7 == 6 {
                            seen.extend_from_slice(session.tokens_and_logits().1);
                        }
                    });
                    // Back into what was drawn, and on with another seed; then to the end of the context.
                    session.rewind(80).unwrap();
                    session.prefill(&prompt[..3]).unwrap();
                    let again = drawn(session, Sampling { seed: 12, ..sampling }, bias, 20, &mut |_, _| {});
                    let room = session.context() - session.position();
                    let last = drawn(session, sampling, bias, room, &mut |_, _| {});
                    assert_eq!(session.position(), session.context());
                    let score = {
                        session.rewind(0).unwrap();
                        let mut sum = 0.0;
                        session.score(&prompt, 1, &mut |scored| sum += scored.log_probability).unwrap();
                        sum
                    };
                    assert_eq!(session.sequence().kind(), backend);
                    (first, again, last, seen, score)
                })
            };
            assert!(run(&[]) == run(&nothing), "{backend}, {sampling:?}");
        }
    }
    assert_eq!(TOLD.take(), Vec::<String>::new());
}

#[test]
fn a_device_that_draws_and_is_lost_costs_one_line() {
    let Some(_alone) = adapter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), SHAPE, 512);
    let prompt = tokens(60, 8);
    let run = |backend, lose_at| {
        with_session(&model, &on(backend), |session| {
            session.prefill(&prompt).unwrap();
            let found = drawn(session, WARM, &[], 30, &mut |i, _| {
                if Some(i) == lose_at {
                    device().unwrap().destroy();
                }
            });
            (found, session.sequence().kind())
        })
    };
    let (expected, _) = run(BackendKind::Cpu, None);
    for at in [0, 1, 13] {
        let found = run(BackendKind::Gpu, Some(at));
        assert_eq!(found, (expected.clone(), BackendKind::Cpu), "lost before token {at}");
        let told = TOLD.take();
        assert!(told.len() == 1 && told[0].ends_with("continuing on the CPU"), "{told:?}");
    }
}
