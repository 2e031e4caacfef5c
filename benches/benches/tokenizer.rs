//! Tokenizing: megabytes a second of the runtime and of the `tokenizers` crate, on the same text, one thread.
//!
//! `cargo bench -p benches --bench tokenizer -- TOKENIZER.json TEXT...`. The crate's word cache is on, and it is
//! asked for ids alone (`encode_fast`). Both get the text in parts of 64 lines; the ids are compared.

use std::hint::black_box;
use std::time::{Duration, Instant};
use thimble_converter::tokenizer::{Vocabulary, verify_against};
use thimble_runtime::Token;
use thimble_runtime::tokenizer::{Specials, Tokenizer};

/// Rounds over the whole text; the best one counts.
const ROUNDS: usize = 5;
/// Lines that are encoded at once.
const LINES: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [json, texts @ ..] = arguments.as_slice() else { return usage() };
    if texts.is_empty() {
        return usage();
    }
    let json = std::fs::read(json).expect("the tokenizer.json can be read");
    let oracle = tokenizers::Tokenizer::from_bytes(&json).expect("a tokenizer");
    let section = Vocabulary::from_tokenizer_json(&json).expect("byte-level BPE").emit();
    println!("tables: {} bytes", section.len());
    let begin = Instant::now();
    let tokenizer = Tokenizer::parse(&section, usize::MAX).expect("a good section");
    println!("opening them: {:?}", begin.elapsed());
    for path in texts {
        let text = std::fs::read_to_string(path).expect("UTF-8 text");
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let parts: Vec<String> = lines.chunks(LINES).map(|lines| lines.concat()).collect();
        verify_against(&section, &oracle, &parts).expect("equal ids");
        compare(&tokenizer, &oracle, path, &parts);
    }
}

fn compare(tokenizer: &Tokenizer<'_>, oracle: &tokenizers::Tokenizer, path: &str, parts: &[String]) {
    let bytes: usize = parts.iter().map(String::len).sum();
    let longest = parts.iter().map(|part| tokenizer.longest_word(part)).max().unwrap_or(0);
    let mut scratch = vec![0; Tokenizer::scratch_bytes(longest)];
    let mut out = vec![Token(0); parts.iter().map(String::len).max().unwrap_or(0)];
    let mut tokens = 0;
    let ours = best(|| {
        tokens = 0;
        for part in parts {
            tokens += tokenizer.encode(part, Specials::Parse, &mut scratch, &mut out).expect("enough room");
        }
    });
    let theirs = best(|| {
        for part in parts {
            black_box(oracle.encode_fast(part.as_str(), false).expect("ids"));
        }
    });
    let speed = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    println!(
        "{path}: {bytes} bytes, {tokens} tokens: thimble {:.1} MB/s, tokenizers {:.1} MB/s, {:.1} times",
        speed(ours),
        speed(theirs),
        speed(ours) / speed(theirs)
    );
}

fn best(mut work: impl FnMut()) -> Duration {
    let time = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    (0..ROUNDS).map(time).min().unwrap_or_default()
}

fn usage() {
    println!("usage: cargo bench -p benches --bench tokenizer -- TOKENIZER.json TEXT...");
}
