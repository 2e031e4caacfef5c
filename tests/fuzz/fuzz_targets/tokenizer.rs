//! Tokenizer tables: arbitrary bytes never cause a panic, and good tables bring every text back.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz tokenizer`

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use thimble_runtime::Token;
use thimble_runtime::tokenizer::{Specials, Tokenizer};

const GOOD: &[u8] = include_bytes!("../../../runtime/src/tokenizer/fixture/tiny.bin");
const VOCAB: usize = 512;

#[derive(Arbitrary, Debug)]
enum Section<'a> {
    /// The good tables.
    Good,
    /// Bytes of the fuzzer's own.
    Raw(&'a [u8]),
    /// The good tables with some bytes changed: what a damaged file holds.
    Patched(Vec<(u16, u8)>),
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    section: Section<'a>,
    escape: bool,
    /// Repeated, a text makes words of more than 64 bytes.
    repeat: u8,
    ids: [u32; 2],
    text: &'a str,
}

fuzz_target!(|input: Input<'_>| {
    let patched;
    let (section, good) = match &input.section {
        Section::Good => (GOOD, true),
        Section::Raw(bytes) => (*bytes, false),
        Section::Patched(patches) => {
            let mut bytes = GOOD.to_vec();
            for &(at, value) in patches {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            patched = bytes;
            (patched.as_slice(), false)
        }
    };
    let Ok(tokenizer) = Tokenizer::parse(section, VOCAB) else {
        assert!(!good);
        return;
    };
    for id in input.ids {
        tokenizer.token_bytes(Token(id));
        tokenizer.is_special(Token(id));
    }
    tokenizer.special(input.text);
    let text = input.text.repeat(usize::from(input.repeat % 8) + 1);
    let specials = if input.escape { Specials::Escape } else { Specials::Parse };
    let mut scratch = vec![0; tokenizer.scratch_for(&text)];
    let mut out = vec![Token(0); tokenizer.most_tokens(text)];
    let encoded = tokenizer.encode(&text, specials, &mut scratch, &mut out);
    if let Ok(count) = encoded {
        let bytes = out[..count].iter().flat_map(|&token| {
            assert!(token.index() < tokenizer.vocab());
            assert!(!good || !input.escape || !tokenizer.is_special(token));
            tokenizer.token_bytes(token)
        });
        if good {
            assert!(bytes.eq(text.as_bytes()), "another text comes back");
        }
    }
    assert!(!good || encoded.is_ok());
});
