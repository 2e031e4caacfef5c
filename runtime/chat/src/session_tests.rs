//! Chat sessions with a scripted model: one token is one byte, a message is `ROLE text;`.

use super::{ChatError, ChatEvent, ChatModel, ChatPrompt, ChatSession, Conversation, End, Token, Turn};
use crate::{CPU_PREFILL, ChatMessage};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use thimble_runtime::chat::{Message, Role};
use thimble_runtime::sampler::{LikelyToken, SampledToken, TokenMask};

pub(super) struct Parrot {
    context: usize,
    pub(super) cache: Vec<Token>,
    computed: usize,
    script: Vec<u8>,
    next: usize,
    bytes: Vec<[u8; 1]>,
    /// Bytes that were encoded.
    encoded: Cell<usize>,
    /// The token sampled last, if log-probabilities are kept.
    sampled: Option<[LikelyToken; 1]>,
}

const STOP: u8 = b'$';

impl Parrot {
    fn new(context: usize, script: &str) -> Parrot {
        let bytes = (0..=255).map(|byte| [byte]).collect();
        Parrot {
            context,
            cache: vec![],
            computed: 0,
            script: script.into(),
            next: 0,
            bytes,
            encoded: Cell::new(0),
            sampled: None,
        }
    }
}

impl ChatModel for Parrot {
    fn context(&self) -> usize {
        self.context
    }

    fn encode(&self, prompt: &ChatPrompt<'_>) -> Result<Vec<Token>, ChatError> {
        let letter = |role| match role {
            Role::System => "S",
            Role::User => "U",
            Role::Assistant => "A",
            Role::Tool => "T",
        };
        let said = |message: &ChatMessage<'_>| {
            let calls: String = message.calls.iter().map(|call| format!("<{}>", call.id)).collect();
            format!("{}{}{calls};", letter(message.role), message.text)
        };
        let text: String = prompt.messages.iter().map(said).collect();
        self.encoded.set(self.encoded.get() + text.len());
        let answer = if prompt.thinking == Some(true) { "A<think>\n" } else { "A" };
        Ok((text + answer).bytes().map(|byte| Token(byte.into())).collect())
    }

    fn reuse(&mut self, tokens: &[Token]) -> usize {
        let most = tokens.len().saturating_sub(1);
        let common = self.cache.iter().zip(&tokens[..most]).take_while(|(a, b)| a == b).count();
        self.cache.truncate(common);
        common
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        self.cache.extend(tokens);
        self.computed += tokens.len();
        assert!(self.cache.len() <= self.context, "the context is never exceeded");
        Ok(())
    }

    fn sample(&mut self) -> Token {
        let byte = self.script.get(self.next).copied().unwrap_or(STOP);
        self.next += 1;
        if let Some(sampled) = &mut self.sampled {
            *sampled = [LikelyToken { token: Token(byte.into()), log_probability: -1.0 }];
        }
        Token(byte.into())
    }

    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token> {
        let token = self.sample();
        if mask.allows(token) { Some(token) } else { mask.first(256) }
    }

    fn sampled(&self) -> Option<SampledToken<'_>> {
        let alternatives = self.sampled.as_ref()?;
        let [LikelyToken { token, log_probability }] = *alternatives;
        Some(SampledToken { token, log_probability, alternatives })
    }

    fn bytes(&self, token: Token) -> &[u8] {
        &self.bytes[token.index()]
    }

    fn is_stop(&self, token: Token) -> bool {
        token.0 == u32::from(STOP)
    }
}

pub(super) fn session(context: usize, script: &str) -> ChatSession<Parrot> {
    let model = Parrot::new(context, script);
    ChatSession {
        model,
        conversation: Conversation::default(),
        thinking: None,
        max_tokens: None,
        stops: Vec::new(),
        tools: None,
        constraint: None,
    }
}

/// The answer's end, its text, and how many turns were forgotten.
fn ask(session: &mut ChatSession<Parrot>, user: &str) -> Result<(End, String, usize), ChatError> {
    let (mut text, mut forgot) = (String::new(), 0);
    let answer = session.answer::<ChatError>(user, &AtomicBool::new(false), &mut |event| {
        match event {
            ChatEvent::Text(piece) => text.push_str(piece),
            ChatEvent::Dropped { turns } => forgot += turns,
            ChatEvent::Call(_)
            | ChatEvent::InvalidCall(_)
            | ChatEvent::Prefill { .. }
            | ChatEvent::Sampled(_) => {}
        }
        Ok(())
    })?;
    Ok((answer.end, text, forgot))
}

