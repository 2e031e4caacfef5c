//! Lines of input: edited in a terminal, plain from a pipe.

use super::complete::{ChatHelper, quoted};
use crate::failure::Failure;
use rustyline::config::{Behavior, BellStyle, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Cmd, Config, Editor, KeyCode, KeyEvent, Modifiers};
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

/// What was entered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Text, perhaps a command; several lines if they were pasted.
    Text(String),
    /// What stood between `"""`: a message, whatever it begins with.
    Message(String),
    /// Ctrl-C at the prompt.
    Cleared,
}

/// Where lines come from.
pub(crate) enum Reader {
    /// A terminal, with its history file.
    Terminal(Box<Editor<ChatHelper, FileHistory>>, Option<PathBuf>),
    /// Anything else; lines read so far.
    Pipe(usize),
}

/// Longest text that is kept in the history, in bytes.
const MAX_HISTORY_ENTRY: usize = 4096;

impl Reader {
    /// A line editor if stdin is a terminal. A history that cannot be read or written is ignored.
    pub(crate) fn new(history: Option<PathBuf>) -> Result<Reader, Failure> {
        if !io::stdin().is_terminal() {
            return Ok(Reader::Pipe(0));
        }
        let behavior = match io::stdout().is_terminal() {
            true => Behavior::Stdio,
            // Answers go to a file; the prompt must not.
            false => Behavior::PreferTerm,
        };
        let config = Config::builder().behavior(behavior).bell_style(BellStyle::None).bracketed_paste(true);
        let mut editor =
            Editor::with_config(config.completion_type(CompletionType::List).build()).map_err(failed)?;
        editor.set_helper(Some(ChatHelper));
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        if let Some(path) = &history {
            // Missing at the first start.
            let _ = editor.load_history(path);
        }
        Ok(Reader::Terminal(Box::new(editor), history))
    }

    /// Whether the input comes from a terminal.
    pub(crate) fn interactive(&self) -> bool {
        matches!(self, Reader::Terminal(..))
    }

    /// The next line; `None` at the end of the input.
    pub(crate) fn read(&mut self) -> Result<Option<Line>, Failure> {
        self.read_at("> ")
    }

    /// The next line, at this prompt; `None` at the end of the input.
    pub(crate) fn read_at(&mut self, prompt: &str) -> Result<Option<Line>, Failure> {
        match self {
            Reader::Terminal(editor, history) => match editor.readline(prompt) {
                Ok(line) => {
                    remember(editor, history.as_deref(), &line);
                    let message = quoted(&line).map(str::to_string);
                    Ok(Some(message.map_or(Line::Text(line), Line::Message)))
                }
                Err(ReadlineError::Interrupted) => Ok(Some(Line::Cleared)),
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(failed(error)),
            },
            Reader::Pipe(lines) => {
                let mut line = Vec::new();
                let read = io::stdin().lock().read_until(b'\n', &mut line);
                if read.map_err(|source| Failure::io("read", Path::new("stdin"), source))? == 0 {
                    return Ok(None);
                }
                *lines += 1;
                let text = String::from_utf8(line).map_err(|error| Failure::NotUtf8 {
                    input: format!("line {lines} on stdin"),
                    at: error.utf8_error().valid_up_to(),
                })?;
                Ok(Some(Line::Text(text)))
            }
        }
    }

    /// Asks a yes-or-no question; `None` without a terminal.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<Option<bool>, Failure> {
        let Reader::Terminal(editor, _) = self else { return Ok(None) };
        match editor.readline(question) {
            Ok(line) => Ok(Some(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))),
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => Ok(Some(false)),
            Err(error) => Err(failed(error)),
        }
    }
}

fn remember(editor: &mut Editor<ChatHelper, FileHistory>, history: Option<&Path>, line: &str) {
    if line.trim().is_empty() || line.len() > MAX_HISTORY_ENTRY {
        return;
    }
    let added = editor.add_history_entry(line).unwrap_or(false);
    let Some(path) = history.filter(|_| added) else { return };
    if let Some(folder) = path.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    // At once, so that it is saved even if the terminal is closed.
    let _ = editor.append_history(path);
}

fn failed(error: ReadlineError) -> Failure {
    Failure::Other(format!("cannot read from the terminal: {error}"))
}
