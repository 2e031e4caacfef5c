//! A chat's journal survives `kill -9`: what was shown before is there when the chat is opened again.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

mod tiny;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thimble_converter::{BlockType, ConversionOptions, convert};
use thimble_ffi::{
    ApiError, Chat, ChatOptions, Listener, ListenerError, Model, ModelOptions, Reply, Sampling,
};

/// How often the process is killed.
const ROUNDS: u64 = 20;
/// What the child process gets: the model, the journal, and a seed.
const CHILD: &str = "THIMBLE_JOURNAL_CHILD";

/// Shows pieces on standard output, as one line of JSON each.
struct Screen(Mutex<Sender<Result<Reply, ApiError>>>);

fn show(line: &(&str, &str)) {
    let mut bytes = serde_json::to_vec(line).unwrap();
    bytes.push(b'\n');
    std::io::stdout().write_all(&bytes).unwrap();
    std::io::stdout().flush().unwrap();
}

impl Listener for Screen {
    fn on_piece(&self, text: String) -> Result<(), ListenerError> {
        show(&("piece", &text));
        // As long as a token of a real model takes.
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }
    fn on_reasoning(&self, _text: String) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_progress(&self, _done: u32, _of: u32) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_end(&self, reply: Reply) -> Result<(), ListenerError> {
        let _ = self.0.lock().unwrap().send(Ok(reply));
        Ok(())
    }
    fn on_error(&self, error: ApiError) -> Result<(), ListenerError> {
        let _ = self.0.lock().unwrap().send(Err(error));
        Ok(())
    }
}

fn options(journal: &str, seed: u64) -> ChatOptions {
    let sampling = Sampling { temperature: Some(1.5), seed: Some(seed), ..Sampling::default() };
    ChatOptions {
        sampling: Some(sampling),
        max_tokens: Some(15),
        journal: Some(journal.to_owned()),
        ..ChatOptions::default()
    }
}

/// Not a test: the process that is killed, which is this program started again.
#[test]
fn child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (model, journal, seed): (String, String, u64) = serde_json::from_str(&told).unwrap();
    let model = Model::open(model, ModelOptions::default()).unwrap();
    let chat = Chat::new(model, options(&journal, seed)).unwrap();
    // The harness may have begun a line.
    println!();
    for number in 0..10_000 {
        let user = format!("{seed}.{number}");
        let (sender, end) = channel();
        show(&("user", &user));
        chat.send(user, Arc::new(Screen(Mutex::new(sender))), None);
        show(&("sent", ""));
        end.recv().unwrap().unwrap();
    }
}

/// A turn as it was on the screen.
#[derive(Default)]
struct Shown {
    user: String,
    answer: String,
    /// Whether `send` had returned.
    sent: bool,
}

fn shown(lines: &[String]) -> Vec<Shown> {
    let mut turns: Vec<Shown> = Vec::new();
    for line in lines {
        // The harness of this program says something too, and the last line may be cut off.
        let Ok((kind, text)) = serde_json::from_str::<(String, String)>(line) else { continue };
        match (&*kind, turns.last_mut()) {
            ("user", _) => turns.push(Shown { user: text, ..Shown::default() }),
            ("sent", Some(turn)) => turn.sent = true,
            (_, Some(turn)) => turn.answer.push_str(&text),
            (_, None) => panic!("a piece comes after its message"),
        }
    }
    turns
}

#[test]
fn nothing_shown_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (hf, path) = (folder.path().join("hf"), folder.path().join("m.thimble"));
    std::fs::create_dir(&hf).unwrap();
    tiny::Folder::new(tiny::ODD, BlockType::F32).write(&hf, 1);
    convert(&hf, &path, &ConversionOptions::default(), &mut |_| {}).unwrap();
    let journal = text(&folder.path().join("chat.jsonl"));
    let mut moments = tiny::Random(6);
    let mut in_answers = 0;
    let mut before = None;
    for seed in 0..ROUNDS {
        let told = serde_json::to_string(&(text(&path), &journal, seed)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(CHILD, told);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut screen: Vec<String> = Vec::new();
        while !screen.last().is_some_and(|line| line.contains("user")) {
            screen.push(lines.next().unwrap());
        }
        std::thread::sleep(Duration::from_micros(moments.below(120_000) as u64));
        process.kill().unwrap();
        screen.extend(lines);
        process.wait().unwrap();

        let model = Model::open(text(&path), ModelOptions::default()).unwrap();
        let chat = Chat::new(model, options(&journal, seed)).unwrap();
        let history = chat.history();
        let turns: Vec<(&str, &str)> =
            history.chunks(2).map(|turn| (&*turn[0].text, &*turn[1].text)).collect();
        let shown = shown(&screen);
        in_answers += usize::from(shown.last().is_some_and(|turn| !turn.answer.is_empty()));
        let unanswered = chat.unanswered();
        for (number, Shown { user, answer, sent }) in shown.iter().enumerate() {
            let last = number + 1 == shown.len();
            let kept = turns.iter().find(|turn| turn.0 == user);
            match kept {
                Some(kept) if last => assert!(kept.1.starts_with(&**answer), "{kept:?} {answer:?}"),
                Some(kept) => assert_eq!(kept.1, answer),
                None if last => {
                    assert!(answer.is_empty(), "{user}: {answer:?} is gone");
                    assert!(!sent || unanswered.as_ref() == Some(user), "{user} is gone: {unanswered:?}");
                }
                // A full context makes the oldest give way.
                None => assert!(shown[number + 1..].len() > 4, "{user} is gone"),
            }
        }
        // One that was left by the process before waits until another message comes.
        let last = shown.last().unwrap();
        let waiting = unanswered.as_ref().is_none_or(|text| *text == last.user);
        assert!(waiting || (!last.sent && unanswered == before), "{unanswered:?} after {}", last.user);
        before = unanswered;
    }
    assert!(in_answers > 5, "{in_answers} of {ROUNDS} moments fell into an answer");
}
