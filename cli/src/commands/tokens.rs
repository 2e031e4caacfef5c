//! `thimble tokens`: text to ids and back.

use crate::failure::Failure;
use crate::flags::TokensFlags;
use crate::input;
use crate::model::Location;
use crate::workspace::{self, Mapped};
use std::io::Write;
use thimble_runtime::Token;
use thimble_runtime::tokenizer::{Specials, Tokenizer};

/// Which way, and how to show it.
pub(crate) struct Job {
    location: Location,
    decode: bool,
    specials: Specials,
    json: bool,
}

impl Job {
    /// Names the model.
    pub(crate) fn resolve(flags: TokensFlags) -> Result<Job, Failure> {
        Ok(Job {
            location: Location::resolve(flags.model.model.as_deref())?,
            decode: flags.decode,
            specials: if flags.escape { Specials::Escape } else { Specials::Parse },
            json: flags.json,
        })
    }

    /// Ids or text to stdout.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let mapped = Mapped::open(&self.location.fetch()?)?;
        let tokenizer = mapped.file()?.tokenizer();
        let text = input::stdin()?;
        if self.decode {
            return decode(&tokenizer, &text, self.json, stdout);
        }
        let ids = workspace::encode(&tokenizer, &text, self.specials)?;
        let ids: Vec<u32> = ids.iter().map(|token| token.0).collect();
        if self.json {
            return write_json(&serde_json::json!({ "ids": ids, "count": ids.len() }), stdout);
        }
        for (index, id) in ids.iter().enumerate() {
            write!(stdout, "{}{id}", if index > 0 { " " } else { "" })?;
        }
        Ok(writeln!(stdout)?)
    }
}

/// Text exactly as it was, without a line end of ours.
fn decode(tokenizer: &Tokenizer<'_>, text: &str, json: bool, stdout: &mut dyn Write) -> Result<(), Failure> {
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
        return write_json(&serde_json::json!({ "text": String::from_utf8_lossy(&bytes) }), stdout);
    }
    Ok(stdout.write_all(&bytes)?)
}

/// The ids with their lines: separated by white space or commas, in brackets or not, or the object that
/// `--json` makes.
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

fn write_json(value: &serde_json::Value, stdout: &mut dyn Write) -> Result<(), Failure> {
    serde_json::to_writer(&mut *stdout, value).map_err(std::io::Error::from)?;
    Ok(writeln!(stdout)?)
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
