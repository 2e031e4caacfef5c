//! Words and MinHash signatures of JSON Lines files on one thread, for `benches/curate.py`.
//!
//! `words FILE...` prints a line for each document: file, line, number of words, XXH64 of its words joined by spaces.
//! `signatures FILE...` prints the seconds and the bytes of text that FineWeb's signatures took.
#![allow(clippy::unwrap_used, reason = "an example")]

use std::time::{Duration, Instant};
use thimble_curate::dedup::{MinHash, MinHashSettings};
use thimble_curate::text::{WordList, normalize};
use xxhash_rust::xxh64::xxh64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let words_only = arguments.next().as_deref() == Some("words");
    let minhash = MinHash::new(MinHashSettings::FINEWEB).unwrap();
    let (mut time, mut bytes, mut check) = (Duration::ZERO, 0, 0);
    for path in arguments {
        let file = std::fs::read_to_string(&path).unwrap();
        for (number, line) in file.lines().enumerate() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = row["text"].as_str().unwrap();
            if words_only {
                let words = WordList::of_normalized(&normalize(text));
                let joined = words.iter().collect::<Vec<_>>().join(" ");
                println!("{path} {number} {} {:016x}", words.len(), xxh64(joined.as_bytes(), 0));
                continue;
            }
            let begin = Instant::now();
            let signature = minhash.signature(text);
            time += begin.elapsed();
            bytes += text.len();
            check ^= signature.map_or(0, |signature| signature.iter().fold(0, |sum, hash| sum ^ hash));
        }
    }
    if !words_only {
        println!("{:.3} s, {bytes} bytes, {check:016x}", time.as_secs_f64());
    }
}
