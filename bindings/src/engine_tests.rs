//! The hand-over between callers and the engine's thread, with a scripted voice in place of a model. Small, so that miri
//! can run it with many schedules: it finds data races, and calls that wait for each other for ever.

use super::*;
use crate::Finish;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use thimble_host::chat::{ChatError, Role};
use thimble_runtime::Token;

/// Says the alphabet, `length` tokens of it; every token is a byte.
struct Alphabet {
    length: usize,
    said: usize,
    computed: usize,
}

const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const STOP: Token = Token(255);
/// A message that the voice breaks at.
const BREAK: &str = "break";

impl Voice for Alphabet {
    fn context(&self) -> usize {
        10_000
    }

    fn encode(&self, messages: &[(Role, &str)]) -> Result<Vec<Token>, ChatError> {
        assert_ne!(messages.last().map(|message| message.1), Some(BREAK));
        Ok(messages.iter().flat_map(|(_, text)| text.bytes()).map(|byte| Token(byte.into())).collect())
    }

    fn reuse(&mut self, _tokens: &[Token]) -> usize {
        (self.computed, self.said) = (0, 0);
        0
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        self.computed += tokens.len();
        Ok(())
    }

    fn sample(&mut self) -> Token {
        self.said += 1;
        if self.said > self.length { STOP } else { Token((self.said as u32 - 1) % 26) }
    }

    fn bytes(&self, token: Token) -> &[u8] {
        &LETTERS[token.index()..=token.index()]
    }

    fn is_stop(&self, token: Token) -> bool {
        token == STOP
    }
}

struct Fake {
    length: usize,
    /// How many more sessions cannot be begun.
    failures: AtomicUsize,
}

impl Studio for Fake {
    fn enter(&self, work: &mut dyn FnMut(&mut dyn Voice, &Pool)) -> Result<(), ApiError> {
        let less = |left: usize| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Err(ApiError::other("no memory"));
        }
        let pool = Pool::new(1).unwrap();
        work(&mut Alphabet { length: self.length, said: 0, computed: 0 }, &pool);
        Ok(())
    }
}

/// What a listener heard; it counts ends of either kind.
#[derive(Debug)]
enum Heard {
    Piece(String),
    End(Reply),
    Error(ApiError),
}

struct Ear {
    heard: Sender<Heard>,
    /// The piece that it panics at.
    fails_at: Option<&'static str>,
}

impl Listener for Ear {
    fn on_piece(&self, text: String) -> Result<(), ListenerError> {
        let fails = self.fails_at == Some(&*text);
        let _ = self.heard.send(Heard::Piece(text));
        assert!(!fails, "as a listener may");
        Ok(())
    }
    fn on_progress(&self, _done: u32, _of: u32) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_end(&self, reply: Reply) -> Result<(), ListenerError> {
        let _ = self.heard.send(Heard::End(reply));
        Ok(())
    }
    fn on_error(&self, error: ApiError) -> Result<(), ListenerError> {
        let _ = self.heard.send(Heard::Error(error));
        Ok(())
    }
}

fn engine(length: usize, failures: usize) -> Engine {
    let studio = Box::new(Fake { length, failures: AtomicUsize::new(failures) });
    let desk = Desk { studio, max_tokens: 1000, stops: Vec::new(), journal: None };
    Engine::start("test", Conversation::default(), 1, desk).unwrap()
}

fn ask(engine: &Engine, text: &str) -> Receiver<Heard> {
    let (heard, receiver) = channel();
    engine.ask(Some(text.to_owned()), Arc::new(Ear { heard, fails_at: None }));
    receiver
}

/// Everything that a listener heard until the engine let go of it: pieces, then exactly one end.
fn all(heard: Receiver<Heard>) -> (String, Result<Reply, ApiError>) {
    let mut text = String::new();
    let mut end = None;
    for heard in heard {
        assert!(end.is_none(), "nothing comes after the end: {heard:?}");
        match heard {
            Heard::Piece(piece) => text.push_str(&piece),
            Heard::End(reply) => {
                assert_eq!(reply.text, text);
                end = Some(Ok(reply));
            }
            Heard::Error(error) => end = Some(Err(error)),
        }
    }
    (text, end.unwrap())
}

