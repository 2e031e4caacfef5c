//! What an app asks of one answer: stop texts, limits, log-probabilities, biased tokens, and chats from its own messages.

use super::completion::greedily;
use super::*;
use thimble_ffi::{AnswerOptions, Message};

fn greedy() -> Option<Sampling> {
    Some(Sampling { temperature: Some(0.0), repetition_penalty: Some(1.0), ..Sampling::default() })
}

fn chat(model: &Arc<Model>, options: ChatOptions) -> Result<Arc<Chat>, ApiError> {
    Chat::new(Arc::clone(model), ChatOptions { sampling: greedy(), max_tokens: Some(20), ..options })
}

fn answer(chat: &Chat, options: AnswerOptions) -> Result<Reply, ApiError> {
    chat.answer_with("hello", options, |_| {})
}

#[test]
fn options_hold_for_one_answer() {
    let bench = Bench::new();
    let model = bench.model();
    let whole = greedily(&bench, PromptFormat::Chat, "hello", 20);
    let begin = chat(&model, ChatOptions::default()).unwrap();
    let reply = answer(&begin, AnswerOptions { max_tokens: Some(3), ..AnswerOptions::default() }).unwrap();
    assert_eq!((reply.tokens, reply.finish, reply.complete), (3, Finish::Length, false));
    begin.clear();
    let reply = answer(&begin, AnswerOptions::default()).unwrap();
    assert_eq!(reply.text, whole);
    let stop: String = whole.chars().skip(4).take(2).collect();
    let before = whole.split(&stop).next().unwrap();
    begin.clear();
    let reply =
        answer(&begin, AnswerOptions { stop: vec![stop.clone()], ..AnswerOptions::default() }).unwrap();
    assert_eq!((&*reply.text, reply.finish, reply.complete), (before, Finish::Stop, true));
    let all = chat(&model, ChatOptions { stop: vec![stop], ..ChatOptions::default() }).unwrap();
    assert_eq!(answer(&all, AnswerOptions::default()).unwrap().text, before);
    let empty = || vec![String::new()];
    assert!(chat(&model, ChatOptions { stop: empty(), ..ChatOptions::default() }).is_err());
    let error = answer(&all, AnswerOptions { stop: empty(), ..AnswerOptions::default() }).unwrap_err();
    assert!(error.to_string().contains("empty"), "{error}");
    let error = answer(&all, AnswerOptions { log_probabilities: Some(21), ..AnswerOptions::default() });
    assert!(error.unwrap_err().to_string().contains("at most 20"));
    assert_eq!(all.history().len(), 2, "a refused message is not in the conversation");
}

