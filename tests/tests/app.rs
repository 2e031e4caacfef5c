//! The surface for apps, from Rust: what Kotlin, Swift and Python call. Their own tests run the same cases through the
//! border.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]
#![allow(dead_code, reason = "the tiny models have more to them")]

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
    chat.send(text.to_owned(), listener);
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
    chat.retry(listener);
    let (_, again) = rest(&heard).unwrap();
    assert_eq!(chat.history().last().unwrap().text, again.text);
    assert_eq!(chat.history().len(), 4);
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
            chat.send("hello".to_owned(), listener);
            heard
        })
        .collect();
    drop(model);
    for heard in heard {
        assert_eq!(rest(&heard).unwrap().1.text, alone);
    }
    // With fewer threads, and with memory taken anew, the answers are the same.
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
    chat.send("hello".to_owned(), listener);
    let (waiting, heard_waiting) = collector(Box::new(|_| Ok(())));
    chat.send("and another".to_owned(), waiting);
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

    // Paused, it waits, and goes on where it was.
    chat.pause();
    let (listener, heard, held) = holder();
    chat.send("go on".to_owned(), listener);
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
    chat.send("hello".to_owned(), listener);
    let (pieces, reply) = rest(&heard).unwrap();
    assert_eq!((pieces.len(), reply.finish), (3, Finish::Cancelled));
    assert_eq!(chat.history().len(), 2);
    let long = ask(&chat, &"word ".repeat(2000)).unwrap_err();
    assert!(matches!(&long, ApiError::ContextFull { message } if message.contains("tokens")), "{long:?}");
    assert_eq!(chat.history().len(), 2);
}

#[test]
fn what_is_shown_is_on_disk() {
    let bench = Bench::new();
    let journal = || Some(bench.text("chat.jsonl"));
    let open = || Chat::new(bench.model(), ChatOptions { journal: journal(), ..options(30) }).unwrap();
    let chat = open();
    let path = bench.path("chat.jsonl");
    let copy = bench.path("killed.jsonl");
    let shown = Arc::new(Mutex::new(String::new()));
    let (all, from, to) = (Arc::clone(&shown), path.clone(), copy.clone());
    let model = bench.model();
    let (listener, heard) = collector(Box::new(move |piece| {
        // As if the process were killed now: another one opens what is there.
        let mut all = all.lock().unwrap();
        all.push_str(piece);
        fs::copy(&from, &to).unwrap();
        let journal = Some(to.to_str().unwrap().to_owned());
        let reopened =
            Chat::new(Arc::clone(&model), ChatOptions { journal, ..ChatOptions::default() }).unwrap();
        assert_eq!(reopened.history().last().unwrap().text, *all);
        Ok(())
    }));
    chat.send("hello".to_owned(), listener);
    let (pieces, reply) = rest(&heard).unwrap();
    assert!(pieces.len() > 2 && reply.text == *shown.lock().unwrap());
    let (_, second) = ask(&chat, "more").unwrap();
    let before = chat.history();
    drop(chat);
    let chat = open();
    assert_eq!(chat.history(), before);
    assert_eq!(chat.history()[3].text, second.text);
    chat.clear();
    let (_, third) = ask(&chat, "anew").unwrap();
    drop(chat);
    let history = open().history();
    assert_eq!((history.len(), &history[1].text), (2, &third.text));
}

#[test]
fn keys_and_values_outlive_a_chat() {
    let bench = Bench::new();
    let [journal, kv_file] = ["chat.jsonl", "chat.kv"].map(|name| Some(bench.text(name)));
    let open = |kv_file: &Option<String>| {
        let (journal, kv_file) = (journal.clone(), kv_file.clone());
        Chat::new(bench.model(), ChatOptions { journal, kv_file, ..options(30) }).unwrap()
    };
    let appears = |chat: &Chat, hook: fn(&Chat)| {
        hook(chat);
        let start = std::time::Instant::now();
        while !bench.path("chat.kv").exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "the file appears");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let chat = open(&kv_file);
    ask(&chat, &"hello ".repeat(20)).unwrap();
    assert!(!bench.path("chat.kv").exists(), "only where the platform asks for it");
    appears(&chat, Chat::free_memory);
    fs::remove_file(bench.path("chat.kv")).unwrap();
    chat.resume();
    ask(&chat, "more").unwrap();
    appears(&chat, Chat::pause);
    drop(chat);
    let reused = ask(&open(&kv_file), "and?").unwrap().1.reused_tokens;
    assert!(reused > 64, "{reused} tokens were not computed again");
    // Also in the middle of an answer, and not longer than the conversation.
    fs::remove_file(bench.path("chat.kv")).unwrap();
    let chat = open(&kv_file);
    let (listener, heard) = collector(Box::new(|_| Ok(())));
    chat.send("and then?".to_owned(), listener);
    assert!(matches!(heard.recv_timeout(Duration::from_secs(60)), Ok(Heard::Piece(_))));
    appears(&chat, Chat::pause);
    chat.resume();
    rest(&heard).unwrap();
    chat.clear();
    ask(&chat, "anew").unwrap();
    assert!(!bench.path("chat.kv").exists(), "what was cleared is gone");
    drop(chat);
    let chat = open(&kv_file);
    let text = ask(&chat, "and?").unwrap().1.text;
    drop(chat);
    // A file that is damaged, or is none, costs time and nothing else.
    let chat = open(&kv_file);
    fs::write(bench.path("chat.kv"), "nothing").unwrap();
    let (listener, heard) = collector(Box::new(|_| Ok(())));
    chat.retry(listener);
    let (_, again) = rest(&heard).unwrap();
    assert_eq!((again.text, again.reused_tokens), (text, 0));
}

