//! `thimble tokens`: text to token ids and back. The ids are those of the text alone, without a begin-of-text token that
//! `thimble run` may add.

use crate::converted::Notes;
use crate::failure::Failure;
use crate::model::{Location, ModelFlags};
use crate::workspace::Mapped;
use crate::{input, json};
use clap::Args;
use std::io::Write;
use thimble_runtime::Token;
use thimble_runtime::tokenizer::{Specials, Tokenizer};

/// `thimble tokens`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// Turn ids on stdin (separated by white space or commas, or a JSON array) into text on stdout
    #[arg(long)]
    decode: bool,
    /// Read special tokens such as <|im_start|> as plain text
    #[arg(long, conflicts_with = "decode")]
    escape: bool,
    /// Print one JSON object: {"count": N, "ids": [...]}, or {"text": "..."} with --decode
    #[arg(long)]
    json: bool,
}

/// Which model, and in which direction.
pub(crate) struct Job {
    location: Location,
    flags: Flags,
}

impl Job {
    /// Locates the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { location: flags.model.location()?, flags })
    }

    /// Writes ids or text.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let Flags { decode, escape, json, .. } = self.flags;
        let mapped = Mapped::open(&self.location.fetch(Notes::unless(json))?)?;
        let tokenizer = mapped.file()?.tokenizer();
        let text = input::stdin()?;
        if decode {
            return write_text(&tokenizer, &text, json, stdout);
        }
        let specials = if escape { Specials::Escape } else { Specials::Parse };
        let ids = thimble_chat::encode(&tokenizer, &text, specials).map_err(Failure::other)?;
        let ids: Vec<u32> = ids.iter().map(|token| token.0).collect();
        if json {
            return json::write(stdout, &serde_json::json!({ "ids": ids, "count": ids.len() }));
        }
        for (index, id) in ids.iter().enumerate() {
            write!(stdout, "{}{id}", if index > 0 { " " } else { "" })?;
        }
        Ok(writeln!(stdout)?)
    }
}

/// Writes the text of the ids exactly, without a line end of our own.
fn write_text(
    tokenizer: &Tokenizer<'_>,
    text: &str,
    json: bool,
    stdout: &mut dyn Write,
) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    for (line, id) in ids(text)? {
        let known = id.parse().ok().filter(|&id: &u32| (id as usize) < tokenizer.vocab());
        let id = known.ok_or_else(|| Failure::Line {
            input: "the ids on stdin".to_string(),
            line,
            column: None,
            reason: format!("expected a token id below {}, found {id:?}", tokenizer.vocab()),
        })?;
        bytes.extend_from_slice(tokenizer.token_bytes(Token(id)));
    }
    if json {
        return json::write(stdout, &serde_json::json!({ "text": String::from_utf8_lossy(&bytes) }));
    }
    Ok(stdout.write_all(&bytes)?)
}

/// The ids with their line numbers: separated by white space or commas, in brackets or not, or the object of `--json`.
fn ids(text: &str) -> Result<Vec<(usize, String)>, Failure> {
    #[derive(serde::Deserialize)]
    struct Object {
        ids: Vec<serde_json::Value>,
    }
    if text.trim_start().starts_with('{') {
        let object: Object = serde_json::from_str(text).map_err(|error| {
            Failure::json("the JSON on stdin".to_string(), 1, "an object with ids", &error)
        })?;
        return Ok(object.ids.iter().map(|id| (1, id.to_string())).collect());
    }
    let text = text.trim().trim_start_matches('[').trim_end_matches(']');
    let words = |(index, line): (usize, &str)| -> Vec<(usize, String)> {
        let words = line.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        words.map(|word| (index + 1, word.to_string())).collect()
    };
    Ok(text.lines().enumerate().flat_map(words).collect())
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn ids_come_in_several_shapes() {
        for text in ["1 22 3", "[1, 22, 3]", "1,22\n\n3\n", "{\"ids\": [1, 22, 3], \"count\": 3}"] {
            let found: Vec<String> = ids(text).unwrap().into_iter().map(|(_, id)| id).collect();
            assert_eq!(found, ["1", "22", "3"], "{text}");
        }
        assert_eq!(ids("\n").unwrap(), []);
        assert_eq!(ids("1\n2").unwrap()[1], (2, "2".to_string()));
        assert!(ids("{\"id\": 1}").is_err());
    }
}
