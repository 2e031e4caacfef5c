//! What outlives a chat: its journal, and its keys and values.

use super::*;

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
    chat.send("hello".to_owned(), listener, None);
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
    chat.send("and then?".to_owned(), listener, None);
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
    // A damaged file, or another kind of file, costs only time.
    let chat = open(&kv_file);
    fs::write(bench.path("chat.kv"), "nothing").unwrap();
    let (listener, heard) = collector(Box::new(|_| Ok(())));
    chat.retry(listener, None);
    let (_, again) = rest(&heard).unwrap();
    assert_eq!((again.text, again.reused_tokens), (text, 0));
}