fn users(engine: &Engine) -> Vec<String> {
    engine.conversation().turns.into_iter().map(|turn| turn.user).collect()
}

#[test]
fn answers_come_in_order_from_any_thread() {
    let engine = engine(5, 0);
    let heard: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| ask(&engine, "x"))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for heard in heard {
        let (text, end) = all(heard);
        assert_eq!((&*text, end.unwrap().finish), ("abcde", Finish::Stop));
    }
    assert_eq!(users(&engine), ["x", "x"]);
    assert_eq!(engine.stats().tokens, 5);
}

#[test]
fn a_cancelled_answer_ends_wherever_it_is() {
    let engine = engine(60, 0);
    for _ in 0..2 {
        let (first, second) = (ask(&engine, "x"), ask(&engine, "y"));
        std::thread::scope(|scope| {
            scope.spawn(|| engine.cancel());
        });
        for heard in [first, second] {
            let (text, end) = all(heard);
            let finish = end.unwrap().finish;
            assert!(finish == Finish::Cancelled || text.len() == 60 && finish == Finish::Stop, "{finish:?}");
        }
    }
    assert!(all(ask(&engine, "z")).1.is_ok_and(|reply| reply.text.len() == 60));
}

#[test]
fn one_answer_is_cancelled_and_the_others_are_not() {
    let engine = engine(4, 0);
    engine.pause(true);
    let asked = |text: &str| {
        let (heard, receiver) = channel();
        let listener = Arc::new(Ear { heard, fails_at: None });
        (engine.ask(Some(text.to_owned()), listener), receiver)
    };
    let (first, second, third) = (asked("x"), asked("y"), asked("z"));
    // The one at hand while it is paused, and one that waits.
    std::thread::scope(|scope| {
        scope.spawn(|| first.0.cancel());
        third.0.cancel();
    });
    assert_eq!(all(first.1).1.unwrap().finish, Finish::Cancelled);
    engine.pause(false);
    assert_eq!(all(second.1).0, "abcd");
    assert_eq!(all(third.1).1.unwrap().finish, Finish::Cancelled);
    // The others are complete: nothing happens.
    second.0.cancel();
    assert_eq!(all(ask(&engine, "w")).0, "abcd");
}

#[test]
fn a_dropped_engine_ends_every_answer() {
    let heard: Vec<_> = {
        let engine = engine(60, 0);
        engine.pause(true);
        (0..3).map(|_| ask(&engine, "x")).collect()
    };
    for heard in heard {
        assert_eq!(all(heard).1.unwrap().finish, Finish::Cancelled);
    }
}

#[test]
fn a_paused_answer_goes_on_or_is_cancelled() {
    let engine = engine(4, 0);
    std::thread::scope(|scope| {
        engine.pause(true);
        let heard = ask(&engine, "x");
        scope.spawn(|| engine.pause(false));
        assert_eq!(all(heard).0, "abcd");
    });
    std::thread::scope(|scope| {
        engine.pause(true);
        let heard = ask(&engine, "x");
        scope.spawn(|| engine.cancel());
        assert_eq!(all(heard).1.unwrap().finish, Finish::Cancelled);
    });
}

#[test]
fn another_conversation_takes_the_place_at_once() {
    let engine = engine(60, 0);
    let heard = ask(&engine, "old");
    assert!(heard.recv().is_ok());
    engine.replace(|_| Conversation { system: Some("new".to_owned()), turns: Vec::new() });
    // Whatever the thread is about with the old one.
    assert_eq!((users(&engine).len(), engine.conversation().system.as_deref()), (0, Some("new")));
    let old = heard.into_iter().last();
    assert!(matches!(old, Some(Heard::End(_))), "{old:?}");
    assert_eq!(users(&engine).len(), 0);
    assert!(all(ask(&engine, "x")).1.is_ok());
    assert_eq!(users(&engine), ["x"]);
}

