//! Sources that are not what they should be: refused by name, never half-done, never a panic.

use super::common::{Random, trained};
use serde_json::{Value, json};
use thimble_converter::tokenizer::{TokenizerError, Vocabulary};
use thimble_runtime::tokenizer::Pattern;

/// What comes of a good `tokenizer.json` after `change`.
fn changed(change: impl Fn(&mut Value)) -> Result<Vocabulary, TokenizerError> {
    let good = include_str!("../../../runtime/src/tokenizer/fixture/tiny.json");
    let mut json: Value = serde_json::from_str(good).expect("JSON");
    change(&mut json);
    Vocabulary::from_tokenizer_json(json.to_string().as_bytes())
}

#[track_caller]
fn unsupported(expected_part: &str, change: impl Fn(&mut Value)) {
    match changed(change) {
        Err(TokenizerError::Unsupported { part, .. }) => assert_eq!(part, expected_part),
        other => panic!("expected {expected_part} to be refused, found {other:?}"),
    }
}

#[test]
fn what_the_runtime_has_no_code_for_is_refused_by_name() {
    unsupported("model.type", |json| json["model"]["type"] = "WordPiece".into());
    unsupported("model.dropout", |json| json["model"]["dropout"] = 0.1.into());
    unsupported("model.byte_fallback", |json| json["model"]["byte_fallback"] = true.into());
    unsupported("model.end_of_word_suffix", |json| json["model"]["end_of_word_suffix"] = "</w>".into());
    unsupported("normalizer", |json| json["normalizer"] = json!({"type": "NFKC"}));
    unsupported("pre_tokenizer", |json| json["pre_tokenizer"] = Value::Null);
    unsupported("pre_tokenizer", |json| json["pre_tokenizer"] = json!({"type": "Whitespace"}));
    unsupported("pre_tokenizer", |json| {
        json["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true.into();
    });
    unsupported("pre_tokenizer", |json| {
        json["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false.into();
    });
    unsupported("pre_tokenizer", |json| {
        let split = json!({"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}"}, "behavior": "Isolated"});
        json["pre_tokenizer"]["pretokenizers"][0] = split;
        json["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = false.into();
    });
    unsupported("post_processor", |json| {
        json["post_processor"] = json!({"type": "TemplateProcessing", "single":
            [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]});
    });
    unsupported("post_processor", |json| {
        json["post_processor"] = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]});
    });
    unsupported("decoder", |json| json["decoder"] = json!({"type": "Metaspace"}));
    unsupported("lstrip, rstrip or single_word of an added token", |json| {
        json["added_tokens"][0]["lstrip"] = true.into()
    });
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let unknown = changed(|json| json["model"]["merges"][3] = json!(["q", "\u{120}zzz"]));
    assert!(matches!(unknown, Err(TokenizerError::UnknownMerge { rank: 3, .. })), "{unknown:?}");
    let one = changed(|json| json["model"]["merges"][3] = "alone".into());
    assert!(matches!(one, Err(TokenizerError::BadMerge { rank: 3, .. })), "{one:?}");
    let twice = changed(|json| json["model"]["vocab"]["new"] = 5.into());
    assert!(matches!(twice, Err(TokenizerError::DuplicateToken { id: 5, .. })), "{twice:?}");
    let huge = changed(|json| json["model"]["vocab"]["new"] = u32::MAX.into());
    assert!(matches!(huge, Err(TokenizerError::TooMany { what: "tokens", .. })), "{huge:?}");
    let stolen = changed(|json| json["added_tokens"][0]["id"] = 100.into());
    assert!(matches!(stolen, Err(TokenizerError::AddedId { .. })), "{stolen:?}");
    let empty = changed(|json| {
        json["added_tokens"] = json!([{"id": 400, "content": "", "special": true}]);
    });
    assert!(matches!(empty, Err(TokenizerError::EmptyAdded { id: 400 })), "{empty:?}");
    let no_a = changed(|json| {
        let vocab = json["model"]["vocab"].as_object_mut().expect("a map");
        vocab.remove("~");
    });
    assert!(matches!(no_a, Err(TokenizerError::MissingByte { byte: b'~' })), "{no_a:?}");
    assert!(matches!(Vocabulary::from_tokenizer_json(b"\xFF{"), Err(TokenizerError::Json(_))));
}

