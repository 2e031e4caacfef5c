//! Tokenizers that begin each text with a begin-of-text token. Ids are those of `AutoTokenizer.from_pretrained`
//! (transformers 5.24) on the same folder.

use super::refusals::names;
use super::tiny::{
    Aligned, BLOCKS, Folder, GgufFile, Meta, ODD, float_bytes, llama3_post_processor, tokenizer_json,
};
use super::{run, run_folder, run_gguf, temporary};
use serde_json::{Value as Json, json};
use std::fs;
use std::path::Path;
use thimble_chat::{ChatPrompt, encode_chat, encode_text};
use thimble_converter::export::{Dtype, export};
use thimble_converter::read::{self, Gguf, TokenizerSource, Value};
use thimble_converter::tokenizer::{Vocabulary, test_texts};
use thimble_converter::write_gguf::{GgufType, write_gguf};
use thimble_converter::{BlockType, Quant};
use thimble_runtime::Token;
use thimble_runtime::chat::{Message, Role};
use thimble_runtime::format::{DIRECTORY_RECORD, FormatError, HEADER_LEN, ModelFile, SectionKind, checksum};
use thimble_runtime::tokenizer::Specials;

const BOS: &str = "<|im_start|>";
/// Like Llama 3's, it writes the begin-of-text token itself.
const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{{ message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}";

fn folder(post_processor: Json) -> Folder {
    let mut folder = Folder::new(ODD, BlockType::F32);
    folder.tokenizer["post_processor"] = post_processor;
    folder.tokenizer_config["chat_template"] = json!(TEMPLATE);
    folder
}

fn gguf() -> GgufFile {
    GgufFile::new(BLOCKS, BlockType::F32, |spec| float_bytes(BlockType::F32, &spec.values()))
}

/// A `TemplateProcessing` of these pieces, of which `$A` is the text; tokens have ids 0 to 2.
fn template(pieces: &[&str]) -> Json {
    let piece = |piece: &&str| match *piece {
        "$A" => json!({"Sequence": {"id": "A", "type_id": 0}}),
        token => json!({"SpecialToken": {"id": token, "type_id": 0}}),
    };
    let special =
        |(id, text): (usize, &&str)| (text.to_string(), json!({"id": text, "ids": [id], "tokens": [text]}));
    let special: serde_json::Map<String, Json> =
        super::tiny::SPECIAL.iter().enumerate().map(special).collect();
    let single: Vec<Json> = pieces.iter().map(piece).collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": special})
}

/// The ids of a raw text, and whether the file is one of version 2.
fn raw(bytes: &[u8], text: &str) -> (Vec<u32>, bool) {
    let aligned = Aligned::new(bytes);
    let file = ModelFile::parse(aligned.bytes()).unwrap();
    let tokens = encode_text(&file.tokenizer(), file.config(), text, Specials::Parse).unwrap();
    let version = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
    assert_eq!(file.tokenizer().adds_bos(), version == 2);
    (tokens.into_iter().map(|token| token.0).collect(), version == 2)
}

#[test]
fn texts_by_themselves_begin_with_it_and_chats_write_it_themselves() {
    let bytes = run_folder(&folder(llama3_post_processor(BOS, 1)), 1, Quant::Keep).unwrap().1;
    for (text, ids) in [
        ("", &[1][..]),
        ("ab c", &[1, 260, 223, 69]),
        ("<|im_start|>ab", &[1, 1, 260]),
        (" 12\n", &[1, 223, 19, 20, 201]),
    ] {
        assert_eq!(raw(&bytes, text), (ids.to_vec(), true), "{text:?}");
    }
    let aligned = Aligned::new(&bytes);
    let file = ModelFile::parse(aligned.bytes()).unwrap();
    file.verify().unwrap();
    let message = Message { role: Role::User, text: "ab" };
    let chat: Vec<u32> = encode_chat(&file, &ChatPrompt::new(&[message], None))
        .unwrap()
        .into_iter()
        .map(|token| token.0)
        .collect();
    assert_eq!(chat, [1, 87, 85, 71, 84, 201, 260, 2, 201, 277, 85, 75, 85, 86, 272, 86, 201]);
    // The same ids as the `tokenizers` crate on other texts, its post-processor included.
    let json = folder(llama3_post_processor(BOS, 1)).tokenizer.to_string();
    let oracle = tokenizers::Tokenizer::from_bytes(&json).unwrap();
    for text in test_texts(&Vocabulary::from_tokenizer_json(json.as_bytes()).unwrap()) {
        assert_eq!(raw(&bytes, &text).0, oracle.encode(text.as_str(), true).unwrap().get_ids(), "{text:?}");
    }
}

#[test]
fn the_post_processor_alone_decides() {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false});
    for (post_processor, adds) in [
        (Json::Null, false),
        (byte_level.clone(), false),
        (template(&["$A"]), false),
        (template(&[BOS, "$A"]), true),
        (json!({"type": "Sequence", "processors": [template(&[BOS, "$A"]), byte_level]}), true),
    ] {
        // Beside a tokenizer.json, transformers ignores this setting.
        for setting in [true, false] {
            let mut folder = folder(post_processor.clone());
            folder.tokenizer_config["add_bos_token"] = json!(setting);
            let bytes = run_folder(&folder, 1, Quant::Keep).unwrap().1;
            let ids = if adds { vec![1, 260] } else { vec![260] };
            assert_eq!(raw(&bytes, "ab"), (ids, adds), "{post_processor}");
        }
    }
}

