//! Writes a tiny model with random weights and a chat template: `tiny_model FILE [CONTEXT]`, with a context of 512 tokens
//! unless given. For tests in other languages.

#[allow(clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../tests/tiny/mod.rs"]
mod tiny;

use std::path::PathBuf;
use thimble_converter::{BlockType, ConversionOptions, convert};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).map(PathBuf::from).ok_or("expected the name of a file to write")?;
    let folder = tempfile::tempdir()?;
    let mut model = tiny::Folder::new(tiny::ODD, BlockType::F32);
    if let Some(context) = std::env::args().nth(2) {
        model.config["max_position_embeddings"] = context.parse::<u32>()?.into();
    }
    model.write(folder.path(), 1);
    convert(folder.path(), &file, &ConversionOptions::default(), &mut |_| {})?;
    Ok(())
}
