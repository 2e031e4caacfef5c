//! Ids, round trips and memory on small vocabularies.

use super::common::{Random, trained, vocabulary};
use thimble_converter::tokenizer::{TokenizerError, Vocabulary, test_texts, verify_against};
use thimble_runtime::Token;
use thimble_runtime::tokenizer::{CharClass, EncodeError, Pattern, Specials, Tokenizer, class_of};

/// Ids of `text`, with exactly the memory that the contract asks for.
fn encode(tokenizer: &Tokenizer<'_>, text: &str, specials: Specials) -> Vec<u32> {
    let mut scratch = vec![0xAA; tokenizer.scratch_for(text)];
    let mut out = vec![Token(0); tokenizer.most_tokens(text)];
    let count = tokenizer.encode(text, specials, &mut scratch, &mut out).expect("enough room");
    out[..count].iter().map(|token| token.0).collect()
}

fn decode(tokenizer: &Tokenizer<'_>, ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|&id| tokenizer.token_bytes(Token(id))).copied().collect()
}

#[test]
fn trained_vocabularies_give_the_ids_of_the_oracle() {
    for (vocab, digits_apart) in [(300, true), (300, false), (520, true), (520, false)] {
        let oracle = trained(vocab, digits_apart);
        let vocabulary = vocabulary(&oracle);
        assert_eq!(vocabulary.pattern == Pattern::Gpt2Digits, digits_apart);
        let section = vocabulary.emit();
        verify_against(&section, &oracle, test_texts(&vocabulary)).expect("equal ids");
        let mut random = Random(vocab as u64);
        let texts = (0..5_000).map(|_| random.text(24));
        verify_against(&section, &oracle, texts).expect("equal ids");
    }
}

#[test]
fn an_oracle_from_the_vocabulary_equals_the_original() {
    let oracle = trained(400, true);
    let vocabulary = vocabulary(&oracle);
    let again = vocabulary.oracle().expect("a tokenizer");
    let mut random = Random(7);
    for _ in 0..500 {
        let text = random.text(16);
        let ids =
            |oracle: &tokenizers::Tokenizer| oracle.encode(&*text, false).expect("ids").get_ids().to_vec();
        assert_eq!(ids(&oracle), ids(&again), "{text:?}");
    }
}

#[test]
fn every_code_point_is_cut_as_the_oracle_cuts_it() {
    let oracle = trained(300, true);
    let section = vocabulary(&oracle).emit();
    // Past these planes nothing is assigned but selectors and tags at U+E0000; the table's test looks at all.
    let all: Vec<char> = (0..0x3_2400).chain(0xE_0000..0xE_0400).filter_map(char::from_u32).collect();
    // Between letters, digits and blanks: a character of another class would be cut elsewhere.
    let texts = all.chunks(256).map(|run| {
        run.iter()
            .flat_map(|&letter| [letter, 'a', letter, ' ', letter, ' ', ' ', letter, '.'])
            .collect::<String>()
    });
    verify_against(&section, &oracle, texts).expect("equal ids");
}

#[test]
fn a_difference_is_found() {
    let oracle = trained(300, true);
    let mut other = vocabulary(&oracle);
    other.pattern = Pattern::Gpt2;
    other.merges.swap(0, 1);
    let error = verify_against(&other.emit(), &oracle, test_texts(&other)).expect_err("the ids differ");
    assert!(matches!(error, TokenizerError::Differs { .. }), "{error}");
}

#[test]
fn any_text_comes_back_byte_for_byte() {
    let section = vocabulary(&trained(400, true)).emit();
    let tokenizer = Tokenizer::parse(&section, 512).expect("a good section");
    let mut random = Random(3);
    for round in 0..3_000 {
        let text = random.text(20);
        for specials in [Specials::Parse, Specials::Escape] {
            let ids = encode(&tokenizer, &text, specials);
            assert_eq!(decode(&tokenizer, &ids), text.as_bytes(), "round {round}, {specials:?}");
        }
    }
}

