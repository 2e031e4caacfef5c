//! Special and added tokens that other files than tokenizer.json declare. Ids, flags and prompts are those of
//! `AutoTokenizer.from_pretrained` (transformers 5.24) on the same folders.

use super::refusals::names;
use super::tiny::{Aligned, Folder, GgufFile, Meta, ODD, Shape, TEMPLATE, float_bytes, tokenizer_json};
use super::{run, run_gguf, temporary};
use serde_json::{Value as Json, json};
use std::fs;
use thimble_chat::template;
use thimble_converter::{BlockType, ConversionSummary, ConvertError, Quant};
use thimble_runtime::Token;
use thimble_runtime::chat::{Message, Role};
use thimble_runtime::format::ModelFile;
use thimble_runtime::tokenizer::Specials;

/// 300 tokens for an embedding of 304 rows.
const ROWS: usize = 304;

/// tokenizer_config.json and other files for a tiny model.
#[derive(Clone)]
struct Files {
    config: Json,
    others: Vec<(&'static str, Json)>,
}

impl Files {
    fn new(config: Json) -> Files {
        Files { config, others: Vec::new() }
    }

    fn and(mut self, name: &'static str, content: Json) -> Files {
        self.others.push((name, content));
        self
    }

    fn convert(&self, change: impl Fn(&mut Folder)) -> Result<(ConversionSummary, Vec<u8>), ConvertError> {
        let mut folder = Folder::new(Shape { vocab: ROWS, ..ODD }, BlockType::F32);
        folder.tokenizer = tokenizer_json(300);
        folder.tokenizer_config = self.config.clone();
        folder.config["eos_token_id"] = json!(null);
        folder.config["bos_token_id"] = json!(null);
        change(&mut folder);
        let source = temporary();
        folder.write(source.path(), 1);
        for (name, content) in &self.others {
            fs::write(source.path().join(name), content.to_string()).unwrap();
        }
        run(source.path(), Quant::Keep)
    }

    /// The ids of a text in the converted file, and which of them are special.
    fn ids(&self, text: &str) -> Vec<(u32, bool)> {
        let bytes = self.convert(|_| {}).unwrap().1;
        let aligned = Aligned::new(&bytes);
        let file = ModelFile::parse(aligned.bytes()).unwrap();
        let tokenizer = file.tokenizer();
        let (mut scratch, mut out) = (vec![0; 1 << 16], vec![Token(0); 100]);
        let count = tokenizer.encode(text, Specials::Parse, &mut scratch, &mut out).unwrap();
        out[..count].iter().map(|&token| (token.0, tokenizer.is_special(token))).collect()
    }

