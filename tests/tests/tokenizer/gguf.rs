//! Just enough of a GGUF reader for the tokenizer's metadata: the oracle of the long runs must not share the
//! converter's.

use std::collections::HashMap;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, Tokenizer};

/// `tokenizer.ggml.*` of a file.
pub(crate) struct Metadata {
    pub(crate) tokens: Vec<String>,
    pub(crate) types: Vec<i32>,
    pub(crate) merges: Vec<String>,
    pub(crate) pre: String,
}

enum Value {
    Number(i64),
    Text(String),
    List(Vec<Value>),
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk::<N>().expect("a whole field");
        self.0 = rest;
        *taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn text(&mut self) -> String {
        let len = self.u64() as usize;
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        String::from_utf8(text.to_vec()).expect("UTF-8")
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            0 | 1 | 7 => Value::Number(i64::from(self.take::<1>()[0])),
            2 | 3 => Value::Number(i64::from(u16::from_le_bytes(self.take()))),
            4..=6 => Value::Number(i64::from(self.u32() as i32)),
            8 => Value::Text(self.text()),
            9 => {
                let (kind, len) = (self.u32(), self.u64());
                Value::List((0..len).map(|_| self.value(kind)).collect())
            }
            10..=12 => Value::Number(self.u64() as i64),
            other => panic!("metadata of type {other}"),
        }
    }
}

impl Metadata {
    /// Reads the metadata of a GGUF file.
    pub(crate) fn read(bytes: &[u8]) -> Metadata {
        let mut reader = Reader(bytes);
        assert_eq!(&reader.take(), b"GGUF");
        let (_version, _tensors, entries) = (reader.u32(), reader.u64(), reader.u64());
        let mut found = HashMap::new();
        for _ in 0..entries {
            let key = reader.text();
            let kind = reader.u32();
            found.insert(key, reader.value(kind));
        }
        let mut list = |key: &str| match found.remove(key) {
            Some(Value::List(list)) => list,
            _ => panic!("{key} is missing"),
        };
        let texts = |list: Vec<Value>| -> Vec<String> {
            list.into_iter()
                .map(|value| match value {
                    Value::Text(text) => text,
                    _ => panic!("not text"),
                })
                .collect()
        };
        let numbers = |list: Vec<Value>| -> Vec<i32> {
            list.into_iter()
                .map(|value| match value {
                    Value::Number(number) => number as i32,
                    _ => panic!("not a number"),
                })
                .collect()
        };
        let tokens = texts(list("tokenizer.ggml.tokens"));
        let merges = texts(list("tokenizer.ggml.merges"));
        let types = numbers(list("tokenizer.ggml.token_type"));
        let Some(Value::Text(pre)) = found.remove("tokenizer.ggml.pre") else { panic!("no pre-tokenizer") };
        Metadata { tokens, types, merges, pre }
    }

    /// The `tokenizers` crate's tokenizer, built from the file's own strings.
    pub(crate) fn oracle(&self) -> Tokenizer {
        let vocab: Vocab = self.tokens.iter().cloned().zip(0..).collect();
        let split = |merge: &String| {
            let (left, right) = merge.split_once(' ').expect("two tokens");
            (left.to_owned(), right.to_owned())
        };
        let merges = self.merges.iter().map(split).collect();
        let model = BPE::builder().vocab_and_merges(vocab, merges).build().expect("a model");
        let mut oracle = Tokenizer::new(model);
        oracle.with_pre_tokenizer(Some(super::common::pre_tokenizer(false)));
        let special = self.tokens.iter().zip(&self.types).filter(|&(_, &kind)| kind == 3);
        let special: Vec<_> = special.map(|(text, _)| AddedToken::from(text.clone(), true)).collect();
        oracle.add_special_tokens(special).expect("special tokens");
        oracle
    }
}