#[test]
fn memory_is_given_back_and_taken_again() {
    let engine = engine(3, 0);
    for _ in 0..2 {
        let heard = ask(&engine, "x");
        engine.free();
        engine.save_power(true);
        assert_eq!(all(heard).0, "abc");
    }
    let (heard, receiver) = channel();
    engine.ask(None, Arc::new(Ear { heard, fails_at: None }));
    assert_eq!(all(receiver).0, "abc");
    assert_eq!(users(&engine), ["x", "x"]);
}

/// Holds the engine at its first piece until it is let go.
struct Holder {
    ear: Ear,
    go: std::sync::Mutex<Receiver<()>>,
}

impl Listener for Holder {
    fn on_piece(&self, text: String) -> Result<(), ListenerError> {
        let done = self.ear.on_piece(text);
        let _ = self.go.lock().unwrap().recv();
        done
    }
    fn on_progress(&self, _done: u32, _of: u32) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_end(&self, reply: Reply) -> Result<(), ListenerError> {
        self.ear.on_end(reply)
    }
    fn on_error(&self, error: ApiError) -> Result<(), ListenerError> {
        self.ear.on_error(error)
    }
}

#[test]
fn memory_is_given_back_while_work_waits_and_the_answer_goes_on() {
    for cancel in [false, true] {
        let engine = engine(5, 0);
        let ((heard, receiver), (held, go)) = (channel(), channel());
        let ear = Ear { heard, fails_at: None };
        let answer = engine.ask(Some("x".to_owned()), Arc::new(Holder { ear, go: go.into() }));
        let first = receiver.recv().unwrap();
        engine.pause(true);
        engine.free();
        drop(held);
        while engine.shared.gate.is_wanted() {
            std::thread::yield_now();
        }
        if cancel {
            answer.cancel();
        } else {
            engine.pause(false);
        }
        let (mut text, mut end) = (String::new(), None);
        for heard in [first].into_iter().chain(receiver) {
            match heard {
                Heard::Piece(piece) => text.push_str(&piece),
                Heard::End(reply) => end = Some(reply),
                Heard::Error(error) => panic!("{error}"),
            }
        }
        // A new session's voice begins its alphabet anew: the answer goes on behind what was shown.
        assert_eq!(text, if cancel { "a" } else { "aabcde" });
        assert_eq!(end.unwrap().text, text);
        assert_eq!(engine.conversation().turns[0].answer, text);
    }
}

#[test]
fn a_failure_is_told_and_the_next_message_is_answered() {
    let engine = engine(3, 1);
    assert!(all(ask(&engine, "x")).1.is_err_and(|error| error.to_string() == "no memory"));
    assert_eq!(all(ask(&engine, "x")).0, "abc");
    // A listener that panics stops its answer, and nothing else.
    let (heard, receiver) = channel();
    engine.ask(Some("y".to_owned()), Arc::new(Ear { heard, fails_at: Some("b") }));
    let (text, end) = all(receiver);
    assert_eq!((&*text, end.unwrap().finish), ("ab", Finish::Cancelled));
    assert_eq!(users(&engine), ["x", "y"]);
    // So does a voice.
    let (first, second) = (ask(&engine, BREAK), ask(&engine, "z"));
    assert!(all(first).1.is_err_and(|error| error.to_string().contains("engine")));
    assert_eq!(all(second).0, "abc");
    assert_eq!(users(&engine), ["x", "y", "z"]);
}

#[test]
fn who_waits_until_all_is_idle_is_called_no_more() {
    let engine = engine(20, 0);
    let (heard, receiver) = channel();
    let ear = Arc::new(Ear { heard, fails_at: None });
    let theirs = Arc::downgrade(&ear);
    engine.ask(Some("x".to_owned()), ear);
    engine.cancel();
    // Other tests of this process are at work too.
    while !crate::wait_until_idle(60_000) {}
    assert_eq!(theirs.strong_count(), 0);
    assert!(all(receiver).1.is_ok());
}
