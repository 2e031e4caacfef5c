//! Journals as killed processes and full disks leave them.

use super::*;
use crate::claim::Claim;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use thimble_chat::Turn;

fn begun(system: Option<&str>) -> Held {
    let conversation = Conversation { system: system.map(str::to_owned), turns: Vec::new() };
    Held { conversation, unanswered: None }
}

fn open(path: &Path) -> Result<Held, ApiError> {
    Journal::open(path.to_str().unwrap(), begun(None)).map(|(_, held)| held)
}

fn answers(held: &Held) -> Vec<&str> {
    held.conversation.turns.iter().map(|turn| &*turn.answer).collect()
}

#[test]
fn every_beginning_of_a_journal_is_a_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let name = path.to_str().unwrap();
    let (journal, empty) = Journal::open(name, begun(Some("Be brief."))).unwrap();
    assert!(empty.conversation.turns.is_empty());
    for (user, pieces) in [("a", ["b", "c"]), ("d", ["e\n", "🙂"])] {
        journal.user(user).unwrap();
        journal.answer().unwrap();
        pieces.iter().for_each(|piece| journal.piece(piece).unwrap());
        journal.end(true).unwrap();
    }
    journal.again().unwrap();
    journal.piece("\u{1}other").unwrap();
    journal.end(true).unwrap();
    journal.user("x").unwrap();
    journal.answer().unwrap();
    journal.piece("shown").unwrap();
    drop(journal);
    let held = open(&path).unwrap();
    assert_eq!(held.conversation.system.as_deref(), Some("Be brief."));
    assert_eq!(answers(&held), ["bc", "\u{1}other", "shown"]);

    let bytes = std::fs::read(&path).unwrap();
    for cut in 0..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let held = open(&path).unwrap();
        assert!(held.conversation.turns.len() <= 3, "{cut}");
    }
    std::fs::write(&path, "something else\n").unwrap();
    assert!(matches!(open(&path), Err(ApiError::Damaged { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else\n");
}

#[test]
fn what_a_killed_process_left_open_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let reopen = || Journal::open(path.to_str().unwrap(), begun(None)).unwrap();
    let (journal, _) = reopen();
    journal.user("a").unwrap();
    journal.answer().unwrap();
    journal.piece("half an ans").unwrap();
    drop(journal);
    // The next process continues from there, and is killed before it has answered anything.
    let (journal, held) = reopen();
    assert_eq!((answers(&held), held.unanswered.as_deref()), (vec!["half an ans"], None));
    journal.user("b").unwrap();
    drop(journal);
    let (journal, held) = reopen();
    assert_eq!((answers(&held), held.unanswered.as_deref()), (vec!["half an ans"], Some("b")));
    // Answered again: the old answer stays until part of the new one is shown.
    journal.again().unwrap();
    drop(journal);
    let (journal, held) = reopen();
    assert_eq!((answers(&held), held.unanswered.as_deref()), (vec!["half an ans"], Some("b")));
    journal.again().unwrap();
    journal.piece("new").unwrap();
    drop(journal);
    let (journal, held) = reopen();
    assert_eq!(answers(&held), ["new"]);
    journal.again().unwrap();
    journal.end(false).unwrap();
    drop(journal);
    assert_eq!(answers(&reopen().1), ["new"]);
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_full_disk_costs_no_line_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    for room in 0..60 {
        let _ = std::fs::remove_file(&path);
        let (journal, _) = Journal::open(name(&path), begun(None)).unwrap();
        journal.user("a").unwrap();
        journal.answer().unwrap();
        journal.piece("shown").unwrap();
        journal.file().room = Some(room);
        let full = journal.piece(" and more of it, up to 60 bytes and no room for them").unwrap_err();
        assert!(full.to_string().contains("cannot write"), "{full}");
        journal.file().room = None;
        journal.end(true).unwrap();
        journal.user("b").unwrap();
        journal.answer().unwrap();
        journal.piece("c").unwrap();
        drop(journal);
        assert_eq!(answers(&open(&path).unwrap()), ["shown", "c"], "{room}");
    }
    // A line that older code glued to a torn one, or a power cut left, costs itself.
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("{\"piece\":\"c", "{\"pie{\"piece\":\"c", 1)).unwrap();
    assert_eq!(answers(&open(&path).unwrap()), ["shown"]);
}

#[test]
fn what_a_full_disk_had_no_room_for_is_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let (journal, _) = Journal::open(name(&path), begun(None)).unwrap();
    journal.user("first").unwrap();
    journal.answer().unwrap();
    journal.user("second").unwrap();
    journal.user("third").unwrap();
    journal.file().room = Some(0);
    assert!(journal.piece("no room").is_err() && journal.end(false).is_err());
    assert!(journal.answer().is_err() && journal.dropped().is_err());
    journal.file().room = None;
    journal.user("fourth").unwrap();
    journal.answer().unwrap();
    journal.piece("its own").unwrap();
    journal.end(true).unwrap();
    drop(journal);
    let held = open(&path).unwrap();
    let turns: Vec<_> =
        held.conversation.turns.iter().map(|turn| (turn.user.as_str(), turn.answer.as_str())).collect();
    assert_eq!(turns, [("fourth", "its own")]);
    // On disk it has begun and nothing was shown of it: it is offered again.
    assert_eq!(held.unanswered.as_deref(), Some("first"));

    // What was cleared does not come back with the next message.
    let (journal, held) = Journal::open(name(&path), begun(None)).unwrap();
    journal.file().room = Some(0);
    assert!(journal.replace(&Conversation::default()).is_err());
    assert!(journal.user("fifth").is_err());
    assert_eq!(answers(&held), ["its own"]);
    journal.file().room = None;
    journal.user("sixth").unwrap();
    drop(journal);
    let held = open(&path).unwrap();
    assert_eq!((answers(&held), held.unanswered.as_deref()), (vec![], Some("sixth")));
}

