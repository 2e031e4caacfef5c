//! One document: its text, what else its record holds, and its id.

use crate::source::{ReadOptions, SourceKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The field that names a document.
pub const ID: &str = "id";

/// A document with the other fields of its record, which stay with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CorpusDocument {
    /// Its text; empty where the record has none.
    pub text: String,
    /// The other fields, in the record's order.
    pub fields: Map<String, Value>,
}

/// What names a document: its field `id`, or else its number in the input. Numbers come before texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DocumentId {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

impl CorpusDocument {
    /// The document in a record. JSON objects and whole rows of Parquet keep their fields.
    ///
    /// # Errors
    /// What is wrong with the record, without its place.
    pub fn parse(options: &ReadOptions, kind: SourceKind, raw: &[u8]) -> Result<CorpusDocument, String> {
        if !options.is_json(kind) {
            let text = options.text(kind, raw)?.unwrap_or_default().into_owned();
            return Ok(CorpusDocument { text, fields: Map::new() });
        }
        let raw = raw.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(raw);
        let mut fields: Map<String, Value> =
            serde_json::from_slice(raw).map_err(|error| format!("expected a JSON object: {error}"))?;
        let text = match fields.shift_remove(&options.field) {
            Some(Value::String(text)) => text,
            Some(Value::Null) => String::new(),
            Some(_) => return Err(format!("expected a string in {:?}", options.field)),
            None => {
                let field = &options.field;
                return Err(format!("expected a field {field:?}, found none; choose another with --field"));
            }
        };
        Ok(CorpusDocument { text, fields })
    }

    /// The document's id; `number` is its number in the input, from 0.
    pub fn id(&self, number: u64) -> DocumentId {
        match self.fields.get(ID) {
            Some(Value::String(text)) => DocumentId::Text(text.clone()),
            Some(Value::Number(id)) => match id.as_u64() {
                Some(id) => DocumentId::Number(id),
                None => DocumentId::Text(id.to_string()),
            },
            _ => DocumentId::Number(number),
        }
    }

    /// The record as a line of JSON, without its end; the text stands in `field`, behind the other fields.
    pub fn to_json(&self, field: &str) -> String {
        let mut line = self.fields.clone();
        line.insert(field.to_owned(), Value::String(self.text.clone()));
        Value::Object(line).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_fields() {
        let options = ReadOptions::default();
        let parse = |raw: &str| CorpusDocument::parse(&options, SourceKind::JsonLines, raw.as_bytes());
        let document = parse(r#"{"id": "x", "text": "one", "score": 0.5}"#).unwrap();
        assert_eq!((document.text.as_str(), document.id(3)), ("one", DocumentId::Text("x".into())));
        assert_eq!(document.to_json("text"), r#"{"id":"x","score":0.5,"text":"one"}"#);
        let id = |raw: &str| parse(raw).unwrap().id(3);
        assert_eq!(id(r#"{"id": 7, "text": ""}"#), DocumentId::Number(7));
        assert_eq!(id(r#"{"text": null}"#), DocumentId::Number(3));
        assert_eq!(id(r#"{"id": -1, "text": "a"}"#), DocumentId::Text("-1".into()));
        for wrong in ["", "[]", "{}", r#"{"text": 1}"#, "\"text\"", r#"{"text": "a"} x"#] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let wrong = CorpusDocument::parse(&options, SourceKind::JsonLines, b"{\"text\": \"\xff\"}");
        assert!(wrong.is_err());
        assert!(DocumentId::Number(9) < DocumentId::Text("1".into()));
    }
}
