//! A tokenizer that begins texts with a begin-of-text token, which the harness keeps.

use super::*;
use tiny::llama3_post_processor;

/// The tokens are those of `HFLM.loglikelihood` (lm-eval 0.4.11 and 0.4.13, transformers 5.24) with the same tokenizer.json.
#[test]
fn requests_begin_as_the_harness_s_do() {
    let at = tempfile::tempdir().unwrap();
    let model = long_model_with(at.path(), &llama3_post_processor("<|im_start|>", 1));
    let file = model.file().unwrap();
    let cases: [(&str, &str, &[u32], &[u32]); 7] = [
        ("ab", " c", &[1, 260], &[223, 69]),
        ("ab ", "c", &[1, 260], &[223, 69]),
        ("", "c", &[1], &[69]),
        (" ", "c", &[1], &[223, 69]),
        ("", "<|im_start|>c", &[1], &[69]),
        ("<|im_start|>ab", "c", &[1, 260], &[69]),
        ("<|im_end|>", "ab", &[1, 2], &[260]),
    ];
    for (context, continuation, before, behind) in cases {
        let request = Request::new(&file, context, continuation).unwrap();
        let ids: Vec<u32> = request.tokens.iter().map(|token| token.0).collect();
        assert_eq!(ids.split_at(request.from), (before, behind), "{context:?} {continuation:?}");
    }
    // What does not fit is cut off at the beginning, the token with it.
    let cut = Request::new(&file, "ab", " c").unwrap().fit(2).unwrap();
    assert_eq!((cut.tokens.len(), cut.from, cut.tokens[0].0), (3, 1, 260));
}

#[test]
fn generation_starts_behind_the_begin_of_text_token() {
    let settings =
        InferenceSettings { context: Some(LONG), threads: Some(1), ..InferenceSettings::default() };
    let [plain, begun] = [Json::Null, llama3_post_processor("<|im_start|>", 1)].map(|post_processor| {
        let at = tempfile::tempdir().unwrap();
        let model = long_model_with(at.path(), &post_processor);
        let file = model.file().unwrap();
        // One, which reuses nothing, and more answers than run at a time.
        let selection = Selection { limit: Some(1), ..Selection::default() };
        let few = complete(&Evaluation { selection, ..evaluation(&model, &[Task::Gsm8k]) });
        let folder = tempfile::tempdir().unwrap();
        let source = many(folder.path());
        let more = complete(&Evaluation { source, ..evaluation(&model, &[Task::Gsm8k]) });
        with_session(&model, &settings, |session| {
            for evaluated in [&few, &more] {
                for (item, outcome) in evaluated.data[0].items.iter().zip(&evaluated.outcomes[0]) {
                    let Question::Text { prompt, .. } = &item.question else { panic!("a prompt") };
                    assert_eq!(outcome.text.as_ref(), Some(&continued(session, &file, prompt)));
                }
            }
        });
        few.outcomes.into_iter().flatten().map(|outcome| outcome.work.tokens).sum::<u64>()
    });
    assert_eq!(begun, plain + 1);
}