#[test]
fn the_token_is_the_one_that_the_tokenizer_adds() {
    // Neither file names a begin-of-text token.
    let mut silent = folder(template(&[BOS, "$A"]));
    silent.config["bos_token_id"] = Json::Null;
    silent.tokenizer_config["bos_token"] = Json::Null;
    let (summary, bytes) = run_folder(&silent, 1, Quant::Keep).unwrap();
    assert_eq!((summary.config.bos, raw(&bytes, "ab").0), (Some(Token(1)), vec![1, 260]));
    // config.json names another one than the tokenizer: the tokenizer knows what it adds.
    let mut other = folder(template(&[BOS, "$A"]));
    other.config["bos_token_id"] = json!(2);
    let (summary, bytes) = run_folder(&other, 1, Quant::Keep).unwrap();
    assert_eq!((summary.config.bos, raw(&bytes, "ab").0), (Some(Token(1)), vec![1, 260]));
    assert_eq!(
        summary.notes,
        [r#"begin-of-text token "<|im_start|>", as the tokenizer adds it; config.json has "<|im_end|>""#]
    );
}

#[test]
fn post_processors_that_add_something_else_are_refused_by_name() {
    let mut two_ids = template(&[BOS, "$A"]);
    two_ids["special_tokens"][BOS]["ids"] = json!([1, 1]);
    let mut no_ids = template(&[BOS, "$A"]);
    no_ids["special_tokens"] = json!({});
    let twice = json!({"type": "Sequence", "processors": [template(&[BOS, "$A"]), template(&[BOS, "$A"])]});
    let cases: [(Json, &[&str]); 9] = [
        (template(&[BOS, "$A", "<|im_end|>"]), &["post_processor", "<|im_start|> $A <|im_end|>"]),
        (template(&["$A", "<|im_end|>"]), &["post_processor", "$A <|im_end|>"]),
        (template(&[BOS, BOS, "$A"]), &["post_processor", "<|im_start|> <|im_start|> $A"]),
        (template(&[]), &["post_processor"]),
        (template(&["<|endoftext|>", "$A"]), &["post_processor", "<|endoftext|>", "<|im_start|>"]),
        (two_ids, &["post_processor", "single id", BOS]),
        (no_ids, &["post_processor", "single id", BOS]),
        (twice, &["post_processor", "several", BOS]),
        (json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}), &["RobertaProcessing"]),
    ];
    for (post_processor, expected) in cases {
        names(run_folder(&folder(post_processor), 1, Quant::Keep), expected);
    }
    let beyond = folder(llama3_post_processor(BOS, 300));
    names(run_folder(&beyond, 1, Quant::Keep), &["post_processor", BOS]);
}

/// The tokenizer section of a file.
fn section(bytes: &[u8]) -> Vec<u8> {
    let aligned = Aligned::new(bytes);
    let directory = thimble_runtime::format::Directory::parse(aligned.bytes()).unwrap();
    directory.bytes(aligned.bytes(), SectionKind::Tokenizer).unwrap().to_vec()
}

