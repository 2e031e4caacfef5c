//! `thimble-train train-tokenizer`.

use super::tokenize::ReadFlags;
use std::path::PathBuf;
use std::time::Instant;
use thimble_trainer::data::source::TextSource;
use thimble_trainer::data::tokenizer::{TrainOptions, train};
use thimble_trainer::error::{Error, Result};

/// Train a byte-level BPE tokenizer on text.
///
/// Splits off each digit, then splits words with the GPT-2 pattern, as in SmolLM2. The lowest ids are
/// <|endoftext|>, <|im_start|> and <|im_end|>; all 256 bytes have a token. The same text gives the same files.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Files (.txt, .jsonl, plain, .gz or .zst; .parquet), folders, or `hf://datasets/OWNER/NAME[@REVISION][/PATH]`.
    #[arg(required = true)]
    sources: Vec<String>,
    #[command(flatten)]
    reading: ReadFlags,
    /// Vocabulary size, special tokens included.
    #[arg(long)]
    vocab: usize,
    /// Folder for tokenizer.json, tokenizer_config.json and special_tokens_map.json.
    #[arg(short, long)]
    output: PathBuf,
    /// Bytes of text to learn from, taken evenly from all sources.
    #[arg(long, default_value_t = 64 << 20)]
    sample_bytes: u64,
    /// model_max_length to write into tokenizer_config.json.
    #[arg(long, default_value_t = 8192)]
    context: u64,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let made = self.output.join("tokenizer.json");
        if made.exists() {
            return Err(Error::Usage(format!(
                "{} exists already: remove it, or choose another folder with -o",
                made.display()
            )));
        }
        let read = self.reading.options();
        let sources = TextSource::resolve(&self.sources, &read)?;
        let options =
            TrainOptions { vocab: self.vocab, sample_bytes: self.sample_bytes, context: self.context };
        let begin = Instant::now();
        let bytes = train(&sources, &read, &options, &self.output)?;
        println!(
            "{}: {} tokens learned from {:.1} MB of text in {:.1} s",
            self.output.display(),
            self.vocab,
            bytes as f64 / 1e6,
            begin.elapsed().as_secs_f64()
        );
        Ok(())
    }
}
