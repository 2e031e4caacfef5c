//! `thimble run MODEL PROMPT`: which argument is which.

use crate::catalogue;
use crate::failure::Failure;
use crate::file_kind::{GGUF, begins_with, has_model_extension, is_model_folder};
use crate::input;
use crate::model::Location;
use crate::terminal;
use clap::Args;
use std::path::Path;
use thimble_runtime::format::MAGIC;

/// The model and the text to continue.
#[derive(Args, Clone, Debug)]
pub(crate) struct PromptFlags {
    /// A name from `thimble list`, or the path of an existing model file [default: smollm2-135m-instruct]. A single
    /// argument that is neither, or that names a folder or another file, is the prompt
    #[arg(value_name = "MODEL")]
    pub(crate) first: Option<String>,
    /// The text to continue, in quotes. With `-`, or with no prompt when input is piped in, it is read from stdin (one
    /// trailing newline is dropped)
    #[arg(value_name = "PROMPT")]
    pub(crate) second: Option<String>,
    /// Too many arguments.
    #[arg(hide = true)]
    pub(crate) rest: Vec<String>,
    /// The prompt, whatever it looks like; `-` reads stdin
    #[arg(long, short, value_name = "TEXT|-", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
}

/// Where the text to continue comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// An argument.
    Text(String),
    /// All of stdin.
    Stdin,
}

impl Prompt {
    /// The text. Stdin must not be empty; an argument may.
    pub(crate) fn read(&self) -> Result<String, Failure> {
        match self {
            Prompt::Text(text) => Ok(text.clone()),
            Prompt::Stdin => {
                let mut text = input::stdin()?;
                // Like a shell's $(...): the line end that `echo` adds is not part of the prompt.
                if text.ends_with('\n') {
                    text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
                }
                (!text.trim().is_empty()).then_some(text).ok_or(Failure::NoPrompt)
            }
        }
    }
}

/// What a missing prompt means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingPrompt {
    /// It comes from stdin.
    Stdin,
    /// Stdin is a terminal: it is an error.
    Refused,
    /// Files are the prompt.
    Empty,
}

/// Tells model and prompt apart.
pub(crate) fn resolve(flags: PromptFlags, missing: MissingPrompt) -> Result<(Location, Prompt), Failure> {
    let PromptFlags { first, second, rest, prompt } = flags;
    let usage = |sentence: String| Err(Failure::Usage(sentence));
    if !rest.is_empty() {
        return usage(
            "expected a model and a prompt, found more arguments: put the prompt in quotes".to_string(),
        );
    }
    let typed = prompt.is_some();
    let (model, prompt) = match (first, second, prompt) {
        (Some(model), Some(_), Some(_)) => {
            return usage(format!(
                "the prompt is given twice, after {model} and with --prompt: leave one out"
            ));
        }
        (Some(model), Some(prompt), None) => {
            if Location::resolve(Some(&model)).is_err() && is_model(&prompt) {
                return usage(format!(
                    "expected the model before the prompt: thimble run {prompt} {model:?}"
                ));
            }
            (Some(model), Some(prompt))
        }
        (Some(word), None, None) if !means_model(&word)? => (None, Some(word)),
        (model, _, prompt) => (model, prompt),
    };
    let location = Location::resolve(model.as_deref());
    let location = location.map_err(|failure| match (failure, &prompt) {
        // `thimble run tell me more` without quotes.
        (Failure::UnknownModel { name }, Some(prompt)) if !typed && catalogue::nearest(&name).is_none() => {
            let sentence = Failure::UnknownModel { name: name.clone() };
            Failure::Usage(format!(
                "{sentence} (put a prompt of several words in quotes: \"{name} {prompt} ...\")"
            ))
        }
        (failure, _) => failure,
    })?;
    match prompt {
        Some(text) if text != input::STDIN => Ok((location, Prompt::Text(text))),
        None if missing == MissingPrompt::Empty => Ok((location, Prompt::Text(String::new()))),
        None if missing == MissingPrompt::Refused => usage(
            "there is no text to continue: give a prompt, as in `thimble run MODEL \"Once upon a time\"`, or use --prompt - to \
             read stdin"
                .to_string(),
        ),
        _ => Ok((location, Prompt::Stdin)),
    }
}

/// Whether this is a name of the catalogue, an existing file that is a model by its extension or its first bytes, or a
/// Hugging Face folder.
fn is_model(word: &str) -> bool {
    let path = Path::new(word);
    let by_magic = || begins_with(path, &MAGIC) || begins_with(path, GGUF);
    catalogue::find(word).is_some()
        || (path.is_file() && (has_model_extension(path) || by_magic()))
        || is_model_folder(path)
        || matches!(Location::resolve(Some(word)), Ok(Location::Stored(_)))
}

