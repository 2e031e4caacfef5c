//! `thimble chats`: the kept conversations.

use crate::chats::{Chats, KeptChat};
use crate::failure::Failure;
use crate::home::Home;
use crate::wrap::terminal_width;
use crate::{json, terminal};
use clap::{Args, Subcommand};
use console::{Alignment, measure_text_width, pad_str};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `thimble chats`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print a JSON array instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Delete kept conversations
    #[command(visible_alias = "remove")]
    Rm(RemoveFlags),
}

#[derive(Args, Debug)]
struct RemoveFlags {
    /// Names from `thimble chats`
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
    /// Every conversation
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// A list, or what to delete.
pub(crate) struct Job {
    home: Home,
    flags: Flags,
}

#[derive(Serialize)]
struct Row {
    name: String,
    model: Option<String>,
    turns: usize,
    /// Seconds since 1970 (UTC).
    modified: u64,
    /// The beginning of the first message.
    first: String,
}

/// Columns of the first words in the table, where it has no terminal to fit.
const FIRST_WORDS: usize = 60;
/// Columns of turns and age, with the space between all columns.
const OTHER_COLUMNS: usize = 27;

impl Row {
    fn new(kept: KeptChat) -> Row {
        let turns = kept.conversation.turns;
        let first = turns.first().map_or("", |turn| &*turn.user);
        let words = first.split_whitespace().collect::<Vec<_>>().join(" ");
        Row {
            name: kept.name,
            model: kept.model,
            turns: turns.len(),
            modified: kept.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            first: words.chars().take(2 * FIRST_WORDS).collect(),
        }
    }
}

impl Job {
    /// Locates the conversations.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { home: Home::find()?, flags })
    }

    /// Writes the list, or deletes with a line for each on stderr.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let chats = Chats::of(&self.home);
        if let Some(Action::Rm(RemoveFlags { names, all })) = self.flags.action {
            for name in if all { chats.names() } else { names } {
                chats.remove(&name)?;
                terminal::note(&format!("removed {name}"));
            }
            return Ok(());
        }
        let mut rows = Vec::new();
        for name in chats.names() {
            match chats.read(&name) {
                Ok(kept) => rows.push(Row::new(kept)),
                // One damaged file hides no other conversation.
                Err(failure) => terminal::note(&format!("note: {failure}")),
            }
        }
        if self.flags.json {
            return json::write_pretty(stdout, &rows);
        }
        if rows.is_empty() {
            return Ok(writeln!(
                stdout,
                "no conversations are kept: `thimble chat` in a terminal begins one"
            )?);
        }
        let model = |row: &Row| row.model.as_deref().map_or_else(|| "?".to_string(), short);
        let width = |text: &dyn Fn(&Row) -> String, least: usize| {
            rows.iter().map(|row| measure_text_width(&text(row))).max().unwrap_or(0).max(least)
        };
        let [names, models] = [width(&|row| row.name.clone(), 4), width(&model, 5)];
        let columns = std::io::stdout().is_terminal().then(terminal_width).flatten();
        let before = names + models + OTHER_COLUMNS;
        let first_words = columns.map_or(FIRST_WORDS, |columns| columns.saturating_sub(before).max(12));
        let pad = |text: &str, columns| pad_str(text, columns, Alignment::Left, None).into_owned();
        writeln!(
            stdout,
            "{}  {}  TURNS  {:<14}  FIRST WORDS",
            pad("NAME", names),
            pad("MODEL", models),
            "WHEN"
        )?;
        for row in &rows {
            let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(row.modified));
            let first = pad_str(&row.first, first_words, Alignment::Left, Some("…"));
            let line = format!(
                "{}  {}  {:>5}  {:<14}  {}",
                pad(&row.name, names),
                pad(&model(row), models),
                row.turns,
                ago(age.unwrap_or_default()),
                first.trim_end()
            );
            writeln!(stdout, "{}", terminal::printable(&line))?;
        }
        Ok(writeln!(
            stdout,
            "\n`thimble chat --continue NAME` continues one, `thimble chats rm NAME` deletes it"
        )?)
    }
}

/// A model as a column shows it: the name of a file without its folder.
fn short(model: &str) -> String {
    match std::path::Path::new(model) {
        path if path.is_absolute() => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        _ => model.to_string(),
    }
}

/// An age in its largest unit.
fn ago(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    let (number, unit) = match minutes {
        0 => return "just now".to_string(),
        1..60 => (minutes, "minute"),
        60..1440 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::{ago, short};
    use std::time::Duration;

    #[test]
    fn ages_have_one_unit() {
        let ago = |seconds| ago(Duration::from_secs(seconds));
        assert_eq!(
            [59, 60, 3599, 3600, 86_399].map(ago),
            ["just now", "1 minute ago", "59 minutes ago", "1 hour ago", "23 hours ago"]
        );
        assert_eq!(ago(3 * 86_400), "3 days ago");
        assert_eq!(short("smollm2-70m"), "smollm2-70m");
    }
}