#[test]
fn messages_that_wait_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let reopen = || Journal::open(name(&path), begun(None)).unwrap();
    let (journal, _) = reopen();
    journal.user("a").unwrap();
    journal.answer().unwrap();
    journal.piece("an").unwrap();
    journal.user("b").unwrap();
    journal.user("taken back").unwrap();
    journal.user("d").unwrap();
    journal.piece("swer").unwrap();
    journal.end(true).unwrap();
    journal.answer().unwrap();
    journal.dropped().unwrap();
    journal.piece("to b").unwrap();
    drop(journal);
    for _ in 0..2 {
        let held = reopen().1;
        assert_eq!((answers(&held), held.unanswered.as_deref()), (vec!["answer", "to b"], Some("d")));
    }
    let (journal, _) = reopen();
    journal.user("e").unwrap();
    journal.user("f").unwrap();
    drop(journal);
    assert_eq!(reopen().1.unanswered.as_deref(), Some("e\nf"));
    let (journal, _) = reopen();
    journal.user("g").unwrap();
    journal.answer().unwrap();
    journal.piece("to g").unwrap();
    drop(journal);
    let held = reopen().1;
    assert_eq!((answers(&held), held.unanswered.as_deref()), (vec!["answer", "to b", "to g"], None));
}

#[test]
fn a_conversation_that_was_replaced_is_gone_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let (journal, _) = Journal::open(name(&path), begun(None)).unwrap();
    journal.user("secret").unwrap();
    journal.answer().unwrap();
    journal.piece("secret").unwrap();
    journal.end(true).unwrap();
    journal.user("waits").unwrap();
    journal.replace(&Conversation::default()).unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("secret"));
    journal.answer().unwrap();
    journal.piece("new").unwrap();
    drop(journal);
    let held = open(&path).unwrap();
    assert_eq!((answers(&held), &*held.conversation.turns[0].user), (vec!["new"], "waits"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    // Without room for a new file the old one goes on.
    let (journal, _) = Journal::open(name(&path), begun(None)).unwrap();
    journal.file().room = Some(40);
    journal.replace(&Conversation::default()).unwrap();
    drop(journal);
    assert!(open(&path).unwrap().conversation.turns.is_empty());
}

#[test]
fn a_journal_that_is_mostly_forgotten_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let (journal, _) = Journal::open(name(&path), begun(Some("s"))).unwrap();
    for _ in 0..50 {
        journal.user("a").unwrap();
        journal.answer().unwrap();
        journal.piece(&"b".repeat(1000)).unwrap();
        journal.end(true).unwrap();
    }
    journal.forget(49).unwrap();
    journal.user("waits").unwrap();
    drop(journal);
    let before = std::fs::metadata(&path).unwrap().len();
    for _ in 0..2 {
        let held = open(&path).unwrap();
        assert_eq!((held.conversation.turns.len(), held.conversation.system.as_deref()), (1, Some("s")));
        assert_eq!(held.unanswered.as_deref(), Some("waits"));
        assert!(std::fs::metadata(&path).unwrap().len() < before / 10);
    }
}

