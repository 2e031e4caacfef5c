//! A model file: arbitrary bytes, and a good file with some bytes changed, never cause a panic, and what opens
//! gives out views of the announced sizes only.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz format`

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use std::sync::OnceLock;
use thimble_converter::write::{Contents, FileWriter};
use thimble_runtime::Token;
use thimble_runtime::chat::{MessageFormat, ChatTemplate, Literals, Message, Role};
use thimble_runtime::format::{
    ALIGN, Config, DIRECTORY_RECORD, Encoding, HEADER_LEN, ModelFile, TensorRole, TensorRecord, checksum,
};
use thimble_runtime::tokenizer::{Specials, Tokenizer};

const TOKENIZER: &[u8] = include_bytes!("../../../runtime/src/tokenizer/fixture/tiny.bin");

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Raw(&'a [u8]),
    /// Changes anywhere, or in header, directory, configuration and tensor table only.
    Patched {
        patches: Vec<(u16, u8)>,
        head: bool,
        seal: bool,
    },
}

/// A model of one tiny layer.
fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let config = Config {
            hidden: 8,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            ffn: 8,
            vocab: 512,
            context: 16,
            ..Config::PLAIN
        };
        let mut end = 0u64;
        let tensors: Vec<TensorRecord> = (0..TensorRole::count(&config))
            .map(|index| {
                let (role, layer) = TensorRole::at(&config, index);
                let (rows, columns) = role.shape(&config);
                let encoding = if role.is_vector() { Encoding::Vector } else { Encoding::ALL[1 + index % (Encoding::ALL.len() - 1)] };
                let length = encoding.tensor_bytes(rows, columns).expect("small") as u64;
                let offset = end.next_multiple_of(ALIGN);
                end = offset + length;
                let (rows, columns) = (rows as u32, columns as u32);
                TensorRecord { role, layer, encoding, rows, columns, offset, length }
            })
            .collect();
        let contents = Contents {
            config,
            tokenizer: TOKENIZER.to_vec(),
            chat: Some(chat()),
            provenance: "{}".to_owned(),
            tensors,
        };
        let mut writer = FileWriter::new(Cursor::new(Vec::new()), contents).expect("memory");
        while let Some(record) = writer.next_tensor().expect("memory") {
            writer.weights(&vec![1; record.length as usize]).expect("memory");
        }
        writer.finish().expect("memory").into_inner()
    })
}

/// A template with text around every message.
fn chat() -> Vec<u8> {
    let around = MessageFormat { prefix: "<|a|>", suffix: "<|z|>\n", trim: true };
    let literals = Literals {
        begin: "<|b|>",
        default_system: "Be brief.",
        generate: "<|g|>",
        end: "<|e|>",
        system: around,
        user: around,
        assistant: around,
        ..Literals::default()
    };
    let mut bytes = Vec::new();
    let emitted = ChatTemplate::Literal(literals).emit(&mut |piece| bytes.extend_from_slice(piece));
    emitted.expect("small");
    bytes
}

/// What is rendered and encoded: words, spaces, digits, a long word and characters of several bytes.
const TEXT: &str = " Hello, wörld! 12345 \r\n\t🙂 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ";

/// Ids of a text, or an error: never a panic, never an id outside the vocabulary.
fn encode(tokenizer: &Tokenizer<'_>, text: &str) {
    let mut scratch = vec![0; tokenizer.scratch_for(text)];
    let mut out = vec![Token(0); tokenizer.most_tokens(text)];
    for specials in [Specials::Parse, Specials::Escape] {
        if let Ok(count) = tokenizer.encode(text, specials, &mut scratch, &mut out) {
            assert!(out[..count].iter().all(|token| token.index() < tokenizer.vocab()));
        }
    }
}

fn seal(file: &mut [u8]) {
    let count = u32::from_le_bytes([file[12], file[13], file[14], file[15]]) as usize;
    if let Some(header) = count.checked_mul(DIRECTORY_RECORD).and_then(|n| file.get(..HEADER_LEN + n)) {
        let mut header = header.to_vec();
        header[24..32].fill(0);
        file[24..32].copy_from_slice(&checksum(&header).to_le_bytes());
    }
}

fuzz_target!(|input: Input<'_>| {
    let bytes = match input {
        Input::Raw(bytes) => bytes.to_vec(),
        Input::Patched { patches, head, seal: sealed } => {
            let mut bytes = good().to_vec();
            let range = if head { 736 } else { bytes.len() };
            for (at, value) in patches {
                bytes[usize::from(at) % range] = value;
            }
            if sealed {
                seal(&mut bytes);
            }
            bytes
        }
    };
    // On a 64-byte boundary, as a mapping is.
    let mut room = vec![0; bytes.len() + 64];
    let start = room.as_ptr().align_offset(64);
    room[start..start + bytes.len()].copy_from_slice(&bytes);
    let Ok(file) = ModelFile::parse(&room[start..start + bytes.len()]) else { return };
    let _ = file.verify();
    for record in file.tensors().iter() {
        assert_eq!(file.tensor_bytes(&record).len() as u64, record.length);
    }
    assert!(file.sections().count() >= 5);
    for id in [0, 1, 511, 512, u32::MAX] {
        file.tokenizer().token_bytes(Token(id));
    }
    encode(&file.tokenizer(), TEXT);
    let Some(template) = file.chat() else { return };
    let message = |role| Message { role, text: TEXT };
    let all = [Role::System, Role::User, Role::Assistant, Role::User].map(message);
    for messages in [&all[..], &all[1..], &all[..1], &all[2..], &[]] {
        for generate in [false, true] {
            let mut rendered = String::new();
            // Jinja is the host's business, and a template may refuse some conversations.
            let _ = template.render(messages, generate, &mut |piece| rendered.push_str(piece.text()));
            encode(&file.tokenizer(), &rendered);
        }
    }
});
