//! The API for apps, from Rust: what Kotlin, Swift and Python call. Their own tests run the same cases through the FFI.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]
#![allow(dead_code, reason = "the tiny models have more to them")]

#[path = "app/answers.rs"]
mod answers;
#[path = "app/completion.rs"]
mod completion;
#[path = "app/journal.rs"]
mod journal;
#[path = "app/models.rs"]
mod models;
#[path = "app/sampling.rs"]
mod sampling;
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thimble_chat::{ChatError, ChatSession, Conversation};
use thimble_converter::{BlockType, ConversionOptions, convert};
use thimble_ffi::{
    ApiError, Backend, Chat, ChatOptions, Completion, CompletionOptions, Finish, Listener, ListenerError,
    Model, ModelOptions, Reply, Sampling,
};
use thimble_files::MappedModel;
use thimble_host::{InferencePlan, InferenceSettings, SpinPool, generator};
use thimble_host::{LoadedModel, PromptFormat};
use thimble_runtime::sampler::{Sampler, Sampling as RuntimeSampling};
use tiny::{Folder, ODD};

/// What a listener heard.
#[derive(Debug)]
enum Heard {
    Piece(String),
    End(Reply),
    Error(ApiError),
}

type Each = Box<dyn Fn(&str) -> Result<(), ListenerError> + Send + Sync>;

/// Passes on what it hears, and does something with each piece.
struct Collector {
    heard: Mutex<Sender<Heard>>,
    each: Each,
}

impl Listener for Collector {
    fn on_piece(&self, text: String) -> Result<(), ListenerError> {
        // Nobody listens any more where a test has ended.
        let _ = self.heard.lock().unwrap().send(Heard::Piece(text.clone()));
        (self.each)(&text)
    }
    fn on_reasoning(&self, _text: String) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_progress(&self, _done: u32, _of: u32) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_end(&self, reply: Reply) -> Result<(), ListenerError> {
        let _ = self.heard.lock().unwrap().send(Heard::End(reply));
        Ok(())
    }
    fn on_error(&self, error: ApiError) -> Result<(), ListenerError> {
        let _ = self.heard.lock().unwrap().send(Heard::Error(error));
        Ok(())
    }
}

fn collector(each: Each) -> (Arc<Collector>, Receiver<Heard>) {
    let (sender, receiver) = channel();
    (Arc::new(Collector { heard: Mutex::new(sender), each }), receiver)
}

/// One that does not give its first piece back before the last value is dropped: a tiny model would soon be at its end.
fn holder() -> (Arc<Collector>, Receiver<Heard>, Sender<()>) {
    let (held, wait) = channel();
    let wait = Mutex::new(wait);
    let (listener, heard) = collector(Box::new(move |_| {
        // An error: it was dropped.
        let _ = wait.lock().unwrap().recv();
        Ok(())
    }));
    (listener, heard, held)
}

/// The pieces and the end, or the error.
fn rest(heard: &Receiver<Heard>) -> Result<(Vec<String>, Reply), ApiError> {
    let mut pieces = Vec::new();
    loop {
        match heard.recv_timeout(Duration::from_secs(60)).unwrap() {
            Heard::Piece(piece) => pieces.push(piece),
            Heard::End(reply) => return Ok((pieces, reply)),
            Heard::Error(error) => return Err(error),
        }
    }
}

fn ask(chat: &Chat, text: &str) -> Result<(Vec<String>, Reply), ApiError> {
    let (listener, heard) = collector(Box::new(|_| Ok(())));
    chat.send(text.to_owned(), listener, None);
    rest(&heard)
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench { folder };
        fs::create_dir(bench.path("hf")).unwrap();
        Folder::new(ODD, BlockType::F32).write(&bench.path("hf"), 1);
        convert(&bench.path("hf"), &bench.path("m.thimble"), &ConversionOptions::default(), &mut |_| {})
            .unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn model(&self) -> Arc<Model> {
        Model::open(self.text("m.thimble"), ModelOptions::default()).unwrap()
    }
}

/// Answers that differ and are the same each time.
fn options(max_tokens: u32) -> ChatOptions {
    let sampling = Sampling { temperature: Some(1.5), seed: Some(7), ..Sampling::default() };
    ChatOptions { sampling: Some(sampling), max_tokens: Some(max_tokens), ..ChatOptions::default() }
}

#[test]
fn pieces_come_in_order_and_the_conversation_is_kept() {
    let bench = Bench::new();
    let chat = Chat::new(bench.model(), options(40)).unwrap();
    let (pieces, reply) = ask(&chat, "hello").unwrap();
    assert_eq!(pieces.concat(), reply.text);
    assert!(pieces.len() > 2 && reply.tokens > 2, "{reply:?}");
    let (_, second) = ask(&chat, "and?").unwrap();
    assert!(second.reused_tokens > 0, "{second:?}");
    let said: Vec<(bool, String)> = chat.history().into_iter().map(|m| (m.from_user, m.text)).collect();
    let expected = [(true, "hello"), (false, &*reply.text), (true, "and?"), (false, &*second.text)];
    assert_eq!(said.iter().map(|(who, text)| (*who, &**text)).collect::<Vec<_>>(), expected);
    assert_eq!(chat.stats().tokens, second.tokens);

    chat.save(bench.text("talk.json")).unwrap();
    chat.clear();
    assert!(chat.history().is_empty());
    chat.restore(bench.text("talk.json")).unwrap();
    assert_eq!(chat.history().len(), 4);
    assert!(matches!(chat.restore(bench.text("none.json")), Err(ApiError::NotFound { .. })));
    let (listener, heard) = collector(Box::new(|_| Ok(())));
    chat.retry(listener, None);
    let (_, again) = rest(&heard).unwrap();
    assert_eq!(chat.history().last().unwrap().text, again.text);
    assert_eq!(chat.history().len(), 4);
}

