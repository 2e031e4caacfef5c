//! The patterns, the lookup of whole words and the normalization of other families, against the `tokenizers` crate.

use super::common::{Random, family, vocabulary};
use thimble_converter::tokenizer::{GgufOverrides, Vocabulary, test_texts, verify_against};
use thimble_runtime::format::FormatError;
use thimble_runtime::tokenizer::{Pattern, Tokenizer, layout};

/// As the families' `tokenizer.json` files spell them.
const FAMILIES: [(Pattern, &str, bool, bool); 4] = [
    (
        Pattern::Llama3,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        true,
        false,
    ),
    (
        Pattern::Qwen2,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        false,
        true,
    ),
    (
        Pattern::Tekken,
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        true,
        false,
    ),
    (
        Pattern::Llama3,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        false,
        true,
    ),
];

#[test]
fn ids_are_those_of_the_oracle() {
    // The nightly runs a million of each.
    let count = if cfg!(feature = "slow") { 1_000_000 } else { 20_000 };
    for (place, (pattern, regex, ignore_merges, nfc)) in FAMILIES.into_iter().enumerate() {
        let oracle = family(regex, ignore_merges, nfc, 400 + 60 * place);
        let vocabulary = vocabulary(&oracle);
        assert_eq!(
            (vocabulary.pattern, vocabulary.whole_words, vocabulary.nfc),
            (pattern, ignore_merges, nfc)
        );
        let section = vocabulary.emit();
        verify_against(&section, &oracle, test_texts(&vocabulary)).expect("equal ids");
        let mut random = Random(place as u64);
        let texts = (0..count).map(|_| random.text(24));
        verify_against(&section, &oracle, texts).expect("equal ids");
    }
}

#[test]
fn every_code_point_is_cut_and_normalized_as_the_oracle_does_it() {
    for (pattern, regex, ignore_merges, nfc) in FAMILIES.into_iter().take(3) {
        let oracle = family(regex, ignore_merges, nfc, 300);
        let section = vocabulary(&oracle).emit();
        let all: Vec<char> = (0..0x3_2400).chain(0xE_0000..0xE_0400).filter_map(char::from_u32).collect();
        let texts = all.chunks(128).map(|run| {
            // Between letters of both cases, marks, digits and blanks.
            let around = |&letter: &char| {
                [
                    letter, 'a', letter, 'B', letter, '\u{301}', ' ', letter, ' ', ' ', letter, '.', letter,
                    '7', '\n',
                ]
            };
            run.iter().flat_map(around).collect::<String>()
        });
        verify_against(&section, &oracle, texts).unwrap_or_else(|error| panic!("{pattern:?}: {error}"));
    }
}

#[test]
fn tables_come_back_and_say_which_version_they_need() {
    for (_, regex, ignore_merges, nfc) in FAMILIES {
        let vocabulary = vocabulary(&family(regex, ignore_merges, nfc, 300));
        let section = vocabulary.emit();
        assert_eq!(layout::version(&section), 2);
        assert_eq!(Vocabulary::from_section(&section).expect("a good section"), vocabulary);
        let json = vocabulary.tokenizer_json(None).expect("a tokenizer");
        let again = Vocabulary::from_tokenizer_json(json.as_bytes()).expect("byte-level BPE");
        assert_eq!(
            (again.pattern, again.whole_words, again.nfc),
            (vocabulary.pattern, vocabulary.whole_words, vocabulary.nfc)
        );
        let lists = vocabulary.gguf_lists();
        let again = Vocabulary::from_gguf(&lists.tokens, &lists.token_types, &lists.merges, &lists.pre)
            .expect("lists");
        let overrides = GgufOverrides::of(&vocabulary, &lists.pre).expect("a name that is read");
        let again = overrides.apply(again);
        assert_eq!(
            (again.pattern, again.whole_words, again.nfc),
            (vocabulary.pattern, vocabulary.whole_words, vocabulary.nfc)
        );
    }
}

#[test]
fn flags_without_a_meaning_are_refused() {
    let (_, regex, ignore_merges, nfc) = FAMILIES[0];
    let good = vocabulary(&family(regex, ignore_merges, nfc, 300)).emit();
    for flags in [3_u32, 5, 7, 1 << 6, 1 << 31] {
        let mut section = good.clone();
        section[..4].copy_from_slice(&flags.to_le_bytes());
        let error = Tokenizer::parse(&section, 1 << 20).expect_err("refused");
        assert!(matches!(error, FormatError::Tokenizer { what: "flags", .. }), "{error}");
    }
}