#[test]
fn the_conversation_is_remembered_and_computed_once() {
    let mut talk = session(200, "one$two$");
    assert_eq!(ask(&mut talk, "1?").unwrap(), (End::Stop, "one".to_string(), 0));
    let before = talk.model.computed;
    assert_eq!(ask(&mut talk, "2?").unwrap(), (End::Stop, "two".to_string(), 0));
    let cached: String = talk.model.cache.iter().map(|t| t.0 as u8 as char).collect();
    assert_eq!(cached, "U1?;Aone;U2?;Atwo");
    assert_eq!(talk.model.computed - before, ";U2?;Atwo".len(), "the prefix came from the cache");
}

#[test]
fn reasoning_that_the_prompt_opens_has_its_tag_too() {
    let mut talk = session(200, "hm</think>one$two$");
    talk.thinking = Some(true);
    assert_eq!(ask(&mut talk, "1?").unwrap().1, "<think>\nhm</think>one");
    assert_eq!(talk.conversation.turns[0].answer, "<think>\nhm</think>one");
    talk.thinking = None;
    assert_eq!(ask(&mut talk, "2?").unwrap().1, "two");
    // Nothing but the tag is no answer, and an answer that goes on does not show it again.
    let mut talk = session(200, "$");
    talk.thinking = Some(true);
    assert_eq!(ask(&mut talk, "1?").unwrap().1, "");
    let mut talk = session(200, "b$");
    talk.thinking = Some(true);
    let mut tokens = vec![Token(b'a'.into())];
    let mut text = String::new();
    let mut show = |event: ChatEvent<'_>| {
        if let ChatEvent::Text(piece) = event {
            text.push_str(piece);
        }
        Ok::<(), ChatError>(())
    };
    talk.continue_answer("1?", &mut tokens, &AtomicBool::new(false), &mut show).unwrap();
    assert_eq!((text.as_str(), talk.conversation.turns[0].answer.as_str()), ("b", "<think>\nab"));
}

#[test]
fn the_oldest_turns_give_way_and_it_is_told() {
    let mut talk = session(64, &"answer$".repeat(50));
    let mut forgot = 0;
    for number in 0..20 {
        let (end, text, turns) = ask(&mut talk, &format!("message {number}")).unwrap();
        assert_eq!((end, text.as_str()), (End::Stop, "answer"));
        forgot += turns;
    }
    assert_eq!(forgot + talk.conversation.turns.len(), 20);
    assert!(forgot > 10);
    assert_eq!(talk.conversation.turns.last().unwrap().user, "message 19");
}

#[test]
fn a_message_longer_than_the_context_is_refused_with_figures() {
    let mut talk = session(64, "yes$no$");
    ask(&mut talk, "before").unwrap();
    let remembered = talk.conversation.clone();
    let sentence = ask(&mut talk, &"x".repeat(100)).unwrap_err().to_string();
    assert!(sentence.contains("103 tokens") && sentence.contains("room for 63"), "{sentence}");
    assert_eq!(talk.conversation, remembered);
    assert_eq!(ask(&mut talk, "after").unwrap().1, "no");
}

#[test]
fn an_answer_may_push_out_old_turns_while_it_is_made() {
    let mut talk = session(64, &format!("first$second$third$ 4:{}$", "z".repeat(30)));
    for user in ["a", "b", "c"] {
        ask(&mut talk, user).unwrap();
    }
    let (end, text, forgot) = ask(&mut talk, "d").unwrap();
    assert_eq!((end, text), (End::Stop, format!(" 4:{}", "z".repeat(30))));
    assert!(forgot > 0);
}

#[test]
fn an_endless_answer_ends_with_the_context() {
    let mut talk = session(64, &"z".repeat(1000));
    let (end, text, _) = ask(&mut talk, "go").unwrap();
    assert_eq!((end, text.len()), (End::Context, 64 - "Ugo;A".len()));
    let mut talk = session(64, &"z".repeat(1000));
    talk.max_tokens = Some(7);
    assert_eq!(ask(&mut talk, "go").unwrap().0, End::Length);
}

