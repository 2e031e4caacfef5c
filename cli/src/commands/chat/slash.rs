//! A line of input: a message, or a command that begins with a slash.

use std::path::PathBuf;

/// What an argument of a command is, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// Nothing that can be completed.
    Free,
    Path,
    Model,
    Setting,
    /// A kept conversation, or a path.
    Chat,
}

/// A command, as `/help` shows it.
pub(super) struct SlashCommand {
    pub(super) name: &'static str,
    usage: &'static str,
    does: &'static str,
    pub(super) argument: Argument,
}

const fn command(
    name: &'static str,
    usage: &'static str,
    argument: Argument,
    does: &'static str,
) -> SlashCommand {
    SlashCommand { name, usage, does, argument }
}

/// The commands.
pub(super) const COMMANDS: [SlashCommand; 15] = [
    command("help", "/help", Argument::Free, "this list"),
    command(
        "set",
        "/set [NAME [VALUE]]",
        Argument::Setting,
        "show the settings, or change one (VALUE `default` resets it)",
    ),
    command(
        "system",
        "/system [TEXT]",
        Argument::Free,
        "show or set the system prompt (`/system -` removes it)",
    ),
    command("model", "/model [NAME]", Argument::Model, "show the model, or go on with another one"),
    command(
        "adapter",
        "/adapter [FILE]",
        Argument::Path,
        "show the adapters, or go on with another one (`-` for none)",
    ),
    command(
        "file",
        "/file PATH",
        Argument::Path,
        "put a file's text into the next message (`/file -` takes all out)",
    ),
    command("clear", "/clear", Argument::Free, "forget the conversation and begin another (also /reset)"),
    command("retry", "/retry", Argument::Free, "answer the last message again"),
    command(
        "name",
        "/name [NAME]",
        Argument::Free,
        "show the conversation's name, or keep it under another one",
    ),
    command("save", "/save FILE", Argument::Path, "write the conversation to a JSON file"),
    command("save!", "/save! FILE", Argument::Path, "the same, and replace an existing file"),
    command("load", "/load FILE|NAME", Argument::Chat, "continue a saved or a kept conversation"),
    command("reset", "", Argument::Free, ""),
    command("stats", "/stats", Argument::Free, "tokens, speed and memory"),
    command("quit", "/quit", Argument::Free, "quit (also Ctrl-D)"),
];