#[test]
fn one_chat_has_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let (journal, _) = Journal::open(name(&path), begun(None)).unwrap();
    // By another name too, and without waiting for what does not come.
    let other = folder.path().join(".").join("chat.jsonl");
    let refused = Claim::new(std::fs::canonicalize(other).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    assert!(open(&path).is_err_and(|error| error.to_string().contains("in use")));
    // Another process's lock.
    let (held, free) = (folder.path().join("held"), folder.path().join("free"));
    let locked = File::create(&held).unwrap();
    locked.try_lock().unwrap();
    assert!(open(&held).is_err_and(|error| error.to_string().contains("in use")));
    assert!(open(&free).is_ok());
    // One that is being dropped is waited for.
    journal.closing();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(400));
            drop(journal);
        });
        assert!(open(&path).is_ok());
    });
}

#[test]
fn who_writes_at_an_old_place_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let (journal, _) = Journal::open(name(&path), begun(None)).unwrap();
    // As where files have no locks, and another process has it open too.
    let mut other = OpenOptions::new().append(true).open(&path).unwrap();
    other.write_all(b"{\"user\":\"theirs\"}\n").unwrap();
    journal.user("ours").unwrap();
    drop(journal);
    assert_eq!(open(&path).unwrap().unanswered.as_deref(), Some("theirs\nours"));
}

#[test]
fn a_chat_that_begins_with_messages_has_them_in_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let turn = Turn { answer: "b".to_owned(), ..Turn::new("a") };
    let conversation = Conversation { system: Some("s".to_owned()), turns: vec![turn] };
    let begun = Held { conversation: conversation.clone(), unanswered: Some("c".to_owned()) };
    let (journal, held) = Journal::open(name(&path), begun).unwrap();
    assert_eq!((&held.conversation, held.unanswered.as_deref()), (&conversation, Some("c")));
    drop(journal);
    let held = open(&path).unwrap();
    assert_eq!((&held.conversation, held.unanswered.as_deref()), (&conversation, Some("c")));
    // Answered later: what waited is not answered twice.
    let (journal, _) = Journal::open(name(&path), self::begun(None)).unwrap();
    journal.user("c").unwrap();
    journal.answer().unwrap();
    journal.piece("d").unwrap();
    journal.end(true).unwrap();
    drop(journal);
    let held = open(&path).unwrap();
    assert_eq!(answers(&held), ["b", "d"]);
    assert_eq!(held.unanswered, None);
}

#[test]
fn calls_and_their_results_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let call = |number: usize| ToolCall {
        id: format!("call_{number}"),
        name: "f".to_owned(),
        arguments: serde_json::json!({"z": 1, "a": "\n"}),
    };
    let reopen = || Journal::open(name(&path), begun(None)).unwrap();
    let (journal, _) = reopen();
    journal.user("q").unwrap();
    journal.answer().unwrap();
    journal.piece("hm").unwrap();
    journal.call(&call(1)).unwrap();
    drop(journal);
    // Killed before the end of the answer: the call waits for its result.
    let (journal, held) = reopen();
    let turn = &held.conversation.turns[0];
    assert!(turn.waits() && turn.rounds[0].text == "hm" && turn.rounds[0].calls == [call(1)]);
    journal.results(&["r".to_owned()]).unwrap();
    drop(journal);
    // Killed before anything was shown: it still waits.
    let (journal, held) = reopen();
    assert!(held.conversation.turns[0].waits() && held.unanswered.is_none());
    journal.results(&["r".to_owned()]).unwrap();
    journal.call(&call(2)).unwrap();
    journal.end(true).unwrap();
    journal.results(&["s".to_owned()]).unwrap();
    journal.piece("done").unwrap();
    journal.end(true).unwrap();
    let (conversation, expected) = {
        drop(journal);
        let (journal, held) = reopen();
        journal.replace(&held.conversation).unwrap();
        drop(journal);
        (reopen().1.conversation, held.conversation)
    };
    assert_eq!(conversation, expected, "a rewritten journal holds the same");
    let turn = &conversation.turns[0];
    let results: Vec<&[String]> = turn.rounds.iter().map(|round| &*round.results).collect();
    assert_eq!((results, turn.answer.as_str()), (vec![&["r".to_owned()][..], &["s".to_owned()]], "done"));
    assert_eq!(turn.rounds[1].calls, [call(2)]);
}