#[test]
fn an_answer_ends_in_front_of_a_stop_sequence() {
    let mut talk = session(200, "one two\nUser: three$and four\nUse$");
    talk.stops = vec!["\nUser:".to_string()];
    assert_eq!(ask(&mut talk, "a").unwrap(), (End::Stop, "one two".to_string(), 0));
    assert_eq!(talk.conversation.turns[0].answer, "one two");
    // What only begins like one is text.
    talk.model.next = "one two\nUser: three$".len();
    assert_eq!(ask(&mut talk, "b").unwrap(), (End::Stop, "and four\nUse".to_string(), 0));
    talk.stops.push(String::new());
    assert!(matches!(ask(&mut talk, "c"), Err(ChatError::Stops(_))));
}

#[test]
fn each_token_comes_before_its_text() {
    let mut talk = session(200, "a\u{e9}!stop$");
    talk.stops = vec!["stop".to_string()];
    talk.model.sampled = Some(Default::default());
    let (mut events, go) = (Vec::new(), AtomicBool::new(false));
    let answer = talk.answer::<ChatError>("x", &go, &mut |event| {
        events.push(match event {
            ChatEvent::Sampled(SampledToken { token, log_probability, alternatives }) => {
                assert_eq!(alternatives, [LikelyToken { token, log_probability }]);
                format!("{:x}", token.0)
            }
            ChatEvent::Text(text) => text.to_string(),
            other => panic!("{other:?}"),
        });
        Ok(())
    });
    assert_eq!(answer.unwrap().end, End::Stop);
    // The token that ends the answer has no text, and no event; those of a stop sequence have one.
    assert_eq!(events, ["61", "a", "c3", "a9", "\u{e9}", "21", "!", "73", "74", "6f", "70"]);
}

#[test]
fn messages_replace_the_conversation_and_share_its_beginning() {
    let go = AtomicBool::new(false);
    let mut talk = session(200, "one$two$three$");
    ask(&mut talk, "q").unwrap();
    let message = |role, text| Message { role, text };
    let (user, assistant) = (|text| message(Role::User, text), |text| message(Role::Assistant, text));
    let mut ask_after = |messages: &[Message<'_>]| {
        let mut text = String::new();
        let answer = talk.answer_messages::<ChatError>(messages, &go, &mut |event| {
            if let ChatEvent::Text(piece) = event {
                text.push_str(piece);
            }
            Ok(())
        });
        (answer.unwrap().reused, text, talk.conversation.clone())
    };
    // All of "Uq;Aone;" was computed, except for the mark at the end of the answer.
    let (reused, text, _) = ask_after(&[user("q"), assistant("one"), user("r")]);
    assert_eq!((reused, text.as_str()), ("Uq;Aone".len(), "two"));
    let system = message(Role::System, "s");
    let (reused, text, conversation) = ask_after(&[system, user("q"), assistant("edited"), user("r")]);
    assert_eq!((reused, text.as_str()), (0, "three"));
    let turn = |user: &str, answer: &str| Turn { answer: answer.to_string(), ..Turn::new(user) };
    let turns = vec![turn("q", "edited"), turn("r", "three")];
    assert_eq!(conversation, Conversation { system: Some("s".to_string()), turns });
    let refused = talk.answer_messages::<ChatError>(&[assistant("a")], &go, &mut |_| Ok(()));
    assert!(matches!(refused, Err(ChatError::Messages(_))));
    let stopped = AtomicBool::new(true);
    let nothing = talk.answer_messages::<ChatError>(&[user("b")], &stopped, &mut |_| Ok(())).unwrap();
    assert!(!nothing.remembered && talk.conversation == conversation);
}

