//! Trains a byte-level BPE tokenizer like SmolLM2's: single digits, then the GPT-2 pattern.

use super::{END_OF_TEXT, Encoder};
use crate::atomic_file::{write_atomically, write_json};
use crate::data::source::{ReadOptions, RecordBatch, RecordReader, SourcePosition, TextSource};
use crate::data::token_set::TOKENIZER_FILES;
use crate::error::{Error, Result};
use serde_json::json;
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper};

/// The tokens at the lowest ids: the end of a document and the chat markers.
pub const SPECIAL_TOKENS: [&str; 3] = [END_OF_TEXT, "<|im_start|>", "<|im_end|>"];
/// Tokens before training: the special ones and the bytes.
const LEAST_VOCAB: usize = SPECIAL_TOKENS.len() + 256;
/// Least count of a pair that becomes a token.
const LEAST_COUNT: u64 = 2;
/// The crate counts pairs in 32 bits.
const MOST_SAMPLE: u64 = 1 << 30;
/// Text is sampled in slices of about this many bytes.
const SLICE: usize = 4 << 10;
/// Bytes of text read at once.
const BATCH: usize = 8 << 20;

/// What to train.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainOptions {
    /// Tokens in all, special ones and bytes among them.
    pub vocab: usize,
    /// Bytes of text to learn from, taken evenly from all sources.
    pub sample_bytes: u64,
    /// Tokens of context that `tokenizer_config.json` states.
    pub context: u64,
}

/// Trains a tokenizer and writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` to `folder`;
/// returns the bytes of text it learned from. The same text and options give the same files.
///
/// # Errors
/// Sources that cannot be read; too little text for the vocabulary.
pub fn train(
    sources: &[TextSource],
    read: &ReadOptions,
    options: &TrainOptions,
    folder: &Path,
) -> Result<u64> {
    if options.vocab < LEAST_VOCAB {
        return Err(Error::Usage(format!(
            "expected a vocabulary of at least {LEAST_VOCAB} (256 bytes and {} special tokens), found {}",
            SPECIAL_TOKENS.len(),
            options.vocab
        )));
    }
    if options.sample_bytes == 0 || options.sample_bytes > MOST_SAMPLE {
        return Err(Error::Usage(format!(
            "expected a sample of 1 to {MOST_SAMPLE} bytes, found {}",
            options.sample_bytes
        )));
    }
    let texts = sample(sources, read, options.sample_bytes)?;
    let bytes = texts.iter().map(|text| text.len() as u64).sum();
    let tokenizer = learn(&texts, options.vocab)?;
    drop(texts);
    let found = tokenizer.get_vocab_size(true);
    if found != options.vocab {
        return Err(Error::Invalid(format!(
            "expected enough text for {} tokens, found {found} in {bytes} bytes; give more text, or set --vocab to \
             {found} or less",
            options.vocab
        )));
    }
    std::fs::create_dir_all(folder).map_err(Error::file(folder, "make the folder"))?;
    write(&tokenizer, options, folder)?;
    // Opening it verifies it.
    match Encoder::open(folder)?.slow_because() {
        None => Ok(bytes),
        Some(why) => Err(Error::Invalid(format!(
            "{}: the trained tokenizer is wrong: {why}; please report this",
            folder.display()
        ))),
    }
}

/// Evenly spread slices of all texts, of `most` bytes in all. Slices begin and end at words.
fn sample(sources: &[TextSource], read: &ReadOptions, most: u64) -> Result<Vec<String>> {
    let mut total = 0;
    each_text(sources, read, |text| total += text.len() as u64)?;
    let mut texts = Vec::new();
    let (mut seen, mut taken) = (0u64, 0u64);
    each_text(sources, read, |text| {
        for slice in slices(text) {
            // Takes the slice if the share taken so far is behind.
            seen += slice.len() as u64;
            let due = u128::from(seen) * u128::from(most.min(total))
                >= u128::from(taken + slice.len() as u64) * u128::from(total);
            if due && taken + slice.len() as u64 <= most {
                taken += slice.len() as u64;
                texts.push(slice.to_owned());
            }
        }
    })?;
    if texts.is_empty() {
        return Err(Error::Invalid("expected text to learn from, found none in the sources".into()));
    }
    Ok(texts)
}

/// Splits before spaces: a space belongs to the word after it.
fn slices(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let from = text.ceil_char_boundary(SLICE.min(text.len()));
        let end = text[from..].find(' ').map_or(text.len(), |blank| from + blank);
        let (slice, rest) = text.split_at(end);
        text = rest;
        Some(slice).filter(|slice| !slice.is_empty())
    })
}

fn each_text(sources: &[TextSource], read: &ReadOptions, mut work: impl FnMut(&str)) -> Result<()> {
    let mut records = RecordReader::new(sources, read, SourcePosition::default());
    while let Some(batch) = records.batch(BATCH)? {
        each_in(&batch, sources, read, &mut work)?;
    }
    Ok(())
}

fn each_in(
    batch: &RecordBatch,
    sources: &[TextSource],
    read: &ReadOptions,
    work: &mut impl FnMut(&str),
) -> Result<()> {
    for record in &batch.records {
        let text = read.text(sources[record.at.source].kind, batch.raw(record));
        let text = text.map_err(|why| Error::Invalid(format!("{}: {why}", record.place(sources))))?;
        if let Some(text) = text {
            work(&text);
        }
    }
    Ok(())
}

fn learn(texts: &[String], vocab: usize) -> Result<tokenizers::Tokenizer> {
    let special: Vec<AddedToken> =
        SPECIAL_TOKENS.iter().map(|&text| AddedToken::from(text, true).normalized(false)).collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .min_frequency(LEAST_COUNT)
        .show_progress(false)
        .special_tokens(special)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
    let digits = PreTokenizerWrapper::Digits(Digits::new(true));
    let level = ByteLevel::new(false, true, true);
    let words = Sequence::new(vec![digits, PreTokenizerWrapper::ByteLevel(level)]);
    tokenizer.with_pre_tokenizer(Some(words));
    tokenizer.with_decoder(Some(ByteLevel::new(true, true, true)));
    let trained = tokenizer.train(&mut TrainerWrapper::BpeTrainer(trainer), texts.iter());
    trained.map_err(|error| Error::Invalid(format!("the tokenizer cannot be trained: {error}")))?;
    Ok(tokenizer)
}

fn write(tokenizer: &tokenizers::Tokenizer, options: &TrainOptions, folder: &Path) -> Result<()> {
    let text = tokenizer.to_string(true);
    let text = text.map_err(|error| Error::Invalid(format!("the tokenizer cannot be written: {error}")))?;
    let decoder: serde_json::Map<_, _> = SPECIAL_TOKENS
        .iter()
        .zip(0..)
        .map(|(text, id): (_, u32)| {
            let token = json!({
                "content": text, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
                "special": true
            });
            (id.to_string(), token)
        })
        .collect();
    let config = json!({
        "add_prefix_space": false,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": SPECIAL_TOKENS,
        "bos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": false,
        "eos_token": END_OF_TEXT,
        "model_max_length": options.context,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": END_OF_TEXT,
        "vocab_size": options.vocab
    });
    let map = json!({
        "additional_special_tokens": SPECIAL_TOKENS,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT
    });
    let [main, config_file, map_file] = TOKENIZER_FILES;
    write_json(&folder.join(config_file), &config)?;
    write_json(&folder.join(map_file), &map)?;
    // Written last: it makes the folder a tokenizer.
    write_atomically(&folder.join(main), text.as_bytes())
}