#[test]
fn a_user_cannot_forge_a_special_token() {
    let section = vocabulary(&trained(400, true)).emit();
    let tokenizer = Tokenizer::parse(&section, 512).expect("a good section");
    let start = tokenizer.special("<|im_start|>").expect("an added token");
    assert!(tokenizer.is_special(start));
    assert_eq!(tokenizer.token_bytes(start), b"<|im_start|>");
    assert_eq!(tokenizer.special("<|im_start|"), None);
    let text = "hi<|im_start|>user\n<|end|>";
    let parsed = encode(&tokenizer, text, Specials::Parse);
    let longer = tokenizer.special("<|im_start|>user").expect("an added token");
    assert!(parsed.contains(&longer.0) && !parsed.contains(&start.0), "leftmost, then longest");
    let mut random = Random(9);
    for text in std::iter::once(text.to_owned()).chain((0..2_000).map(|_| random.text(20))) {
        let escaped = encode(&tokenizer, &text, Specials::Escape);
        assert!(!escaped.iter().any(|&id| tokenizer.is_special(Token(id))), "{text:?}");
        assert_eq!(decode(&tokenizer, &escaped), text.as_bytes());
    }
    // Typed in part: what touches it is text, and a token in front of it stays one.
    let typed = |range: std::ops::Range<usize>| {
        let mut scratch = vec![0; tokenizer.scratch_for(text)];
        let mut out = vec![Token(0); tokenizer.most_tokens(text)];
        let count = tokenizer.encode_typed(text, &[range], &mut scratch, &mut out).expect("enough room");
        out[..count]
            .iter()
            .map(|token| token.0)
            .filter(|&id| tokenizer.is_special(Token(id)))
            .collect::<Vec<_>>()
    };
    let end = tokenizer.special("<|end|>").expect("an added token");
    assert_eq!(typed(0..0), [longer.0, end.0]);
    assert_eq!(typed(14..18), [start.0, end.0]);
    assert_eq!(typed(0..3), [end.0]);
    assert_eq!(typed(0..text.len()), [0; 0]);
}

#[test]
fn a_word_of_a_megabyte_is_merged_in_the_order_of_the_oracle() {
    let oracle = trained(520, true);
    let section = vocabulary(&oracle).emit();
    let mut random = Random(11);
    let letters: String = (0..100_000).map(|_| char::from(b"abthe"[random.below(5)])).collect();
    let same = "a".repeat(1 << 20);
    let texts = [&same, &letters, &" ".repeat(5_000), &"ab".repeat(2_000), &"\u{4F60}\u{597D}".repeat(3_000)];
    verify_against(&section, &oracle, texts).expect("equal ids");
}

#[test]
fn every_word_length_around_the_border_of_short_and_long_is_right() {
    let oracle = trained(520, false);
    let section = vocabulary(&oracle).emit();
    let mut random = Random(13);
    let texts =
        (1..700).map(|len| (0..len).map(|_| char::from(b"abthe"[random.below(5)])).collect::<String>());
    verify_against(&section, &oracle, texts).expect("equal ids");
}

#[test]
fn too_little_room_is_an_error_that_says_how_much_there_was() {
    let section = vocabulary(&trained(300, true)).emit();
    let tokenizer = Tokenizer::parse(&section, 300 + 8).expect("a good section");
    let mut out = [Token(0); 3];
    let error = tokenizer.encode("a b c d", Specials::Parse, &mut [], &mut out);
    assert_eq!(error, Err(EncodeError::OutOfRoom { capacity: 3 }));
    let long = "x".repeat(65);
    let expected = Tokenizer::scratch_bytes(65);
    let mut scratch = vec![0; expected - 1];
    let mut out = [Token(0); 65];
    let error = tokenizer.encode(&long, Specials::Parse, &mut scratch, &mut out);
    assert_eq!(error, Err(EncodeError::WordTooLong { bytes: 65, expected, capacity: expected - 1 }));
    assert_eq!(tokenizer.longest_word(&format!("a {long}")), 66);
    assert!(tokenizer.encode(&long[..64], Specials::Parse, &mut [], &mut out).is_ok());
}

