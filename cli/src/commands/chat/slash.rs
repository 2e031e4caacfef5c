//! A line of input: a message, or a command that begins with a slash.

use std::path::PathBuf;

/// Shown by `/help`.
pub(crate) const HELP: &str = "\
/help           this list
/reset          clear the conversation
/system [TEXT]  show or set the system prompt (`/system -` removes it)
/retry          answer the last message again
/save FILE      write the conversation to a JSON file (`/save! FILE` replaces an existing one)
/load FILE      continue a saved conversation
/stats          tokens, speed and memory
/quit           quit (also Ctrl-D)
Ctrl-C stops an answer. A line that starts with // is sent with one slash.";

const COMMANDS: [&str; 8] = ["help", "reset", "system", "retry", "save", "load", "stats", "quit"];

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing but white space.
    Empty,
    /// A message for the model.
    Say(String),
    /// `/help`
    Help,
    /// `/reset`
    Reset,
    /// `/system` alone.
    ShowSystem,
    /// `/system TEXT`; `None` removes it.
    SetSystem(Option<String>),
    /// `/retry`
    Retry,
    /// `/save FILE`, or `/save! FILE`
    Save {
        /// Where to.
        path: PathBuf,
        /// Whether to replace an existing file.
        replace: bool,
    },
    /// `/load FILE`
    Load(PathBuf),
    /// `/stats`
    Stats,
    /// `/quit`
    Quit,
    /// Not a valid command, with a helpful sentence.
    Wrong(String),
}

impl Input {
    /// Parses one input, which may have several lines if it was pasted.
    ///
    /// Only a slash with a word of letters is a command: a path or a comment is a message.
    pub(crate) fn parse(line: &str) -> Input {
        let line = line.trim();
        if line.is_empty() {
            return Input::Empty;
        }
        let Some(rest) = line.strip_prefix('/') else { return Input::Say(line.to_string()) };
        if rest.starts_with('/') {
            return Input::Say(rest.to_string());
        }
        let (word, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let name = word.to_ascii_lowercase();
        if name != "save!" && (name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic())) {
            return Input::Say(line.to_string());
        }
        Self::command(&name, argument.trim())
    }

    fn command(word: &str, argument: &str) -> Input {
        let file = |make: &dyn Fn(PathBuf) -> Input| match argument {
            "" => Input::Wrong(format!("/{word} needs the name of a file, for example /{word} talk.json")),
            path => make(PathBuf::from(path)),
        };
        match word {
            "system" => match argument {
                "" => Input::ShowSystem,
                "-" => Input::SetSystem(None),
                text => Input::SetSystem(Some(text.to_string())),
            },
            "save" => file(&|path| Input::Save { path, replace: false }),
            "save!" => file(&|path| Input::Save { path, replace: true }),
            "load" => file(&Input::Load),
            _ if !argument.is_empty() && COMMANDS.contains(&word) => {
                Input::Wrong(format!("/{word} takes no argument (to send this as a message, begin with //)"))
            }
            "help" => Input::Help,
            "reset" => Input::Reset,
            "retry" => Input::Retry,
            "stats" => Input::Stats,
            "quit" | "exit" | "q" => Input::Quit,
            _ => {
                let likeness = |name: &str| strsim::jaro_winkler(word, name);
                let best = COMMANDS.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
                let hint = match best.filter(|name| likeness(name) > 0.8) {
                    Some(name) => format!("did you mean /{name}?"),
                    None => "/help lists the commands".to_string(),
                };
                Input::Wrong(format!("there is no command /{word}: {hint}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, HELP, Input};
    use std::path::PathBuf;

    #[test]
    fn messages_and_commands_are_told_apart() {
        let say = |text: &str| Input::Say(text.to_string());
        let cases = [
            ("  \n ", Input::Empty),
            (" hello\nthere ", say("hello\nthere")),
            ("/usr/bin/env is a path", say("/usr/bin/env is a path")),
            ("/* a comment */", say("/* a comment */")),
            ("//help", say("/help")),
            ("/", say("/")),
            ("/help", Input::Help),
            ("/RESET", Input::Reset),
            ("/system", Input::ShowSystem),
            ("/system -", Input::SetSystem(None)),
            ("/system Be\nbrief.", Input::SetSystem(Some("Be\nbrief.".to_string()))),
            ("/retry", Input::Retry),
            ("/save my talk.json", Input::Save { path: PathBuf::from("my talk.json"), replace: false }),
            ("/save! x", Input::Save { path: PathBuf::from("x"), replace: true }),
            ("/wow! x", say("/wow! x")),
            ("/load x", Input::Load(PathBuf::from("x"))),
            ("/stats", Input::Stats),
            ("/quit", Input::Quit),
        ];
        for (line, meant) in cases {
            assert_eq!(Input::parse(line), meant, "{line:?}");
        }
    }

    #[test]
    fn wrong_commands_get_help() {
        for (line, word) in [
            ("/rest", "/reset?"),
            ("/xyz", "/help lists"),
            ("/save", "needs the name"),
            ("/save!", "/save! talk.json"),
            ("/quit now", "takes no argument"),
        ] {
            let Input::Wrong(sentence) = Input::parse(line) else { panic!("accepted: {line}") };
            assert!(sentence.contains(word), "{sentence}");
        }
    }

    #[test]
    fn help_names_every_command() {
        for command in COMMANDS {
            assert!(HELP.contains(&format!("/{command}")), "{command}");
            assert!(!matches!(Input::parse(&format!("/{command} x")), Input::Say(_)));
        }
    }
}