    /// What the chat template makes of one message.
    fn prompt(&self) -> String {
        prompt(&self.convert(|_| {}).unwrap().1)
    }
}

/// What the chat template in a file makes of one message.
fn prompt(bytes: &[u8]) -> String {
    let aligned = Aligned::new(bytes);
    let file = ModelFile::parse(aligned.bytes()).unwrap();
    let message = Message { role: Role::User, text: "hi" };
    let pieces =
        template::render(&file.chat().unwrap(), &[message], template::TemplateOptions::ANSWER).unwrap();
    pieces.iter().map(|piece| piece.text()).collect()
}

/// A described token.
fn token(content: &str, special: bool) -> Json {
    json!({"content": content, "lstrip": false, "rstrip": false, "single_word": false, "normalized": false,
           "special": special})
}

#[test]
fn tokens_are_added_from_every_file_that_declares_them() {
    let empty = || Files::new(json!({}));
    for (place, files) in [
        ("a list", Files::new(json!({"extra_special_tokens": ["<t>", "<u>"]}))),
        ("names", Files::new(json!({"extra_special_tokens": {"a_token": "<t>", "z_token": "<u>"}}))),
        ("own names", Files::new(json!({"z_token": "<t>", "extra_special_tokens": ["<u>"]}))),
        ("the old list", Files::new(json!({"additional_special_tokens": ["<t>", "<u>"]}))),
        (
            "descriptions",
            Files::new(
                json!({"added_tokens_decoder": {"301": token("<u>", true), "300": token("<t>", true)}}),
            ),
        ),
        ("standard names", Files::new(json!({"pad_token": "<u>", "sep_token": "<t>", "mask_token": null}))),
        (
            "the map",
            empty().and(
                "special_tokens_map.json",
                json!({"unk_token": "<t>", "pad_token": token("<u>", false)}),
            ),
        ),
        (
            "the map's list",
            empty().and("special_tokens_map.json", json!({"additional_special_tokens": ["<t>", "<u>"]})),
        ),
        (
            "plain ids",
            Files::new(json!({"extra_special_tokens": ["<t>", "<u>"]}))
                .and("added_tokens.json", json!({"<u>": 301, "<t>": 300})),
        ),
    ] {
        assert_eq!(files.ids("a<t><u>"), [(67, false), (300, true), (301, true)], "{place}");
    }
    // Neither named nor described as special.
    let plain = empty().and("added_tokens.json", json!({"<t>": 300}));
    assert_eq!(plain.ids("a<t>"), [(67, false), (300, false)]);
    // A token of the vocabulary becomes one that is found in text, at its own id.
    let known = Files::new(json!({"extra_special_tokens": ["aa"]}));
    assert_eq!(known.ids("baab").iter().filter(|&&(_, special)| special).count(), 1);
    // Ids follow the vocabulary, whatever a file announces.
    let far = empty().and("added_tokens.json", json!({"<t>": 303}));
    assert_eq!(far.ids("<t>"), [(300, false)]);
    // A description counts for tokens of tokenizer.json too, and takes the place of the old files.
    let described = Files::new(json!({"added_tokens_decoder": {"300": token("<t>", false)}}))
        .and("added_tokens.json", json!({"<u>": 300}))
        .and("special_tokens_map.json", json!({"eos_token": "<t>"}));
    assert_eq!(described.ids("<t>"), [(300, false)]);
    assert!(described.ids("<u>").len() > 1);
}

#[test]
fn the_order_of_an_object_decides_the_ids() {
    let source = r#"{"extra_special_tokens": {"z_token": "<1>", "a_token": "<2>", "m_token": "<3>"}}"#;
    let files = Files { config: json!({}), others: vec![] };
    let bytes = {
        let mut folder = Folder::new(Shape { vocab: ROWS, ..ODD }, BlockType::F32);
        folder.tokenizer = tokenizer_json(300);
        folder.tokenizer_config = files.config;
        let path = temporary();
        folder.write(path.path(), 1);
        fs::write(path.path().join("tokenizer_config.json"), source).unwrap();
        run(path.path(), Quant::Keep).unwrap().1
    };
    let aligned = Aligned::new(&bytes);
    let file = ModelFile::parse(aligned.bytes()).unwrap();
    let texts = [300, 301, 302].map(|id| file.tokenizer().token_bytes(Token(id)));
    assert_eq!(texts, [b"<1>", b"<2>", b"<3>"]);
}

#[test]
fn named_tokens_end_texts_and_fill_templates() {
    let template = |source: &str, mut config: Json| {
        config["chat_template"] = json!(source);
        Files::new(config)
    };
    // Names in the map alone, as texts and as objects.
    for end in [json!("<|im_end|>"), token("<|im_end|>", true)] {
        let files = template(TEMPLATE, json!({})).and("special_tokens_map.json", json!({"eos_token": end}));
        let (summary, _) = files.convert(|_| {}).unwrap();
        assert!(summary.config.is_stop(Token(2)));
    }
    let begin = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}";
    let files = template(begin, json!({}))
        .and("special_tokens_map.json", json!({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}));
    assert_eq!(files.prompt(), "<|im_start|>hi<|im_end|>");

