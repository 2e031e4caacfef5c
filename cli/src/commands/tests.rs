use super::{Command, Flags};
use clap::{CommandFactory, Parser};
use thimble_chat::BiasTarget;
use thimble_runtime::Token;

fn parse(words: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("thimble").chain(words.split(' '));
    Flags::try_parse_from(words).map(|flags| flags.command)
}

#[test]
fn the_definition_is_consistent() {
    Flags::command().debug_assert();
}

#[test]
fn run_takes_its_flags() {
    let run = "run m.thimble --exact --temperature 0 --tokens 64 --json --prompt -";
    let Ok(Command::Run(flags)) = parse(run) else { panic!("not a run") };
    assert_eq!(flags.prompt.first.as_deref(), Some("m.thimble"));
    assert_eq!(flags.prompt.prompt.as_deref(), Some("-"));
    assert_eq!((flags.tokens, flags.generation.sampling.temperature), (Some(64), Some(0.0)));
    assert!(flags.generation.machine.compute.exact && flags.json);
}

#[test]
fn a_prompt_may_begin_with_a_hyphen() {
    let Ok(Command::Run(flags)) = parse("run --prompt --json") else { panic!("not a run") };
    assert_eq!(flags.prompt.prompt.as_deref(), Some("--json"));
    assert!(!flags.json);
}

#[test]
fn values_out_of_range_are_refused() {
    let wrong = [
        "run --prompt x --temperature -1",
        "run --prompt x --temperature nan",
        "run --prompt x --top-p 1.5",
        "run --prompt x --min-p -0.1",
        "run --prompt x --repetition-penalty 0",
        "run --prompt x --logit-bias 5",
        "run --prompt x --logit-bias -5=1",
        "run --prompt x --logit-bias word=1",
        "run --prompt x --logprobs 3",
        "run --prompt x --json --logprobs 21",
        "embed model --pooling median",
        "run --prompt x --context 0",
        "run --prompt x --threads 0",
        "run --prompt x --tokens 5 --max-tokens 5",
        "perplexity --input f --window 1",
        "chat --max-tokens 0",
        "convert source",
        "nonsense",
    ];
    for words in wrong {
        match parse(words) {
            Ok(_) => panic!("accepted: {words}"),
            Err(error) => assert_eq!(error.exit_code(), 2, "{words}"),
        }
    }
}

#[test]
fn biases_are_repeatable() {
    let words = r#"run --prompt x --logit-bias 1=-2.5 --logit-bias 7=3 --logit-bias "1=2"=-1"#;
    let Ok(Command::Run(flags)) = parse(words) else { panic!("not a run") };
    let [one, seven] = [1, 7].map(|id| BiasTarget::Token(Token(id)));
    let text = BiasTarget::Text("1=2".to_string());
    assert_eq!(flags.generation.sampling.biases, [(one, -2.5), (seven, 3.0), (text, -1.0)]);
}

#[test]
fn errors_for_negative_numbers_state_the_range() {
    let expected = [
        ("run --prompt x --temperature -1", "at least 0"),
        ("run --prompt x --top-p -0.5", "from 0 to 1"),
        ("run --prompt x --seed -1", "expected a whole number"),
        ("run --prompt x --top-k x", "expected a whole number"),
        ("run --prompt x --context -1", "at least 1"),
        ("run --prompt x --logit-bias -5=1", "token id"),
    ];
    for (words, word) in expected {
        let sentence = parse(words).unwrap_err().to_string();
        assert!(sentence.contains(word) && !sentence.contains("tip:"), "{sentence}");
    }
}