#[test]
fn an_interrupted_answer_is_kept_as_far_as_it_came() {
    let mut talk = session(200, "hello$");
    let stop = AtomicBool::new(false);
    let answer = talk.answer::<ChatError>("x", &stop, &mut |event| {
        if event == ChatEvent::Text("l") {
            stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    });
    assert_eq!(answer.unwrap().end, End::Interrupted);
    assert_eq!(talk.conversation.turns[0].answer, "hel");
    let answer = talk.answer::<ChatError>("y", &stop, &mut |_| Ok(())).unwrap();
    assert_eq!((answer.end, talk.conversation.turns.len()), (End::Interrupted, 1));
}

#[test]
fn characters_cut_between_tokens_are_whole() {
    let mut talk = session(200, "é🙂$");
    assert_eq!(ask(&mut talk, "x").unwrap().1, "é🙂");
}

#[test]
fn retry_takes_back_the_last_turn() {
    let mut talk = session(200, "one$two$");
    ask(&mut talk, "q").unwrap();
    let turn = talk.pop_turn().unwrap();
    assert_eq!((turn.user.as_str(), talk.pop_turn()), ("q", None));
    assert_eq!(ask(&mut talk, &turn.user).unwrap().1, "two");
}

#[test]
fn a_message_taken_back_costs_no_turns() {
    let mut talk = session(1000, &"answer$".repeat(9));
    for number in 0..9 {
        ask(&mut talk, &format!("{number} {}", "x".repeat(80))).unwrap();
    }
    let before = talk.conversation.clone();
    let (stop, mut reading, mut forgot) = (AtomicBool::new(false), vec![], 0);
    let answer = talk.answer::<ChatError>(&"y".repeat(600), &stop, &mut |event| {
        match event {
            ChatEvent::Prefill { done, of } => {
                reading.push((done, of));
                stop.store(done > 0, Ordering::Relaxed);
            }
            ChatEvent::Dropped { turns } => forgot += turns,
            event => panic!("{event:?}"),
        }
        Ok(())
    });
    let answer = answer.unwrap();
    assert_eq!((answer.end, answer.remembered), (End::Interrupted, false));
    assert!(forgot > 0, "there was no room for all");
    assert_eq!(talk.conversation, before);
    // The piece at hand was finished; the others were never computed and are not counted.
    assert_eq!(answer.prefilled, 2 * CPU_PREFILL);
    assert!(reading.len() == 2 && reading[1] == (CPU_PREFILL, reading[0].1), "{reading:?}");
    assert!(answer.reused + answer.prefilled < reading[0].1);
}

/// A conversation much longer than the context is fitted by looking at its end only.
#[test]
fn a_long_history_costs_no_more_than_a_short_one() {
    let cost = |turns: usize| {
        let mut talk = session(1000, "ok$");
        talk.conversation.turns = (0..turns)
            .map(|turn| Turn { answer: "z".repeat(turn % 60), ..Turn::new(format!("question {turn}")) })
            .collect();
        let (end, text, forgot) = ask(&mut talk, "new").unwrap();
        assert_eq!((end, text.as_str()), (End::Stop, "ok"));
        // As many as fit into three quarters: the next one, of 80 bytes at most, would not.
        let bytes = talk.conversation.bytes(0) + 4 * talk.conversation.turns.len();
        assert!((750 - 80..750).contains(&bytes), "{bytes} bytes after {forgot} turns were forgotten");
        talk.model.encoded.get()
    };
    let (short, long) = (cost(200), cost(20_000));
    assert!(long <= short + 1000, "{short} bytes were encoded for 200 turns, {long} for 20,000");
}

#[test]
fn fitting_a_long_history_can_be_stopped() {
    let mut talk = session(1000, "ok$");
    talk.conversation.turns = vec![Turn { answer: "a".repeat(50), ..Turn::new("u".repeat(50)) }; 5000];
    let before = talk.conversation.clone();
    let answer = talk.answer::<ChatError>("new", &AtomicBool::new(true), &mut |_| Ok(())).unwrap();
    assert_eq!((answer.end, answer.remembered, talk.model.computed), (End::Interrupted, false, 0));
    assert_eq!(talk.conversation, before);
}

#[test]
fn an_answer_tells_whether_it_is_remembered() {
    // An empty answer that the model ended is one.
    let mut talk = session(200, "$one$");
    let go = AtomicBool::new(false);
    let answer = talk.answer::<ChatError>("a", &go, &mut |_| Ok(())).unwrap();
    assert!(answer.remembered && answer.decoded == 0);
    let stopped = AtomicBool::new(true);
    assert!(!talk.answer::<ChatError>("b", &stopped, &mut |_| Ok(())).unwrap().remembered);
    assert_eq!(talk.conversation.turns.len(), 1);
}
