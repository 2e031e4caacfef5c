//! What slots refuse, and that nothing has changed then.

use super::{MODELS, Subject};
use thimble_host::{InferencePlan, InferenceSettings, SpinPool, generator, slots};
use thimble_runtime::Token;
use thimble_runtime::adapter::{AdapterError, WeightedAdapter};
use thimble_runtime::embedding::Pooling;
use thimble_runtime::memory::MemoryError;
use thimble_runtime::sampler::{Sampler, Sampling};
use thimble_runtime::sequences::Part;
use thimble_runtime::session::SessionError;

fn settings(sequences: usize) -> InferenceSettings {
    InferenceSettings {
        context: Some(20),
        batch: Some(12),
        sequences: Some(sequences),
        threads: Some(1),
        ..InferenceSettings::default()
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::new(MODELS[2], folder.path());
    let file = subject.model.file().unwrap();
    let plan = InferencePlan::new(file.config(), &settings(3)).unwrap();
    let (mut memory, pool) = (plan.allocate().unwrap(), SpinPool::new(1).unwrap());
    let mut all = slots(&file, &plan, &mut memory, &pool).unwrap();
    assert_eq!((all.slots(), all.context(), all.batch()), (3, 20, 12));
    let vocab = file.config().vocab;
    let text: Vec<Token> = (0..21).map(|i| Token(i * 7 % 100)).collect();
    let part = |slot: usize, tokens| Part { slot, tokens };
    all.step(&[part(0, &text[..5]), part(2, &text[..3])]).unwrap();
    let before: Vec<Vec<f32>> = (0..4).map(|slot| all.logits(slot).to_vec()).collect();
    assert_eq!([0, 1, 2, 3].map(|slot| before[slot].len()), [vocab, 0, vocab, 0]);

    let unknown = [Token(3), Token(vocab as u32)];
    let refused: [(&[Part<'_>], SessionError); 9] = [
        (&[], SessionError::Empty),
        (&[part(0, &text[..2]), part(1, &[])], SessionError::Empty),
        (&[part(0, &text[..2]), part(3, &text[..2])], SessionError::UnknownSlot { found: 3, slots: 3 }),
        (&[part(usize::MAX, &text[..1])], SessionError::UnknownSlot { found: usize::MAX, slots: 3 }),
        (
            &[part(1, &text[..1]), part(0, &text[..1]), part(1, &text[..1])],
            SessionError::SlotTwice { slot: 1 },
        ),
        (&[part(1, &text[..9]), part(0, &text[..4])], SessionError::BatchFull { found: 13, limit: 12 }),
        (
            &[part(1, &text[..2]), part(0, &text[..16])],
            SessionError::ContextFull { position: 5, more: 16, context: 20 },
        ),
        (&[part(1, &text[..21])], SessionError::ContextFull { position: 0, more: 21, context: 20 }),
        (
            &[part(0, &text[..1]), part(1, &unknown)],
            SessionError::UnknownToken { found: vocab as u32, vocab },
        ),
    ];
    for (parts, error) in refused {
        assert_eq!(all.step(parts), Err(error));
        assert_eq!(all.run(parts), Err(error));
    }
    assert_eq!(all.rewind(0, 6), Err(SessionError::Rewind { to: 6, position: 5 }));
    assert_eq!(all.copy(0, 1, 6), Err(SessionError::Rewind { to: 6, position: 5 }));
    let slot = SessionError::UnknownSlot { found: 3, slots: 3 };
    assert_eq!((all.rewind(3, 0), all.copy(0, 3, 0), all.copy(3, 0, 0)), (Err(slot), Err(slot), Err(slot)));
    let one = WeightedAdapter { file: subject.adapters[0].file().unwrap(), weight: 1.0 };
    assert_eq!(all.set_adapters(0, &[one]), Err(AdapterError::Rank { found: 4, planned: 0 }));
    assert_eq!(all.set_adapters(3, &[]), Err(AdapterError::UnknownSlot { found: 3, slots: 3 }));
    assert_eq!((all.reuse(3, &text), all.position(3), all.tokens(3)), (0, 0, &[][..]));
    let mut sampler = Sampler::new(Sampling::GREEDY).unwrap();
    assert_eq!(all.sample(3, &mut sampler), Token(0));
    assert!(all.hidden_states(0).is_empty() && all.hidden_states(3).is_empty());

    for (slot, (before, length)) in before.iter().zip([5, 0, 3]).enumerate() {
        assert_eq!(all.tokens(slot), &text[..length]);
        assert!(all.logits(slot) == before.as_slice());
    }
    // The state is whole: what follows is what a session computes.
    all.step(&[part(2, &text[3..6]), part(1, &text[..6])]).unwrap();
    let found = [1, 2].map(|slot| all.logits(slot).to_vec());
    assert!(found[0] == found[1]);

    let one = InferencePlan::new(file.config(), &settings(1)).unwrap();
    let mut memory = one.allocate().unwrap();
    let mut session = generator(&file, &one, &mut memory, &pool).unwrap();
    session.prefill(&text[..6]).unwrap();
    assert!(session.tokens_and_logits().1 == found[0].as_slice());
    let mut memory = plan.allocate().unwrap();
    let refused = generator(&file, &plan, &mut memory, &pool).err().unwrap().to_string();
    assert_eq!(refused, MemoryError::Sequences { expected: 1, found: 3 }.to_string());
}

#[test]
fn hidden_states_and_logits_of_every_token_are_those_of_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::new(MODELS[0], folder.path());
    let file = subject.model.file().unwrap();
    let plan = InferencePlan::new(file.config(), &settings(2)).unwrap();
    let (mut memory, pool) = (plan.allocate().unwrap(), SpinPool::new(1).unwrap());
    let mut all = slots(&file, &plan, &mut memory, &pool).unwrap();
    let texts = [5, 7].map(|count| (0..count).map(|i| Token(i * count % 90)).collect::<Vec<Token>>());
    all.run(&[Part { slot: 1, tokens: &texts[1] }, Part { slot: 0, tokens: &texts[0] }]).unwrap();
    assert!(all.logits(0).is_empty() && all.logits(1).is_empty());
    let unknown = SessionError::UnknownSlot { found: 2, slots: 2 };
    let computed = [0, 1].map(|slot| {
        let mut logits: Vec<(usize, Vec<f32>)> = Vec::new();
        all.each_logits(slot, 2, &mut |index, row| logits.push((index, row.to_vec())));
        (all.hidden_states(slot).to_vec(), logits)
    });
    for (slot, (text, (states, logits))) in texts.iter().zip(computed).enumerate() {
        let alone = InferencePlan::new(file.config(), &settings(1)).unwrap();
        let mut memory = alone.allocate().unwrap();
        let mut session = generator(&file, &alone, &mut memory, &pool).unwrap();
        let mut expected = Vec::new();
        session.hidden_states(text, 0, &mut |_, state| expected.extend_from_slice(state)).unwrap();
        assert!(states == expected && !states.is_empty());
        for pooling in [Pooling::Mean, Pooling::Last] {
            let [mut found, mut expected] = [(); 2].map(|()| vec![0.0; session.hidden()]);
            session.text_embedding(text, pooling, &mut expected).unwrap();
            all.text_embedding(slot, text, pooling, &mut found).unwrap();
            assert!(found == expected && found.iter().any(|&x| x != 0.0));
            assert_eq!(all.text_embedding(2, text, pooling, &mut found).unwrap_err(), unknown);
            let short = all.text_embedding(slot, text, pooling, &mut found[1..]).unwrap_err();
            assert!(matches!(short, SessionError::EmbeddingLength { .. }));
        }
        session.rewind(0).unwrap();
        let mut expected = Vec::new();
        session.append(text, 2, &mut |index, row| expected.push((index, row.to_vec()))).unwrap();
        assert!(logits == expected && logits.len() == text.len() - 2);
    }
}

#[test]
fn another_sequence_costs_what_the_plan_says() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::new(MODELS[1], folder.path());
    let file = subject.model.file().unwrap();
    let plan = |sequences| InferencePlan::new(file.config(), &settings(sequences)).unwrap();
    for sequences in [1, 2, 5, 12, 40] {
        let each = plan(sequences).memory().sequence_bytes().unwrap();
        assert_eq!(plan(sequences + 1).bytes() - plan(sequences).bytes(), each, "{sequences}");
    }
}