#[test]
fn what_cannot_be_opened_is_told_apart() {
    let bench = Bench::new();
    let open = |name: &str, options| Model::open(bench.text(name), options).unwrap_err();
    assert!(matches!(open("none", ModelOptions::default()), ApiError::NotFound { .. }));
    fs::write(bench.path("text"), "some text that is no model, whatever its length may be".repeat(9))
        .unwrap();
    assert!(matches!(open("text", ModelOptions::default()), ApiError::NotAModel { .. }));
    assert!(matches!(open("hf", ModelOptions::default()), ApiError::NotAModel { .. }));
    let whole = fs::read(bench.path("m.thimble")).unwrap();
    fs::write(bench.path("cut"), &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(open("cut", ModelOptions::default()), ApiError::Damaged { .. }));
    let model = bench.model();
    let info = model.info().unwrap();
    let needed = info.file_bytes + info.state_bytes;
    let budget = |bytes| ModelOptions { budget_bytes: Some(bytes), ..ModelOptions::default() };
    assert_eq!(open("m.thimble", budget(needed - 1)), ApiError::TooLarge { needed, budget: needed - 1 });
    assert!(Model::open(bench.text("m.thimble"), budget(needed)).is_ok());
    assert!(info.answers_messages && info.name == "m" && info.file_bytes == whole.len() as u64);
    assert!(!model.tokens("hello".to_owned()).unwrap().is_empty());
    model.verify().unwrap();
    let wrong = Chat::new(model, ChatOptions { journal: Some(bench.text("text")), ..ChatOptions::default() });
    assert!(wrong.is_err() && Path::new(&bench.path("text")).exists());
}

fn complete(
    model: &Arc<Model>,
    prompt: &str,
    options: CompletionOptions,
) -> (Arc<Completion>, Receiver<Heard>) {
    let (listener, heard) = collector(Box::new(|_| Ok(())));
    (Arc::clone(model).complete(prompt.to_owned(), options, listener).unwrap(), heard)
}

/// What the host's own session says, greedily.
fn greedily(bench: &Bench, format: PromptFormat, user: &str, most: usize) -> String {
    by_host(bench, RuntimeSampling::default(), format, user, most)
}

/// The same with these settings.
fn by_host(
    bench: &Bench,
    sampling: RuntimeSampling,
    format: PromptFormat,
    user: &str,
    most: usize,
) -> String {
    let mapped = MappedModel::read(&bench.path("m.thimble")).unwrap();
    let file = mapped.file().unwrap();
    let plan = InferencePlan::new(file.config(), &InferenceSettings::default()).unwrap();
    let mut memory = plan.allocate().unwrap();
    let pool = SpinPool::new(plan.threads()).unwrap();
    let generator = generator(&file, &plan, &mut memory, &pool).unwrap();
    let sampler = Sampler::new(sampling).unwrap();
    let model = LoadedModel { file, generator, sampler, format, kv_file: None };
    let conversation = Conversation::default();
    let mut session = ChatSession { model, conversation, max_tokens: Some(most), stops: Vec::new() };
    let go = AtomicBool::new(false);
    session.answer::<ChatError>(user, &go, &mut |_| Ok(())).unwrap();
    session.conversation.turns.remove(0).answer
}

