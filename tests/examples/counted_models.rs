//! Writes models of SmolLM2-70M's shape with two layers and random weights, `q4.thimble` and `q8.thimble`:
//! `counted_models FOLDER`. For `benches/counts.py`.

#[allow(clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../tests/tiny/mod.rs"]
mod tiny;

use std::path::PathBuf;
use thimble_converter::{BlockType, ConversionOptions, Quant, convert};

/// As many tokens as the tests' tokenizer has, in whole panels.
const SHAPE: tiny::Shape =
    tiny::Shape { hidden: 384, layers: 2, heads: 6, kv_heads: 2, ffn: 1024, vocab: 928, tied: true };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::args_os().nth(1).map(PathBuf::from).ok_or("expected a folder to write to")?;
    let folder = tempfile::tempdir()?;
    tiny::Folder::new(SHAPE, BlockType::F32).write(folder.path(), 1);
    std::fs::create_dir_all(&out)?;
    for (name, quant) in [("q4.thimble", Quant::Q4), ("q8.thimble", Quant::Q8)] {
        let options = ConversionOptions { quant, ..ConversionOptions::default() };
        convert(folder.path(), &out.join(name), &options, &mut |_| {})?;
    }
    Ok(())
}