#[test]
fn holes_between_ids_are_tokens_without_text() {
    let vocabulary = changed(|json| json["model"]["vocab"]["zz"] = 1000.into()).expect("a vocabulary");
    assert_eq!(vocabulary.tokens.len(), 1001);
    assert!(vocabulary.tokens[999].is_empty());
    let section = vocabulary.emit();
    let tokenizer = thimble_runtime::tokenizer::Tokenizer::parse(&section, 1001).expect("a good section");
    assert_eq!(tokenizer.token_bytes(thimble_runtime::Token(999)), b"");
    assert_eq!(tokenizer.token_bytes(thimble_runtime::Token(1000)), b"zz");
}

#[test]
fn damaged_json_never_panics() {
    let good = trained(300, false).to_string(false).expect("JSON").into_bytes();
    let mut random = Random(17);
    for _ in 0..300 {
        let mut bad = good.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bad.len());
            bad[at] = random.next() as u8;
        }
        bad.truncate(random.below(bad.len() * 4).max(1));
        if let Ok(vocabulary) = Vocabulary::from_tokenizer_json(&bad) {
            vocabulary.emit();
        }
    }
}

/// The tokens of a GGUF file with single characters and one merge.
fn gguf() -> (Vec<String>, Vec<i32>, Vec<String>) {
    let mut tokens: Vec<String> = (b'!'..=b'~').map(|byte| char::from(byte).to_string()).collect();
    tokens.extend(["\u{120}", "<|end|>", "he", "[PAD97]"].map(String::from));
    let mut types = vec![1; tokens.len()];
    types[95] = 3;
    types[97] = 5;
    (tokens, types, vec!["h e".to_owned()])
}

#[test]
fn gguf_metadata_becomes_a_vocabulary_or_an_error() {
    let (tokens, types, merges) = gguf();
    let good = Vocabulary::from_gguf(&tokens, &types, &merges, "smollm").expect("a vocabulary");
    assert!(good.pattern == Pattern::Gpt2 && good.tokens[97].is_empty() && good.added[0].special);
    assert_eq!(good.merges, [(u32::from(b'h' - b'!'), u32::from(b'e' - b'!'), 96)]);
    let vocabulary = Vocabulary::from_gguf(&tokens, &types, &merges, "gpt-2").expect("a vocabulary");
    assert_eq!(vocabulary.pattern, Pattern::Gpt2);

    let refused = Vocabulary::from_gguf(&tokens, &types, &merges, "deepseek-llm");
    assert!(
        matches!(&refused, Err(TokenizerError::Unsupported { found, .. }) if found.contains("deepseek-llm"))
    );
    let short = Vocabulary::from_gguf(&tokens, &types[1..], &merges, "smollm");
    assert!(matches!(short, Err(TokenizerError::TypeCount { expected: 98, found: 97 })));
    for bad in ["h", "h e e", "", " ", "h  e"] {
        let error = Vocabulary::from_gguf(&tokens, &types, &[bad.to_owned()], "smollm");
        assert!(matches!(error, Err(TokenizerError::BadMerge { rank: 0, .. })), "{bad:?}: {error:?}");
    }
    let unknown = Vocabulary::from_gguf(&tokens, &types, &["h f".to_owned()], "smollm");
    assert!(matches!(unknown, Err(TokenizerError::UnknownMerge { rank: 0, .. })));
    let mut twice = tokens.clone();
    twice[3] = "he".to_owned();
    let twice = Vocabulary::from_gguf(&twice, &types, &merges, "smollm");
    assert!(matches!(twice, Err(TokenizerError::DuplicateToken { .. })));
    let mut odd = types.clone();
    odd[7] = 6;
    let odd = Vocabulary::from_gguf(&tokens, &odd, &merges, "smollm");
    assert!(matches!(odd, Err(TokenizerError::Unsupported { .. })));
    let none: [String; 0] = [];
    assert!(matches!(
        Vocabulary::from_gguf(&none, &[], &none, "smollm"),
        Err(TokenizerError::MissingByte { .. })
    ));
}
