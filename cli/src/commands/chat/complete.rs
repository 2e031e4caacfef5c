//! Completion of commands, settings, models, conversations and paths, and where a message of many lines ends.

use super::settings;
use super::slash::{Argument, COMMANDS};
use crate::catalogue;
use crate::chats::Chats;
use crate::home::Home;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use std::fs;
use std::path::Path;

/// Opens and closes a message of many lines.
const QUOTES: &str = "\"\"\"";

/// Helps the line editor.
pub(super) struct ChatHelper;

impl Helper for ChatHelper {}
impl Highlighter for ChatHelper {}
impl Hinter for ChatHelper {
    type Hint = String;
}

impl Validator for ChatHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_open(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for ChatHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, end: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(candidates(&line[..end], Home::find().ok().as_ref()))
    }
}

/// Whether `"""` begins the text and has no end yet.
fn is_open(text: &str) -> bool {
    text.trim_start().starts_with(QUOTES) && quoted(text).is_none()
}

/// The text between `"""`, if it is that.
pub(super) fn quoted(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix(QUOTES)?.strip_suffix(QUOTES)?;
    let inner = inner.strip_prefix('\n').unwrap_or(inner);
    Some(inner.strip_suffix('\n').unwrap_or(inner))
}

/// Where the word to complete begins, and what it may become.
fn candidates(typed: &str, home: Option<&Home>) -> (usize, Vec<Pair>) {
    let none = (typed.len(), Vec::new());
    let Some(rest) = typed.strip_prefix('/') else { return none };
    let Some((name, argument)) = rest.split_once(' ') else {
        let names = COMMANDS.iter().map(|command| command.name);
        return (1, matching(rest, names.map(str::to_string)));
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else { return none };
    let start = typed.len() - argument.len();
    let models = || {
        let entries = catalogue::ENTRIES.iter().map(|entry| entry.name.to_string());
        entries.chain(home.iter().flat_map(|home| home.stored()))
    };
    match command.argument {
        Argument::Free => none,
        Argument::Path => paths(argument, start),
        Argument::Setting => (start, matching(argument, settings::NAMES.map(str::to_string))),
        Argument::Model => or_paths(argument, start, matching(argument, models())),
        Argument::Chat => {
            let names = home.into_iter().flat_map(|home| Chats::of(home).names());
            or_paths(argument, start, matching(argument, names))
        }
    }
}

/// The words that begin with `typed`, in alphabetical order.
fn matching(typed: &str, words: impl IntoIterator<Item = String>) -> Vec<Pair> {
    let words = words.into_iter().filter(|word| word.starts_with(typed));
    let mut words: Vec<String> = words.collect();
    words.sort();
    words.dedup();
    words.into_iter().map(|word| Pair { display: word.clone(), replacement: word }).collect()
}

/// The words, or paths where none begins as it should.
fn or_paths(typed: &str, start: usize, words: Vec<Pair>) -> (usize, Vec<Pair>) {
    if words.is_empty() { paths(typed, start) } else { (start, words) }
}

/// The files and folders that `typed`, which begins at `start`, may mean. Spaces need no escape: an argument is all of the line.
fn paths(typed: &str, start: usize) -> (usize, Vec<Pair>) {
    let named = typed.rfind(std::path::is_separator).map_or(0, |at| at + 1);
    let (folder, name) = typed.split_at(named);
    let folder = if folder.is_empty() { Path::new(".") } else { Path::new(folder) };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let found = entry.file_name().into_string().ok()?;
        let end = if entry.path().is_dir() { std::path::MAIN_SEPARATOR_STR } else { "" };
        // Hidden files only where the user begins one.
        (!found.starts_with('.') || name.starts_with('.')).then(|| found + end)
    });
    (start + named, matching(name, names))
}

#[cfg(test)]
mod tests {
    use super::{candidates, is_open, quoted};
    use crate::home::Home;
    use std::fs;

    fn completed(typed: &str, home: &Home) -> Vec<String> {
        let (start, found) = candidates(typed, Some(home));
        found.into_iter().map(|pair| format!("{}{}", &typed[..start], pair.replacement)).collect()
    }

    #[test]
    fn commands_settings_models_and_paths_are_completed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(&folder.path().join("home"));
        for file in ["home/models/mine.thimble", "home/models/Some--Repo.thimble", "home/chats/old-talk.json"]
        {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(folder.path().join("my notes.txt"), "").unwrap();
        fs::write(folder.path().join(".hidden"), "").unwrap();
        let completed = |typed: &str| completed(typed, &home);
        assert_eq!(completed("/s"), ["/save", "/save!", "/set", "/stats", "/system"]);
        assert_eq!(completed("/set t"), ["/set temperature", "/set thinking", "/set top-k", "/set top-p"]);
        assert_eq!(completed("/model smollm2-7"), ["/model smollm2-70m"]);
        assert_eq!(completed("/model mi"), ["/model mine"]);
        assert_eq!(completed("/model Some"), ["/model Some/Repo"]);
        assert_eq!(completed("/load old"), ["/load old-talk"]);
        let at = folder.path().display();
        assert_eq!(completed(&format!("/file {at}/my n")), [format!("/file {at}/my notes.txt")]);
        assert_eq!(completed(&format!("/load {at}/ho")), [format!("/load {at}/home/")]);
        assert_eq!(completed(&format!("/file {at}/.h")), [format!("/file {at}/.hidden")]);
        assert_eq!(completed(&format!("/file {at}/")).len(), 2);
        for nothing in ["hello", "/help ", "/none x", "/file /no/such/folder/"] {
            assert!(completed(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn quotes_span_lines() {
        for (text, inner) in [
            ("\"\"\"a\"\"\"", "a"),
            ("\"\"\"\na\n\nb\n\"\"\"", "a\n\nb"),
            ("  \"\"\"/help\"\"\" ", "/help"),
            ("\"\"\"\"\"\"", ""),
        ] {
            assert!(!is_open(text), "{text}");
            assert_eq!(quoted(text), Some(inner), "{text}");
        }
        for text in ["\"\"\"", "\"\"\"a", "\"\"\"\na\n\"\""] {
            assert!(is_open(text) && quoted(text).is_none(), "{text}");
        }
        assert!(!is_open("a \"\"\"") && !is_open(""));
    }
}
