//! A byte-level tokenizer with a few merges.

use serde_json::{Value as Json, json};
use std::collections::HashMap;

pub const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
pub const TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ \
    '<|im_start|>assistant\n' }}{% endif %}";

/// The tokens of a byte-level vocabulary of `size` tokens, in GPT-2's spelling, and its merges.
pub fn vocabulary(size: usize) -> (Vec<String>, Vec<String>) {
    let mut tokens: Vec<String> = SPECIAL.iter().map(|&t| t.to_owned()).collect();
    let plain = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let other = (0..256u32).filter(|b| !plain(b)).zip(256..).map(|(_, letter)| letter);
    let letters = (0..256).filter(plain).chain(other);
    tokens.extend(letters.filter_map(char::from_u32).map(String::from));
    let mut merges = Vec::new();
    for pair in (b'a'..=b'z').flat_map(|a| (b'a'..=b'z').map(move |b| [char::from(a), char::from(b)])) {
        if tokens.len() == size {
            break;
        }
        tokens.push(pair.iter().collect());
        merges.push(format!("{} {}", pair[0], pair[1]));
    }
    (tokens, merges)
}

pub fn tokenizer_json(vocab: usize) -> Json {
    let (tokens, merges) = vocabulary(vocab);
    let ids: HashMap<&str, usize> = tokens.iter().map(String::as_str).zip(0..).collect();
    let added = |(id, content): (usize, &&str)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": SPECIAL.iter().enumerate().map(added).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers":
            [{"type": "Digits", "individual_digits": true}, level]},
        "post_processor": null,
        "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": ids, "merges": merges},
    })
}

/// Llama 3's post-processor with another token: it begins each text with it.
pub fn llama3_post_processor(token: &str, id: usize) -> Json {
    let start = |sequence: usize| json!({"SpecialToken": {"id": token, "type_id": sequence}});
    let text = |name: &str, sequence: usize| json!({"Sequence": {"id": name, "type_id": sequence}});
    json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        {"type": "TemplateProcessing",
         "single": [start(0), text("A", 0)],
         "pair": [start(0), text("A", 0), start(1), text("B", 1)],
         "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}}},
    ]})
}
