//! The patterns that cut text into words, as `tokenizer.json` and GGUF files name them.

use super::TokenizerError;
use super::component::{excerpt, kind, refuse, steps};
use serde_json::{Value, json};
use thimble_runtime::tokenizer::Pattern;

/// Llama 3's regex.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's regex.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Tekken's regex.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The regexes by pattern.
const REGEXES: [(Pattern, &str); 3] =
    [(Pattern::Llama3, LLAMA3), (Pattern::Qwen2, QWEN2), (Pattern::Tekken, TEKKEN)];

/// What is known of a pre-tokenizer's name in GGUF files.
pub(super) struct GgufPattern {
    pub(super) name: &'static str,
    pub(super) pattern: Pattern,
    /// llama.cpp looks words up before it merges them.
    pub(super) whole_words: bool,
    /// The model's own tokenizer normalizes to NFC; llama.cpp does not.
    pub(super) nfc: bool,
    /// A text begins with the begin-of-text token unless `tokenizer.ggml.add_bos_token` is false, as in llama.cpp
    /// (`llama_vocab::impl::load`).
    pub(super) adds_bos: bool,
}

/// `tokenizer.ggml.pre`: what llama.cpp calls the patterns; of several names for one, the first is written.
///
/// SmolLM2's tokenizer.json splits digits before the GPT-2 pattern runs, so that white space before a digit counts as
/// trailing. Without a tokenizer.json, transformers reads a GGUF file with the GPT-2 pattern alone (digits still stay
/// separate: no merge joins them), as in the reference values.
pub(super) const GGUF: [GgufPattern; 9] = [
    gguf("gpt-2", Pattern::Gpt2),
    gguf("gpt2", Pattern::Gpt2),
    gguf("smollm", Pattern::Gpt2),
    GgufPattern { whole_words: true, adds_bos: true, ..gguf("llama-bpe", Pattern::Llama3) },
    GgufPattern { whole_words: true, adds_bos: true, ..gguf("llama3", Pattern::Llama3) },
    GgufPattern { whole_words: true, adds_bos: true, ..gguf("llama-v3", Pattern::Llama3) },
    gguf("smaug-bpe", Pattern::Llama3),
    GgufPattern { nfc: true, ..gguf("qwen2", Pattern::Qwen2) },
    GgufPattern { whole_words: true, adds_bos: true, ..gguf("tekken", Pattern::Tekken) },
];

const fn gguf(name: &'static str, pattern: Pattern) -> GgufPattern {
    GgufPattern { name, pattern, whole_words: false, nfc: false, adds_bos: false }
}

/// The pattern that a GGUF file names.
///
/// # Errors
/// Another name.
pub(super) fn from_gguf(name: &str) -> Result<&'static GgufPattern, TokenizerError> {
    let found = GGUF.iter().find(|known| known.name == name);
    found.ok_or_else(|| TokenizerError::Unsupported {
        part: "the pre-tokenizer (tokenizer.ggml.pre)",
        expected: "gpt-2, smollm, llama-bpe, smaug-bpe, qwen2 or tekken",
        found: format!("{name:?}"),
    })
}

/// Whether llama.cpp begins texts with the begin-of-text token in a file that names this pre-tokenizer and has no
/// `tokenizer.ggml.add_bos_token`.
pub(crate) fn gguf_adds_bos(name: &str) -> bool {
    GGUF.iter().any(|known| known.name == name && known.adds_bos)
}

/// llama.cpp's name of a pattern.
pub(super) fn gguf_name(pattern: Pattern, whole_words: bool) -> &'static str {
    match (pattern, whole_words) {
        (Pattern::Gpt2, _) => "gpt-2",
        (Pattern::Gpt2Digits, _) => "smollm",
        (Pattern::Llama3, true) => "llama-bpe",
        (Pattern::Llama3, false) => "smaug-bpe",
        (Pattern::Qwen2, _) => "qwen2",
        (Pattern::Tekken, _) => "tekken",
    }
}

/// The `pre_tokenizer` of a `tokenizer.json` with this pattern.
pub(super) fn to_json(pattern: Pattern) -> Value {
    let level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let sequence = |steps: [Value; 2]| json!({"type": "Sequence", "pretokenizers": steps});
    match REGEXES.iter().find(|(known, _)| *known == pattern) {
        Some((_, regex)) => {
            let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
            sequence([split, level(false)])
        }
        None if pattern == Pattern::Gpt2Digits => {
            sequence([json!({"type": "Digits", "individual_digits": true}), level(true)])
        }
        None => level(true),
    }
}

/// The pattern of a `pre_tokenizer`.
///
/// # Errors
/// A pre-tokenizer that cuts text in another way.
pub(super) fn from_json(pre_tokenizer: &Value) -> Result<Pattern, TokenizerError> {
    let is_byte_level = |step: &Value, regex: bool| {
        kind(step) == "ByteLevel"
            && step["add_prefix_space"] == Value::Bool(false)
            && (step["use_regex"] != Value::Bool(false)) == regex
    };
    let is_digits = |step: &Value| kind(step) == "Digits" && step["individual_digits"] == Value::Bool(true);
    let split = |step: &Value| {
        let isolated = step["behavior"] == "Isolated" && step["invert"] != Value::Bool(true);
        let regex = step["pattern"]["Regex"].as_str().filter(|_| kind(step) == "Split" && isolated)?;
        REGEXES.iter().find(|(_, known)| *known == regex).map(|&(pattern, _)| pattern)
    };
    let found = match steps(pre_tokenizer, "pretokenizers").as_slice() {
        [level] if is_byte_level(level, true) => Some(Pattern::Gpt2),
        [digits, level] if is_digits(digits) && is_byte_level(level, true) => Some(Pattern::Gpt2Digits),
        [first, level] if is_byte_level(level, false) => split(first),
        _ => None,
    };
    let expected = "ByteLevel (add_prefix_space false) with the pattern of GPT-2 (alone or after Digits), Llama 3, Qwen 2 or \
                    Tekken,";
    found.ok_or_else(|| refuse("pre_tokenizer", expected, excerpt(pre_tokenizer)))
}