#[test]
fn a_gpu_is_an_option() {
    let bench = Bench::new();
    let options = |backend| ModelOptions { backend: Some(backend), ..ModelOptions::default() };
    let memory = bench.text("backends.json");
    let gpu = ModelOptions { backend_memory: Some(memory.clone()), ..options(Backend::Gpu) };
    let model = match Model::open(bench.text("m.thimble"), gpu) {
        Ok(model) => model,
        Err(ApiError::Other { message }) => {
            assert!(message.contains("no GPU adapter was found"), "{message}");
            println!("no more to see: {message}");
            return;
        }
        Err(other) => panic!("{other}"),
    };
    assert_eq!(model.info().unwrap().kernels, "gpu");
    let greedy = Sampling { temperature: Some(0.0), repetition_penalty: Some(1.0), ..Sampling::default() };
    let asked =
        CompletionOptions { sampling: Some(greedy), max_tokens: Some(20), ..CompletionOptions::default() };
    let (_completion, heard) = complete(&model, "hello", asked);
    assert_eq!(rest(&heard).unwrap().1.text, greedily(&bench, PromptFormat::Text, "hello", 20));
    if thimble_host::device().unwrap().report().api == "vulkan" {
        let kept = fs::read_dir(Path::new(&memory).with_file_name("pipelines")).unwrap();
        assert!(kept.count() > 0, "compiled shaders are kept");
    }
    // Measured, and remembered.
    let auto = ModelOptions { backend_memory: Some(memory.clone()), ..options(Backend::Auto) };
    Model::open(bench.text("m.thimble"), auto).unwrap();
    assert!(fs::read_to_string(memory).unwrap().contains("\"why\""));
    // Nor is a GPU looked at for what would not fit the budget with it.
    let cpu = Model::open(bench.text("m.thimble"), options(Backend::Cpu)).unwrap().info().unwrap();
    let tight = Some(cpu.file_bytes + cpu.state_bytes);
    for (budget_bytes, looked) in [(tight, false), (Some(1 << 30), true)] {
        let memory = bench.text("budget.json");
        let auto =
            ModelOptions { budget_bytes, backend_memory: Some(memory.clone()), ..options(Backend::Auto) };
        let info = Model::open(bench.text("m.thimble"), auto).unwrap().info().unwrap();
        assert_eq!((Path::new(&memory).exists(), looked || info.gpu_bytes == 0), (looked, true));
    }
    let gpu = ModelOptions { budget_bytes: tight, ..options(Backend::Gpu) };
    assert!(matches!(Model::open(bench.text("m.thimble"), gpu), Err(ApiError::TooLarge { .. })));
}

#[test]
fn the_text_is_that_of_the_host() {
    let bench = Bench::new();
    let model = bench.model();
    let greedy = Sampling { temperature: Some(0.0), repetition_penalty: Some(1.0), ..Sampling::default() };
    let (sampling, max_tokens) = (Some(greedy), Some(30));
    let options = ChatOptions { sampling: sampling.clone(), max_tokens, ..ChatOptions::default() };
    let chat = Chat::new(Arc::clone(&model), options).unwrap();
    let answer = ask(&chat, "hello").unwrap().1.text;
    assert_eq!(answer, greedily(&bench, PromptFormat::Chat, "hello", 30));
    assert!(answer.len() > 10);
    let options = CompletionOptions { sampling, max_tokens, ..CompletionOptions::default() };
    let (_completion, heard) = complete(&model, "hello", options);
    let continued = rest(&heard).unwrap().1.text;
    assert_eq!(continued, greedily(&bench, PromptFormat::Text, "hello", 30));
    assert_ne!(continued, answer);
}

#[test]
fn a_completion_is_stopped_by_a_text_by_a_call_and_with_its_object() {
    let bench = Bench::new();
    let model = bench.model();
    let sampling = options(0).sampling;
    let options = |max_tokens, stop: &[&str]| CompletionOptions {
        max_tokens: Some(max_tokens),
        sampling: sampling.clone(),
        stop: stop.iter().map(|&text| text.to_owned()).collect(),
    };
    let (_whole, heard) = complete(&model, "hello", options(40, &[]));
    let whole = rest(&heard).unwrap().1;
    assert_eq!(whole.finish, Finish::Length);
    // Characters of the second half that stand for themselves: what is no UTF-8 is shown as another one.
    let characters: Vec<char> = whole.text.chars().collect();
    let mut places = characters[characters.len() / 2..].windows(3);
    let middle: String = places.find(|place| !place.contains(&'\u{fffd}')).unwrap().iter().collect();
    let (_stopped, heard) = complete(&model, "hello", options(40, &["not there at all", &middle]));
    let (pieces, stopped) = rest(&heard).unwrap();
    assert_eq!((&*stopped.text, stopped.finish), (whole.text.split(&middle).next().unwrap(), Finish::Stop));
    assert_eq!(pieces.concat(), stopped.text);
    let (listener, heard, held) = holder();
    let cancelled = Arc::clone(&model).complete(String::new(), options(100_000, &[]), listener).unwrap();
    assert!(matches!(heard.recv_timeout(Duration::from_secs(60)).unwrap(), Heard::Piece(_)));
    cancelled.cancel();
    drop(held);
    assert_eq!(rest(&heard).unwrap().1.finish, Finish::Cancelled);
    let (dropped, heard) = complete(&model, "hello", options(100_000, &[]));
    dropped.pause();
    drop(dropped);
    assert_eq!(rest(&heard).unwrap().1.finish, Finish::Cancelled);
    let short = ModelOptions { context: Some(24), ..ModelOptions::default() };
    let short = Model::open(bench.text("m.thimble"), short).unwrap();
    let (_full, heard) = complete(&short, "hello", options(100_000, &[]));
    assert_eq!(rest(&heard).unwrap().1.finish, Finish::Context);
    let (listener, _) = collector(Box::new(|_| Ok(())));
    assert!(Arc::clone(&model).complete("x".to_owned(), options(1, &[""]), listener).is_err());
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
    chat.send("hello".to_owned(), listener);
    let (pieces, reply) = rest(&heard).unwrap();
    assert_eq!((pieces.len(), reply.finish), (1, Finish::Cancelled));
    assert_eq!(reply.tokens as usize, chat.stats().tokens as usize);
}