/// Whether a single argument is a model, and not the prompt for the default one. What only looks like a model's name or path
/// may be a typo, and is an error. A plain word that happens to name a folder or another file is the prompt.
fn means_model(word: &str) -> Result<bool, Failure> {
    if word == input::STDIN {
        return Ok(false);
    }
    if is_model(word) {
        return Ok(true);
    }
    if word.is_empty() || word.contains(char::is_whitespace) {
        return Ok(false);
    }
    let unsure = |what: String| {
        let sentence = format!("{what} (if it is meant as the prompt, use --prompt {word:?})");
        Err(Failure::Usage(sentence))
    };
    match Location::resolve(Some(word)) {
        Ok(Location::Path(path)) if !path.exists() => unsure(Failure::NoFile { path }.to_string()),
        Ok(Location::Path(path)) if word.contains(std::path::is_separator) || word.contains(".thimble") => {
            unsure(match path.is_dir() {
                true => Failure::Folder { path }.to_string(),
                false => format!("{word} is not a .thimble file"),
            })
        }
        Ok(Location::Path(_)) => {
            terminal::note(&format!(
                "note: {word} exists here but is not a .thimble file: it is used as the prompt"
            ));
            Ok(false)
        }
        Err(failure) if catalogue::nearest(word).is_some() => unsure(failure.to_string()),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::{MissingPrompt, Prompt, PromptFlags, resolve};
    use crate::catalogue;
    use crate::model::Location;

    fn flags(words: &[&str], prompt: Option<&str>) -> PromptFlags {
        let word = |at: usize| words.get(at).map(|word| word.to_string());
        let rest = words.iter().skip(2).map(|word| word.to_string()).collect();
        PromptFlags { first: word(0), second: word(1), rest, prompt: prompt.map(str::to_string) }
    }

    #[test]
    fn one_word_is_a_model_or_a_prompt() {
        let model = |name: &str| Location::Catalogue(catalogue::find(name).unwrap());
        let default = || model(catalogue::DEFAULT);
        let text = |text: &str| Prompt::Text(text.to_string());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), super::MAGIC).unwrap();
        let path = file.path().to_str().unwrap();
        let cases = [
            (&["Once upon a time"][..], None, default(), text("Once upon a time")),
            (&["Hello"], None, default(), text("Hello")),
            // Names of a folder here, and of a file that is not a model.
            (&["src"], None, default(), text("src")),
            (&["Cargo.toml"], None, default(), text("Cargo.toml")),
            (&[""], None, default(), text("")),
            (&["either/or, what now"], None, default(), text("either/or, what now")),
            (&["SmolLM2-70M"], None, model("smollm2-70m"), Prompt::Stdin),
            (&[path], None, Location::Path(path.into()), Prompt::Stdin),
            (&["-"], None, default(), Prompt::Stdin),
            (&[], None, default(), Prompt::Stdin),
            (&[], Some("-"), default(), Prompt::Stdin),
            (&[], Some("x"), default(), text("x")),
            (&["smollm2-70m"], Some("x"), model("smollm2-70m"), text("x")),
            (&["smollm2-70m", "x y"], None, model("smollm2-70m"), text("x y")),
            (&["smollm2-70m", "-"], None, model("smollm2-70m"), Prompt::Stdin),
            (&["no.thimble", "x"], None, Location::Path("no.thimble".into()), text("x")),
        ];
        for (words, prompt, location, meant) in cases {
            assert_eq!(
                resolve(flags(words, prompt), MissingPrompt::Stdin).unwrap(),
                (location, meant),
                "{words:?}"
            );
        }
    }

    #[test]
    fn an_ambiguous_argument_is_an_error_that_shows_both_ways() {
        let cases = [
            (&["smolm2-70m"][..], None, "did you mean smollm2-70m?"),
            (&["smolm2-70m"], None, "--prompt \"smolm2-70m\""),
            (&["models/mine"], None, "there is no file models/mine"),
            (&["mine.thimble"], None, "--prompt \"mine.thimble\""),
            (&["smollm2-70n"], Some("x"), "did you mean smollm2-70m?"),
            (&["tell", "me"], None, "in quotes: \"tell me ...\""),
            (&["./src"], None, "./src is a folder without a config.json"),
            (&["./Cargo.toml"], None, "./Cargo.toml is not a .thimble file"),
            (&["tell", "me", "more"], None, "in quotes"),
            (&["Once upon", "smollm2-70m"], None, "thimble run smollm2-70m \"Once upon\""),
            (&["smollm2-70m", "x"], Some("y"), "twice"),
        ];
        for (words, prompt, expected) in cases {
            let failure = resolve(flags(words, prompt), MissingPrompt::Stdin).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{words:?}: {failure}");
            assert!(failure.to_string().contains(expected), "{words:?}: {failure}");
        }
        let named = resolve(flags(&["tell"], Some("me")), MissingPrompt::Stdin).unwrap_err().to_string();
        assert!(named.contains("no model is called") && !named.contains("in quotes"), "{named}");
        let nothing = resolve(flags(&["smollm2-70m"], None), MissingPrompt::Refused).unwrap_err().to_string();
        assert!(nothing.contains("--prompt -"), "{nothing}");
    }
}