/// What `/help` shows.
pub(super) fn help() -> String {
    let shown = COMMANDS.iter().filter(|command| !command.usage.is_empty());
    let lines = shown.map(|SlashCommand { usage, does, .. }| format!("{usage:<20} {does}\n"));
    let keys = "\
Alt-Enter adds a line to a message, \"\"\" begins and ends one of many lines, and pasted lines are one message.
TAB completes commands, settings, models and paths. Ctrl-C stops an answer.
A line that starts with // is sent with one slash.";
    lines.chain([keys.to_string()]).collect()
}

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing but white space.
    Empty,
    /// A message for the model.
    Say(String),
    /// `/help`
    Help,
    /// `/set` alone.
    ShowSettings,
    /// `/set NAME [VALUE]`
    Set {
        /// The setting.
        name: String,
        /// Its value; `None` shows it.
        value: Option<String>,
    },
    /// `/system` alone.
    ShowSystem,
    /// `/system TEXT`; `None` removes it.
    SetSystem(Option<String>),
    /// `/model [NAME]`
    Model(Option<String>),
    /// `/adapter [FILE[:WEIGHT]]`
    Adapter(Option<String>),
    /// `/file [PATH]`
    File(Option<String>),
    /// `/clear`
    Clear,
    /// `/retry`
    Retry,
    /// `/name [NAME]`
    Name(Option<String>),
    /// `/save FILE`, or `/save! FILE`
    Save {
        /// Where to.
        path: PathBuf,
        /// Whether to replace an existing file.
        replace: bool,
    },
    /// `/load FILE|NAME`
    Load(String),
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
    pub(super) fn parse(line: &str) -> Input {
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
        let given = Some(argument).filter(|argument| !argument.is_empty());
        let needs = |what: &str| Input::Wrong(format!("/{word} needs {what}, for example /{word} talk.json"));
        match word {
            "set" => match given.map(|given| given.split_once(char::is_whitespace).unwrap_or((given, ""))) {
                None => Input::ShowSettings,
                Some((name, value)) => {
                    let value = Some(value.trim().to_string()).filter(|value| !value.is_empty());
                    Input::Set { name: name.to_ascii_lowercase().replace('_', "-"), value }
                }
            },
            "system" => match argument {
                "" => Input::ShowSystem,
                "-" => Input::SetSystem(None),
                text => Input::SetSystem(Some(text.to_string())),
            },
            "model" => Input::Model(given.map(str::to_string)),
            "adapter" => Input::Adapter(given.map(str::to_string)),
            "file" => Input::File(given.map(str::to_string)),
            "name" => Input::Name(given.map(str::to_string)),
            "save" | "save!" => match given {
                Some(path) => Input::Save { path: PathBuf::from(path), replace: word == "save!" },
                None => needs("the name of a file"),
            },
            "load" => match given {
                Some(name) => Input::Load(name.to_string()),
                None => needs("the name of a file or of a kept conversation"),
            },
            _ if !argument.is_empty() && COMMANDS.iter().any(|command| command.name == word) => {
                Input::Wrong(format!("/{word} takes no argument (to send this as a message, begin with //)"))
            }
            "help" => Input::Help,
            "clear" | "reset" => Input::Clear,
            "retry" => Input::Retry,
            "stats" => Input::Stats,
            "quit" | "exit" | "q" | "bye" => Input::Quit,
            _ => {
                let likeness = |name: &str| strsim::jaro_winkler(word, name);
                let names = COMMANDS.iter().map(|command| command.name);
                let best = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
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
    use super::{COMMANDS, Input, help};
    use std::path::PathBuf;

    #[test]
    fn messages_and_commands_are_told_apart() {
        let say = |text: &str| Input::Say(text.to_string());
        let some = |text: &str| Some(text.to_string());
        let set = |name: &str, value: Option<&str>| Input::Set {
            name: name.to_string(),
            value: value.map(str::to_string),
        };
        let cases = [
            ("  \n ", Input::Empty),
            (" hello\nthere ", say("hello\nthere")),
            ("/usr/bin/env is a path", say("/usr/bin/env is a path")),
            ("/* a comment */", say("/* a comment */")),
            ("//help", say("/help")),
            ("/", say("/")),
            ("/help", Input::Help),
            ("/RESET", Input::Clear),
            ("/clear", Input::Clear),
            ("/set", Input::ShowSettings),
            ("/set Top_P  0.5", set("top-p", Some("0.5"))),
            ("/set system Be  brief.", set("system", Some("Be  brief."))),
            ("/set seed", set("seed", None)),
            ("/system", Input::ShowSystem),
            ("/system -", Input::SetSystem(None)),
            ("/system Be\nbrief.", Input::SetSystem(some("Be\nbrief."))),
            ("/model", Input::Model(None)),
            ("/model smollm2-70m", Input::Model(some("smollm2-70m"))),
            ("/adapter a b:0.5", Input::Adapter(some("a b:0.5"))),
            ("/file my notes.txt", Input::File(some("my notes.txt"))),
            ("/retry", Input::Retry),
            ("/name", Input::Name(None)),
            ("/save my talk.json", Input::Save { path: PathBuf::from("my talk.json"), replace: false }),
            ("/save! x", Input::Save { path: PathBuf::from("x"), replace: true }),
            ("/wow! x", say("/wow! x")),
            ("/load x", Input::Load("x".to_string())),
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
            ("/load", "kept conversation"),
            ("/quit now", "takes no argument"),
        ] {
            let Input::Wrong(sentence) = Input::parse(line) else { panic!("accepted: {line}") };
            assert!(sentence.contains(word), "{sentence}");
        }
    }

    #[test]
    fn help_names_every_command() {
        for command in COMMANDS {
            assert!(help().contains(&format!("/{}", command.name)), "{}", command.name);
            assert!(!matches!(Input::parse(&format!("/{} x", command.name)), Input::Say(_)));
        }
    }
}