fn json_at(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn it_stays_through_every_format() {
    for post_processor in [llama3_post_processor(BOS, 1), Json::Null] {
        let adds = !post_processor.is_null();
        let at = temporary();
        let path = |name: &str| at.path().join(name);
        let first = run_folder(&folder(post_processor), 1, Quant::Keep).unwrap().1;
        fs::write(path("a.thimble"), &first).unwrap();
        write_gguf(&read::open(&path("a.thimble")).unwrap(), &path("b.gguf"), GgufType::Keep, &mut |_| {})
            .unwrap();
        let gguf = fs::read(path("b.gguf")).unwrap();
        let metadata = Gguf::parse(gguf.as_slice(), gguf.len() as u64).unwrap().metadata;
        assert_eq!(metadata["tokenizer.ggml.add_bos_token"], Value::Bool(adds));
        for source in ["a.thimble", "b.gguf"] {
            let again = run(&path(source), Quant::Keep).unwrap().1;
            assert_eq!(section(&again), section(&first), "{source}");
            let exported = path(&format!("{source}-out"));
            export(&read::open(&path(source)).unwrap(), &exported, Dtype::F32, &mut |_| {}).unwrap();
            assert_eq!(section(&run(&exported, Quant::Keep).unwrap().1), section(&first), "{source}");
            let setting = &json_at(&exported.join("tokenizer_config.json"))["add_bos_token"];
            assert_eq!(*setting, if adds { json!(true) } else { Json::Null }, "only where it is set");
            let oracle = tokenizers::Tokenizer::from_file(exported.join("tokenizer.json")).unwrap();
            let encoded = oracle.encode("ab", true).unwrap();
            assert_eq!(encoded.get_ids(), if adds { &[1, 260][..] } else { &[260] });
        }
        // A folder keeps its own tokenizer.json.
        let kept = folder(llama3_post_processor(BOS, 1));
        fs::create_dir(path("in")).unwrap();
        kept.write(&path("in"), 1);
        export(&read::open(&path("in")).unwrap(), &path("out"), Dtype::F32, &mut |_| {}).unwrap();
        assert_eq!(json_at(&path("out/tokenizer.json"))["post_processor"], kept.tokenizer["post_processor"]);
    }
}

#[test]
fn gguf_metadata_says_whether_it_is_added() {
    for (setting, adds) in [(Some(true), true), (Some(false), false), (None, false)] {
        let mut file = gguf();
        file.metadata.retain(|(key, _)| key != "tokenizer.ggml.add_bos_token");
        if let Some(setting) = setting {
            file.set("tokenizer.ggml.add_bos_token", Meta::Bool(setting));
        }
        let ids = if adds { vec![1, 260] } else { vec![260] };
        assert_eq!(raw(&run_gguf(&file, Quant::Keep).unwrap().1, "ab"), (ids, adds), "{setting:?}");
    }
    // llama.cpp's default for some pre-tokenizers.
    for (pre, setting, adds) in
        [("llama-bpe", None, true), ("tekken", None, true), ("llama-bpe", Some(false), false)]
    {
        let mut file = gguf();
        file.metadata.retain(|(key, _)| key != "tokenizer.ggml.add_bos_token");
        file.set("tokenizer.ggml.pre", Meta::Text(pre.to_owned()));
        if let Some(setting) = setting {
            file.set("tokenizer.ggml.add_bos_token", Meta::Bool(setting));
        }
        let at = temporary();
        fs::write(at.path().join("a.gguf"), file.bytes()).unwrap();
        let model = read::open(&at.path().join("a.gguf")).unwrap();
        let TokenizerSource::Gguf { adds_bos, .. } = model.tokenizer else { panic!("the lists") };
        assert_eq!(adds_bos, adds, "{pre}");
    }
    let mut file = gguf();
    file.set("tokenizer.ggml.add_bos_token", Meta::Bool(true));
    file.metadata.retain(|(key, _)| key != "tokenizer.ggml.bos_token_id");
    names(run_gguf(&file, Quant::Keep), &["tokenizer.ggml.bos_token_id", "texts begin with"]);
}

#[test]
fn files_with_the_flag_are_checked() {
    let good = run_folder(&folder(llama3_post_processor(BOS, 1)), 1, Quant::Keep).unwrap().1;
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let end = HEADER_LEN + word(&good, 12) as usize * DIRECTORY_RECORD;
    let open = |mut bytes: Vec<u8>| {
        bytes[24..32].fill(0);
        let sum = checksum(&bytes[..end]);
        bytes[24..32].copy_from_slice(&sum.to_le_bytes());
        ModelFile::parse(Aligned::new(&bytes).bytes()).map(|file| file.tokenizer().adds_bos())
    };
    assert_eq!(open(good.clone()), Ok(true));
    let mut old = good.clone();
    old[8] = 1;
    assert_eq!(open(old), Err(FormatError::Reserved { kind: SectionKind::Tokenizer }));
    let records = (HEADER_LEN..end).step_by(DIRECTORY_RECORD);
    let config = records.into_iter().find(|&at| word(&good, at) == SectionKind::Config as u32).unwrap();
    let bos = word(&good, config + 8) as usize + 11 * 4;
    let mut without = good;
    without[bos..bos + 4].fill(0xFF);
    let missing = open(without);
    assert!(matches!(missing, Err(FormatError::Config { field: "begin-of-text token", .. })), "{missing:?}");
}

/// The tokens of a tokenizer.json that none of the files changes.
#[test]
fn a_plain_model_stays_a_file_of_version_1() {
    let mut plain = Folder::new(ODD, BlockType::F32);
    plain.tokenizer = tokenizer_json(300);
    assert_eq!(raw(&run_folder(&plain, 1, Quant::Keep).unwrap().1, "ab"), (vec![260], false));
}
