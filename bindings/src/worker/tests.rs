//! The hand-over between callers and the worker's thread, with a script in place of a model. Small, so that miri
//! can run it with many schedules: it finds data races, and calls that wait for each other for ever.

mod cancelled;

use super::*;
use crate::{Finish, ListenerError, Reply};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use thimble_chat::{ChatError, ChatModel, ChatPrompt};
use thimble_host::SpinPool;
use thimble_runtime::Token;
use thimble_runtime::sampler::TokenMask;

/// Says the alphabet, `length` tokens of it; every token is a byte.
struct Alphabet {
    length: usize,
    said: usize,
    computed: usize,
}

const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const STOP: Token = Token(255);
/// A message that the model breaks at.
const BREAK: &str = "break";

impl ChatModel for Alphabet {
    fn context(&self) -> usize {
        10_000
    }

    fn encode(&self, prompt: &ChatPrompt<'_>) -> Result<Vec<Token>, ChatError> {
        assert_ne!(prompt.last_text(), BREAK);
        let bytes = prompt.messages.iter().flat_map(|message| message.text.bytes());
        Ok(bytes.map(|byte| Token(byte.into())).collect())
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

    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token> {
        Some(self.sample()).filter(|&token| mask.allows(token))
    }

    fn bytes(&self, token: Token) -> &[u8] {
        // The tokens of a prompt are other bytes.
        LETTERS.get(token.index()..=token.index()).unwrap_or(&[])
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

impl SessionSource for Fake {
    fn with_session(&self, work: &mut dyn FnMut(&mut dyn ChatModel, &SpinPool)) -> Result<(), ApiError> {
        let less = |left: usize| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Err(ApiError::other("no memory"));
        }
        let pool = SpinPool::new(1).unwrap();
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

struct Collector {
    heard: Sender<Heard>,
    /// The piece that it panics at.
    fails_at: Option<&'static str>,
}

impl Listener for Collector {
    fn on_piece(&self, text: String) -> Result<(), ListenerError> {
        let fails = self.fails_at == Some(&*text);
        let _ = self.heard.send(Heard::Piece(text));
        assert!(!fails, "as a listener may");
        Ok(())
    }
    fn on_reasoning(&self, _text: String) -> Result<(), ListenerError> {
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

fn worker(length: usize, failures: usize) -> Worker {
    let sessions = Box::new(Fake { length, failures: failures.into() });
    let (max_tokens, stops) = (1000, Vec::new());
    let options = WorkerOptions { sessions, thinking: None, max_tokens, stops, journal: None };
    Worker::start("test", Conversation::default(), 1, options).unwrap()
}

fn send(worker: &Worker, text: Option<&str>, listener: Arc<dyn Listener>) -> AnswerHandle {
    let ask = text.map_or(Ask::Again, |text| Ask::Message(text.to_owned()));
    worker.ask(ask, AnswerOptions::default(), listener)
}

fn ask(worker: &Worker, text: &str) -> Receiver<Heard> {
    let (heard, receiver) = channel();
    send(worker, Some(text), Arc::new(Collector { heard, fails_at: None }));
    receiver
}

/// Everything that a listener received until the worker dropped it: pieces, then exactly one end.
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

fn users(worker: &Worker) -> Vec<String> {
    worker.conversation().turns.into_iter().map(|turn| turn.user).collect()
}

#[test]
fn answers_come_in_order_from_any_thread() {
    let worker = worker(5, 0);
    let heard: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| ask(&worker, "x"))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for heard in heard {
        let (text, end) = all(heard);
        assert_eq!((&*text, end.unwrap().finish), ("abcde", Finish::Stop));
    }
    assert_eq!(users(&worker), ["x", "x"]);
    assert_eq!(worker.stats().tokens, 5);
}

#[test]
fn a_cancelled_answer_ends_wherever_it_is() {
    let worker = worker(60, 0);
    for _ in 0..2 {
        let (first, second) = (ask(&worker, "x"), ask(&worker, "y"));
        std::thread::scope(|scope| {
            scope.spawn(|| worker.cancel());
        });
        for heard in [first, second] {
            let (text, end) = all(heard);
            let finish = end.unwrap().finish;
            assert!(finish == Finish::Cancelled || text.len() == 60 && finish == Finish::Stop, "{finish:?}");
        }
    }
    assert!(all(ask(&worker, "z")).1.is_ok_and(|reply| reply.text.len() == 60));
}

#[test]
fn one_answer_is_cancelled_and_the_others_are_not() {
    let worker = worker(4, 0);
    worker.pause(true);
    let asked = |text: &str| {
        let (heard, receiver) = channel();
        let listener = Arc::new(Collector { heard, fails_at: None });
        (send(&worker, Some(text), listener), receiver)
    };
    let (first, second, third) = (asked("x"), asked("y"), asked("z"));
    // The current one while it is paused, and one that waits.
    std::thread::scope(|scope| {
        scope.spawn(|| first.0.cancel());
        third.0.cancel();
    });
    assert_eq!(all(first.1).1.unwrap().finish, Finish::Cancelled);
    worker.pause(false);
    assert_eq!(all(second.1).0, "abcd");
    assert_eq!(all(third.1).1.unwrap().finish, Finish::Cancelled);
    // The others are complete: nothing happens.
    second.0.cancel();
    assert_eq!(all(ask(&worker, "w")).0, "abcd");
}

#[test]
fn a_dropped_worker_ends_every_answer() {
    let heard: Vec<_> = {
        let worker = worker(60, 0);
        worker.pause(true);
        (0..3).map(|_| ask(&worker, "x")).collect()
    };
    for heard in heard {
        assert_eq!(all(heard).1.unwrap().finish, Finish::Cancelled);
    }
}

#[test]
fn a_paused_answer_goes_on_or_is_cancelled() {
    let worker = worker(4, 0);
    std::thread::scope(|scope| {
        worker.pause(true);
        let heard = ask(&worker, "x");
        scope.spawn(|| worker.pause(false));
        assert_eq!(all(heard).0, "abcd");
    });
    std::thread::scope(|scope| {
        worker.pause(true);
        let heard = ask(&worker, "x");
        scope.spawn(|| worker.cancel());
        assert_eq!(all(heard).1.unwrap().finish, Finish::Cancelled);
    });
}

#[test]
fn another_conversation_takes_the_place_at_once() {
    let worker = worker(60, 0);
    let heard = ask(&worker, "old");
    assert!(heard.recv().is_ok());
    worker.replace(|_| Conversation { system: Some("new".to_owned()), turns: Vec::new() });
    // Whatever the thread is about with the old one.
    assert_eq!((users(&worker).len(), worker.conversation().system.as_deref()), (0, Some("new")));
    let old = heard.into_iter().last();
    assert!(matches!(old, Some(Heard::End(_))), "{old:?}");
    assert_eq!(users(&worker).len(), 0);
    assert!(all(ask(&worker, "x")).1.is_ok());
    assert_eq!(users(&worker), ["x"]);
}

#[test]
fn memory_is_given_back_and_taken_again() {
    let worker = worker(3, 0);
    for _ in 0..2 {
        let heard = ask(&worker, "x");
        worker.free();
        worker.save_power(true);
        assert_eq!(all(heard).0, "abc");
    }
    let (heard, receiver) = channel();
    send(&worker, None, Arc::new(Collector { heard, fails_at: None }));
    assert_eq!(all(receiver).0, "abc");
    assert_eq!(users(&worker), ["x", "x"]);
}

/// Holds the worker at its first piece until it is released.
struct Holder {
    collector: Collector,
    go: std::sync::Mutex<Receiver<()>>,
}

impl Listener for Holder {
    fn on_piece(&self, text: String) -> Result<(), ListenerError> {
        let done = self.collector.on_piece(text);
        let _ = self.go.lock().unwrap().recv();
        done
    }
    fn on_reasoning(&self, _text: String) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_progress(&self, _done: u32, _of: u32) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_end(&self, reply: Reply) -> Result<(), ListenerError> {
        self.collector.on_end(reply)
    }
    fn on_error(&self, error: ApiError) -> Result<(), ListenerError> {
        self.collector.on_error(error)
    }
}

#[test]
fn memory_is_given_back_while_work_waits_and_the_answer_goes_on() {
    for cancel in [false, true] {
        let worker = worker(5, 0);
        let ((heard, receiver), (held, go)) = (channel(), channel());
        let collector = Collector { heard, fails_at: None };
        let answer = send(&worker, Some("x"), Arc::new(Holder { collector, go: go.into() }));
        let first = receiver.recv().unwrap();
        worker.pause(true);
        worker.free();
        drop(held);
        while worker.shared.gate.is_wanted() {
            std::thread::yield_now();
        }
        if cancel {
            answer.cancel();
        } else {
            worker.pause(false);
        }
        let (mut text, mut end) = (String::new(), None);
        for heard in [first].into_iter().chain(receiver) {
            match heard {
                Heard::Piece(piece) => text.push_str(&piece),
                Heard::End(reply) => end = Some(reply),
                Heard::Error(error) => panic!("{error}"),
            }
        }
        // A new session's model begins its alphabet anew: the answer goes on behind what was shown.
        assert_eq!(text, if cancel { "a" } else { "aabcde" });
        assert_eq!(end.unwrap().text, text);
        assert_eq!(worker.conversation().turns[0].answer, text);
    }
}

#[test]
fn a_failure_is_told_and_the_next_message_is_answered() {
    let worker = worker(3, 1);
    assert!(all(ask(&worker, "x")).1.is_err_and(|error| error.to_string() == "no memory"));
    assert_eq!(all(ask(&worker, "x")).0, "abc");
    // A listener that panics stops its answer, and nothing else.
    let (heard, receiver) = channel();
    send(&worker, Some("y"), Arc::new(Collector { heard, fails_at: Some("b") }));
    let (text, end) = all(receiver);
    assert_eq!((&*text, end.unwrap().finish), ("ab", Finish::Cancelled));
    assert_eq!(users(&worker), ["x", "y"]);
    // So does a model.
    let (first, second) = (ask(&worker, BREAK), ask(&worker, "z"));
    assert!(all(first).1.is_err_and(|error| error.to_string().contains("worker")));
    assert_eq!(all(second).0, "abc");
    assert_eq!(users(&worker), ["x", "y", "z"]);
}

#[test]
fn who_waits_until_all_is_idle_is_called_no_more() {
    let worker = worker(20, 0);
    let (heard, receiver) = channel();
    let collector = Arc::new(Collector { heard, fails_at: None });
    let theirs = Arc::downgrade(&collector);
    send(&worker, Some("x"), collector);
    worker.cancel();
    // Other tests of this process are at work too.
    while !crate::wait_until_idle(60_000) {}
    assert_eq!(theirs.strong_count(), 0);
    assert!(all(receiver).1.is_ok());
}