    let named = json!({"pad_token": "<|im_end|>", "unk_token": "<|endoftext|>", "mask_token": "it's \\ <m>\n",
        "extra_special_tokens": {"tool_token": "<tool>"}});
    let ask = "{{ messages[0]['content'] }}[{{ pad_token }}|{{ unk_token }}|{{ mask_token }}|{{ tool_token }}|{{ cls_token }}]";
    let expected = "hi[<|im_end|>|<|endoftext|>|it's \\ <m>\n|<tool>|]";
    assert_eq!(template(ask, named.clone()).prompt(), expected);
    // White space at the beginning of the template stays what it is.
    for (front, shown) in [
        ("\n", "\n"),
        ("\n\n ", "\n\n "),
        ("  ", "  "),
        ("  {% if true %}\n", ""),
        ("  {%- if true %} ", " "),
    ] {
        let end = if front.contains("if") { "{% endif %}" } else { "" };
        let files = template(&format!("{front}{ask}{end}"), named.clone());
        assert_eq!(files.prompt(), format!("{shown}{expected}"), "{front:?}");
    }
    // The literal form needs no names any more.
    let literal = template(&TEMPLATE.replace("'<|im_end|>'", "pad_token"), named);
    assert_eq!(literal.prompt(), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn the_named_tokens_of_a_gguf_file_fill_templates() {
    let mut file = GgufFile::new(ODD, BlockType::F32, |spec| float_bytes(BlockType::F32, &spec.values()));
    file.set("tokenizer.ggml.padding_token_id", Meta::U32(2));
    file.set("tokenizer.ggml.unknown_token_id", Meta::U32(0));
    let source = "{{ messages[0]['content'] }}[{{ pad_token }}|{{ unk_token }}|{{ mask_token }}]";
    file.set("tokenizer.chat_template", Meta::Text(source.into()));
    assert_eq!(prompt(&run_gguf(&file, Quant::Keep).unwrap().1), "hi[<|im_end|>|<|endoftext|>|]");
}

#[test]
fn tokens_without_a_row_are_left_out_and_named() {
    let files = Files::new(json!({"extra_special_tokens": ["<1>", "<2>", "<3>", "<4>", "<5>"]}));
    let (summary, _) = files.convert(|_| {}).unwrap();
    assert_eq!(summary.notes[0], "the token \"<5>\" left out: its id 304 has no row in the embedding");
    assert_eq!(files.ids("<4>"), [(303, true)]);
    assert!(files.ids("<5>").len() > 1);
}

#[test]
fn what_the_tables_cannot_hold_is_refused() {
    let strip = |flag: &str| {
        let mut described = token("<t>", true);
        described[flag] = json!(true);
        json!({"added_tokens_decoder": {"300": described}})
    };
    let class = |name: &str| json!({"tokenizer_class": name, "add_prefix_space": true});
    let cases: [(Json, &[&str]); 10] = [
        (strip("lstrip"), &["lstrip", "<t>"]),
        (strip("rstrip"), &["rstrip", "<t>"]),
        (strip("single_word"), &["single_word", "<t>"]),
        (class("GPT2Tokenizer"), &["add_prefix_space"]),
        (json!({"split_special_tokens": true}), &["split_special_tokens"]),
        (json!({"eos_token": 2}), &["tokenizer_config.json", "eos_token", "a string"]),
        (json!({"extra_special_tokens": "<t>"}), &["extra_special_tokens", "a list of strings"]),
        (json!({"added_tokens_decoder": ["<t>"]}), &["added_tokens_decoder", "by id"]),
        (json!({"added_tokens_decoder": {"300": "<t>"}}), &["added_tokens_decoder", "content"]),
        (json!(["<t>"]), &["tokenizer_config.json", "a JSON object"]),
    ];
    for (config, expected) in cases {
        names(Files::new(config).convert(|_| {}), expected);
    }
    for (name, content, expected) in [
        (
            "special_tokens_map.json",
            json!({"pad_token": {"text": "<t>"}}),
            "special_tokens_map.json: pad_token",
        ),
        ("added_tokens.json", json!({"<t>": "300"}), "added_tokens.json: <t>"),
        ("added_tokens.json", json!(3), "added_tokens.json"),
    ] {
        names(Files::new(json!({})).and(name, content).convert(|_| {}), &[expected]);
    }
    // The classes that do not look at it.
    Files::new(class("PreTrainedTokenizerFast")).convert(|_| {}).unwrap();
}
