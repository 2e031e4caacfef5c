//! Tables that are damaged, and a few ids, on the committed small vocabulary.
//!
//! The comparison with the `tokenizers` crate is in the crate `conformance`.

use super::*;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

const TINY: &[u8] = include_bytes!("fixture/tiny.bin");
const VOCAB: usize = 512;

fn encode(section: &[u8], text: &str, specials: Specials) -> Option<Result<Vec<Token>, EncodeError>> {
    let tokenizer = Tokenizer::parse(section, VOCAB).ok()?;
    let mut scratch = vec![0; tokenizer.scratch_for(text)];
    let mut out = vec![Token(0); text.len()];
    let result = tokenizer.encode(text, specials, &mut scratch, &mut out);
    Some(result.map(|count| out[..count].to_vec()))
}

fn decode(section: &[u8], tokens: &[Token]) -> Vec<u8> {
    let tokenizer = Tokenizer::parse(section, VOCAB).expect("a good section");
    tokens.iter().flat_map(|&token| tokenizer.token_bytes(token)).copied().collect()
}

/// Everything that a table can be asked, whatever it says.
fn use_all(section: &[u8], text: &str) {
    let Ok(tokenizer) = Tokenizer::parse(section, VOCAB) else { return };
    for id in [0, 1, 255, 299, 300, 511, 512, u32::MAX] {
        tokenizer.token_bytes(Token(id));
        tokenizer.is_special(Token(id));
    }
    tokenizer.special("<|im_start|>");
    for specials in [Specials::Parse, Specials::Escape] {
        if let Some(Ok(tokens)) = encode(section, text, specials) {
            assert!(tokens.iter().all(|token| token.index() < tokenizer.vocab()));
        }
    }
}

#[test]
fn words_are_cut_as_the_pattern_cuts_them() {
    let cut = |text: &'static str, digits_apart| -> Vec<&'static str> {
        let pattern = if digits_apart { Pattern::Gpt2Digits } else { Pattern::Gpt2 };
        let words = Words::new(text.as_bytes(), pattern);
        words.map(|word| core::str::from_utf8(word).expect("whole characters")).collect()
    };
    assert_eq!(cut("Hello world's end", false), ["Hello", " world", "'s", " end"]);
    assert_eq!(cut("a  b", false), ["a", " ", " b"]);
    assert_eq!(cut("a\n\nb \n", false), ["a", "\n", "\n", "b", " \n"]);
    assert_eq!(cut("x 12 3", false), ["x", " 12", " 3"]);
    assert_eq!(cut("x 12  3", true), ["x", " ", "1", "2", "  ", "3"]);
    assert_eq!(cut("'Tis 'll!", false), ["'", "Tis", " '", "ll", "!"]);
    assert_eq!(
        cut("\u{A0}\u{A0}\u{E9}t\u{E9}\u{2003}", true),
        ["\u{A0}", "\u{A0}", "\u{E9}t\u{E9}", "\u{2003}"]
    );
    assert_eq!(cut("", true), [""; 0]);
}

#[test]
fn text_comes_back_and_special_tokens_cannot_be_forged() {
    let text = "It's <|im_start|>12  na\u{EF}ve \u{1F600}\r\n    the then";
    let text = &(String::from(text) + &"ab".repeat(400));
    let parsed = encode(TINY, text, Specials::Parse).expect("a good section").expect("enough room");
    let escaped = encode(TINY, text, Specials::Escape).expect("a good section").expect("enough room");
    let tokenizer = Tokenizer::parse(TINY, VOCAB).expect("a good section");
    let start = tokenizer.special("<|im_start|>").expect("an added token");
    assert!(parsed.contains(&start) && tokenizer.is_special(start));
    assert!(!escaped.iter().any(|&token| tokenizer.is_special(token)));
    assert_eq!(decode(TINY, &parsed), text.as_bytes());
    assert_eq!(decode(TINY, &escaped), text.as_bytes());
    assert!(escaped.len() < text.len(), "something merges");
}

#[test]
fn a_section_of_another_length_is_refused() {
    assert!(Tokenizer::parse(TINY, VOCAB).is_ok());
    for len in 0..TINY.len() {
        assert!(Tokenizer::parse(&TINY[..len], VOCAB).is_err(), "{len} bytes");
    }
    assert!(Tokenizer::parse(&[TINY, &[0]].concat(), VOCAB).is_err());
}

#[test]
fn each_header_field_is_checked() {
    for (range, value, what) in [
        (field::FLAGS, 3, "flags"),
        (field::TOKENS, VOCAB as u32 + 1, "number of tokens (at most)"),
        (field::MERGES, 1 << 23, "number of merges (at most)"),
        (field::PAIR_SLOTS, u32::MAX, "length of the section"),
        (field::WORD_SLOTS, u32::MAX, "length of the section"),
        (field::ADDED_FIRST, u32::MAX, "length of the section"),
        (field::ADDED_SECOND, u32::MAX, "length of the section"),
        (field::TEXT_LEN, u32::MAX, "length of the section"),
        (field::RESERVED.start..field::RESERVED.start + 4, 1, "a reserved byte"),
    ] {
        let mut bad = TINY.to_vec();
        bad[range].copy_from_slice(&u32::to_le_bytes(value));
        let error = Tokenizer::parse(&bad, VOCAB).expect_err(what);
        assert!(matches!(error, FormatError::Tokenizer { what: found, .. } if found == what), "{error}");
    }
}

#[test]
fn a_flag_says_that_texts_begin_with_a_token() {
    let parse = |section| Tokenizer::parse(section, VOCAB).expect("a good section");
    let mut begun = TINY.to_vec();
    begun[field::FLAGS.start] |= layout::FLAG_ADDS_BOS as u8;
    assert!(parse(&begun).adds_bos() && !parse(TINY).adds_bos());
    assert_eq!((layout::version(&begun), layout::version(TINY)), (2, 1));
    // Encoding stays that of the text alone.
    assert_eq!(encode(&begun, "the", Specials::Parse), encode(TINY, "the", Specials::Parse));
}

#[test]
fn ids_past_the_vocabulary_are_an_error() {
    let mut bad = TINY.to_vec();
    let at = layout::HEADER_LEN + 4 * usize::from(b'q');
    bad[at..at + 4].copy_from_slice(&400_u32.to_le_bytes());
    let tokens = Tokenizer::parse(TINY, VOCAB).expect("a good section").vocab() as u32;
    let error = encode(&bad, "q", Specials::Parse).expect("the header is good");
    assert_eq!(error, Err(EncodeError::DamagedTables { id: 400, tokens }));
}

#[test]
fn damaged_tables_never_panic() {
    let long = format!("the other {} <|im_start|>user  12 \u{4F60}", "ab".repeat(60));
    let stride = 37;
    for fill in [0, 0xFF, 0x80] {
        for at in (layout::HEADER_LEN..TINY.len()).step_by(stride) {
            let mut bad = TINY.to_vec();
            let end = (at + 4 * stride).min(bad.len());
            bad[at..end].fill(fill);
            use_all(&bad, &long);
        }
    }
    let mut bad = TINY.to_vec();
    for seed in 0..200_u32 {
        let mut state = seed;
        for byte in &mut bad[layout::HEADER_LEN..] {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        use_all(&bad, &long);
    }
}