#[test]
fn rust_can_wait_for_an_answer() {
    let bench = Bench::new();
    let expected = ask(&Chat::new(bench.model(), options(40)).unwrap(), "hello").unwrap();
    let chat = Chat::new(bench.model(), options(40)).unwrap();
    let mut pieces = Vec::new();
    let reply = chat.answer("hello", |piece| pieces.push(piece.to_owned())).unwrap();
    assert_eq!((&pieces, &reply.text), (&expected.0, &expected.1.text));
    let long = chat.answer(&"word ".repeat(2000), |_| panic!("nothing is shown")).unwrap_err();
    assert!(matches!(long, ApiError::ContextFull { .. }), "{long:?}");
    assert_eq!(chat.history().len(), 2);
}

#[test]
fn chats_do_not_disturb_each_other() {
    let bench = Bench::new();
    let model = bench.model();
    let alone = ask(&Chat::new(Arc::clone(&model), options(60)).unwrap(), "hello").unwrap().1.text;
    let chats: Vec<Arc<Chat>> = (0..3).map(|_| Chat::new(Arc::clone(&model), options(60)).unwrap()).collect();
    let heard: Vec<Receiver<Heard>> = chats
        .iter()
        .map(|chat| {
            let (listener, heard) = collector(Box::new(|_| Ok(())));
            chat.send("hello".to_owned(), listener, None);
            heard
        })
        .collect();
    drop(model);
    for heard in heard {
        assert_eq!(rest(&heard).unwrap().1.text, alone);
    }
    // With fewer threads, and with new memory, the answers are the same.
    chats[0].save_power(true);
    let first = ask(&chats[0], "more").unwrap().1;
    chats[1].free_memory();
    let second = ask(&chats[1], "more").unwrap().1;
    assert_eq!(second.reused_tokens, 0);
    assert!(first.reused_tokens > 0);
}

#[test]
fn an_answer_can_be_cancelled_at_any_time() {
    let bench = Bench::new();
    let chat = Chat::new(bench.model(), options(100_000)).unwrap();
    let (listener, heard, held) = holder();
    chat.send("hello".to_owned(), listener, None);
    let (waiting, heard_waiting) = collector(Box::new(|_| Ok(())));
    chat.send("and another".to_owned(), waiting, None);
    assert!(matches!(heard.recv_timeout(Duration::from_secs(60)).unwrap(), Heard::Piece(_)));
    chat.cancel();
    drop(held);
    let (_, reply) = rest(&heard).unwrap();
    assert_eq!(reply.finish, Finish::Cancelled);
    let (pieces, never) = rest(&heard_waiting).unwrap();
    assert!(pieces.is_empty() && never.finish == Finish::Cancelled);
    // What was shown is kept; what was never begun is not.
    let history = chat.history();
    assert_eq!((history.len(), &history[1].text), (2, &reply.text));

    // Paused, it waits, and continues where it was.
    chat.pause();
    let (listener, heard, held) = holder();
    chat.send("go on".to_owned(), listener, None);
    assert!(heard.recv_timeout(Duration::from_millis(300)).is_err());
    chat.resume();
    assert!(heard.recv_timeout(Duration::from_secs(60)).is_ok());
    // Dropped, it ends.
    drop(chat);
    drop(held);
    assert_eq!(rest(&heard).unwrap().1.finish, Finish::Cancelled);
}

#[test]
fn a_listener_that_fails_stops_its_answer_and_nothing_else() {
    let bench = Bench::new();
    let chat = Chat::new(bench.model(), options(100_000)).unwrap();
    let count = AtomicUsize::new(0);
    let (listener, heard) = collector(Box::new(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Ok(()),
        _ => Err(ListenerError::Failed { reason: "thrown".to_owned() }),
    }));
    chat.send("hello".to_owned(), listener, None);
    let (pieces, reply) = rest(&heard).unwrap();
    assert_eq!((pieces.len(), reply.finish), (3, Finish::Cancelled));
    assert_eq!(chat.history().len(), 2);
    let long = ask(&chat, &"word ".repeat(2000)).unwrap_err();
    assert!(matches!(&long, ApiError::ContextFull { message } if message.contains("tokens")), "{long:?}");
    assert_eq!(chat.history().len(), 2);
}

#[test]
fn nothing_is_shown_after_a_cancellation() {
    let bench = Bench::new();
    let chat = Chat::new(bench.model(), options(100_000)).unwrap();
    let cell = Arc::new(Mutex::new(None::<Arc<Chat>>));
    let theirs = Arc::clone(&cell);
    let (listener, heard) = collector(Box::new(move |_| {
        // From the listener itself, with its first piece.
        if let Some(chat) = theirs.lock().unwrap().take() {
            chat.cancel();
        }
        Ok(())
    }));
    *cell.lock().unwrap() = Some(Arc::clone(&chat));
    chat.send("hello".to_owned(), listener, None);
    let (pieces, reply) = rest(&heard).unwrap();
    assert_eq!((pieces.len(), reply.finish), (1, Finish::Cancelled));
    assert_eq!(reply.tokens as usize, chat.stats().tokens as usize);
}