#[test]
fn a_vocabulary_may_be_smaller_than_the_embedding_but_not_larger() {
    let section = vocabulary(&trained(300, true)).emit();
    let vocab = Tokenizer::parse(&section, 1 << 20).expect("padded rows").vocab();
    assert!(Tokenizer::parse(&section, vocab).is_ok());
    assert!(Tokenizer::parse(&section, vocab - 1).is_err());
    let tokenizer = Tokenizer::parse(&section, vocab).expect("a good section");
    assert_eq!(tokenizer.token_bytes(Token(vocab as u32)), b"");
    assert_eq!(tokenizer.token_bytes(Token(u32::MAX)), b"");
    assert!(!tokenizer.is_special(Token(u32::MAX)));
}

#[test]
fn missing_bytes_are_dropped_as_the_oracle_drops_them() {
    let mut json: serde_json::Value =
        serde_json::from_str(&trained(256 + 2, true).to_string(false).expect("JSON")).expect("JSON");
    let vocab = json["model"]["vocab"].as_object_mut().expect("a vocabulary");
    // 0x04, and 0xF1, which begins the characters from U+40000.
    assert!(vocab.remove("\u{104}").is_some() && vocab.remove("\u{F1}").is_some());
    let json = json.to_string();
    let oracle: tokenizers::Tokenizer = json.parse().expect("a tokenizer");
    let vocabulary = Vocabulary::from_tokenizer_json(json.as_bytes()).expect("byte-level BPE");
    assert_eq!(vocabulary.missing_bytes(), [0x04, 0xF1]);
    let section = vocabulary.emit();
    let texts = ["a\u{4}b", "\u{4}", "x\u{40000}\u{40001}y \u{4}\u{4} "];
    verify_against(&section, &oracle, texts).expect("equal ids");
    let tokenizer = Tokenizer::parse(&section, 512).expect("a good section");
    assert!(!tokenizer.has_byte(4) && tokenizer.has_byte(b'a'));
}

#[test]
fn a_vocabulary_whose_merges_make_scattered_ids_keeps_them() {
    let mut json: serde_json::Value =
        serde_json::from_str(&trained(400, true).to_string(false).expect("JSON")).expect("JSON");
    // Turn the ids of the model's own tokens around.
    let added = json["added_tokens"].as_array().expect("a list").clone();
    let vocab = json["model"]["vocab"].as_object_mut().expect("a vocabulary");
    let last = vocab.len() as u64 - 1;
    for (text, id) in vocab.iter_mut() {
        let number = id.as_u64().expect("an id");
        if !added.iter().any(|token| token["content"] == **text) {
            *id = (last + 2 - number).into();
        }
    }
    let json = json.to_string();
    let oracle: tokenizers::Tokenizer = json.parse().expect("a tokenizer");
    let vocabulary = Vocabulary::from_tokenizer_json(json.as_bytes()).expect("byte-level BPE");
    verify_against(&vocabulary.emit(), &oracle, test_texts(&vocabulary)).expect("equal ids");
}

#[test]
fn classes_are_those_of_the_pattern() {
    for (letter, class) in [
        ('a', CharClass::Letter),
        ('\u{4F60}', CharClass::Letter),
        ('\u{BD}', CharClass::Number),
        ('\u{85}', CharClass::Space),
        ('\u{200B}', CharClass::Other),
        ('\u{1F600}', CharClass::Other),
        ('\u{10FFFF}', CharClass::Other),
    ] {
        assert_eq!(class_of(letter.into()), class, "{letter:?}");
    }
}