#[test]
fn a_chat_continues_from_the_apps_own_messages() {
    let bench = Bench::new();
    let model = bench.model();
    let begun =
        chat(&model, ChatOptions { system: Some("Be brief.".to_owned()), ..ChatOptions::default() }).unwrap();
    let first = answer(&begun, AnswerOptions::default()).unwrap().text;
    let second = begun.answer("and then?", |_| {}).unwrap();
    let messages = vec![Message::user("hello"), Message::assistant(first), Message::user("and then?")];
    let with = |messages: &[Message]| {
        let (system, messages) = (Some("Be brief.".to_owned()), messages.to_vec());
        chat(&model, ChatOptions { system, messages, ..ChatOptions::default() })
    };
    let again = with(&messages[..2]).unwrap();
    assert_eq!((again.history().len(), again.unanswered()), (2, None));
    assert_eq!(again.answer("and then?", |_| {}).unwrap().text, second.text);
    let waiting = with(&messages).unwrap();
    assert_eq!((waiting.history().len(), waiting.unanswered().as_deref()), (2, Some("and then?")));
    let (listener, heard) = collector(Box::new(|_| Ok(())));
    waiting.retry(listener, None);
    assert_eq!(rest(&heard).unwrap().1.text, second.text);
    assert_eq!(waiting.history(), begun.history());
    assert_eq!(waiting.unanswered(), None);
    for (wrong, expected) in [
        (vec![Message::assistant("a")], "message 1: expected a message of the user"),
        (vec![Message::user("a"), Message::user("b")], "message 2: expected the model's answer"),
    ] {
        let error = with(&wrong).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn reasoning_of_messages_is_where_it_was() {
    let bench = Bench::new();
    let thought = Message { reasoning: "hm\nwell".to_owned(), ..Message::assistant("yes") };
    let messages = vec![Message::user("a"), thought];
    let chat = chat(&bench.model(), ChatOptions { messages: messages.clone(), ..ChatOptions::default() });
    assert_eq!(chat.unwrap().history(), messages);
}

#[test]
fn a_biased_token_is_drawn_or_not() {
    let bench = Bench::new();
    let model = bench.model();
    let biased = |token: u32, bias: f32| {
        let sampling = Sampling { logit_bias: [(token, bias)].into(), ..greedy().unwrap() };
        Chat::new(Arc::clone(&model), ChatOptions { sampling: Some(sampling), ..ChatOptions::default() })
    };
    let options =
        || AnswerOptions { max_tokens: Some(1), log_probabilities: Some(2), ..AnswerOptions::default() };
    let free = answer(&chat(&model, ChatOptions::default()).unwrap(), options()).unwrap();
    let [first, second] = &free.log_probabilities[0].alternatives[..] else { panic!("{free:?}") };
    assert_eq!(free.log_probabilities[0].token, first.token);
    let banned = answer(&biased(first.token, f32::NEG_INFINITY).unwrap(), options()).unwrap();
    assert_eq!(banned.log_probabilities[0].token, second.token);
    // They are the model's own: the bias is not in them.
    assert_eq!(banned.log_probabilities[0].log_probability, second.log_probability);
    let forced = answer(&biased(5, 1e6).unwrap(), options()).unwrap();
    assert_eq!(forced.log_probabilities[0].token, 5);
    assert!(biased(u32::MAX, 1.0).unwrap_err().to_string().contains("ids below"));
    assert!(biased(5, f32::NAN).is_err());
    let sampling = Some(Sampling { min_p: Some(2.0), ..Sampling::default() });
    assert!(Chat::new(model, ChatOptions { sampling, ..ChatOptions::default() }).is_err());
}

#[test]
fn log_probabilities_are_those_of_the_text() {
    let bench = Bench::new();
    let model = bench.model();
    let options = CompletionOptions {
        sampling: greedy(),
        max_tokens: Some(8),
        log_probabilities: Some(0),
        ..CompletionOptions::default()
    };
    let (_completion, heard) = completion::complete(&model, "hello", options);
    let reply = rest(&heard).unwrap().1;
    assert_eq!(reply.log_probabilities.len(), reply.tokens as usize);
    let tokens: Vec<u32> = reply.log_probabilities.iter().map(|token| token.token).collect();
    assert_eq!(model.detokenize(tokens.clone()).unwrap(), reply.text);
    let scored = model.log_probabilities("hello".to_owned(), reply.text, 1).unwrap();
    assert!(scored.iter().all(|token| token.log_probability < 0.0));
    // The same tokens, if the tokenizer cuts the text as the model wrote it.
    if scored.iter().map(|token| token.token).collect::<Vec<_>>() == tokens {
        for (scored, drawn) in scored.iter().zip(&reply.log_probabilities) {
            assert!((scored.log_probability - drawn.log_probability).abs() < 1e-4);
            assert_eq!(scored.alternatives[0].token, drawn.token);
        }
    }
    let total: f32 = model.log_probabilities("a".to_owned(), "b".to_owned(), 20).unwrap()[0]
        .alternatives
        .iter()
        .map(|token| token.log_probability.exp())
        .sum();
    assert!(total > 0.0 && total <= 1.0001, "{total}");
    let long = "word ".repeat(10_000);
    assert!(matches!(model.log_probabilities("a".to_owned(), long, 0), Err(ApiError::ContextFull { .. })));
    assert!(model.log_probabilities("a".to_owned(), "b".to_owned(), 21).is_err());
    assert!(model.log_probabilities("a".to_owned(), String::new(), 0).unwrap().is_empty());
}

#[test]
fn tokens_become_text_again() {
    let bench = Bench::new();
    let model = bench.model();
    for text in ["", "hello, world", "é🙂"] {
        assert_eq!(model.detokenize(model.tokens(text.to_owned()).unwrap()).unwrap(), text);
    }
    let tokens = model.tokens("🙂".to_owned()).unwrap();
    if tokens.len() > 1 {
        assert!(model.detokenize(tokens[..1].to_vec()).unwrap().contains('\u{fffd}'));
    }
    assert!(model.detokenize(vec![u32::MAX]).unwrap_err().to_string().contains("expected ids below"));
}
