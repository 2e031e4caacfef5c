//! What sampling falls back on: the app's settings, then the model's file, then the defaults.

use super::*;
use crate::completion::{by_host, complete, greedily};

fn answer(bench: &Bench, sampling: Option<Sampling>) -> String {
    let chat =
        Chat::new(bench.model(), ChatOptions { sampling, max_tokens: Some(30), ..ChatOptions::default() });
    ask(&chat.unwrap(), "hello").unwrap().1.text
}

fn continuation(bench: &Bench, sampling: Sampling) -> String {
    let asked =
        CompletionOptions { sampling: Some(sampling), max_tokens: Some(30), ..CompletionOptions::default() };
    let (_completion, heard) = complete(&bench.model(), "hello", asked);
    rest(&heard).unwrap().1.text
}

#[test]
fn the_app_comes_before_the_file_and_the_file_before_the_defaults() {
    let bench = Bench::new();
    let seeded = Sampling { seed: Some(7), ..Sampling::default() };
    let defaults = RuntimeSampling { seed: 7, ..RuntimeSampling::ANSWER };
    assert_eq!(
        answer(&bench, Some(seeded.clone())),
        by_host(&bench, defaults, PromptFormat::Chat, "hello", 30)
    );
    let defaults = RuntimeSampling { seed: 7, ..RuntimeSampling::CONTINUATION };
    assert_eq!(
        continuation(&bench, seeded.clone()),
        by_host(&bench, defaults, PromptFormat::Text, "hello", 30)
    );

    let recommended = r#"{"do_sample": false, "repetition_penalty": 1.0, "top_p": 1.0}"#;
    fs::write(bench.path("hf/generation_config.json"), recommended).unwrap();
    convert(&bench.path("hf"), &bench.path("m.thimble"), &ConversionOptions::default(), &mut |_| {}).unwrap();
    let greedy = greedily(&bench, PromptFormat::Chat, "hello", 30);
    assert_eq!(
        [answer(&bench, None), answer(&bench, Some(seeded.clone()))],
        [greedy.clone(), greedy.clone()]
    );
    assert_eq!(continuation(&bench, seeded.clone()), greedily(&bench, PromptFormat::Text, "hello", 30));
    let warm = Sampling { temperature: Some(1.5), ..seeded };
    let expected =
        RuntimeSampling { temperature: 1.5, top_p: Some(1.0), seed: 7, ..RuntimeSampling::default() };
    let warm = answer(&bench, Some(warm));
    assert_eq!(warm, by_host(&bench, expected, PromptFormat::Chat, "hello", 30));
    assert_ne!(warm, greedy);
}
