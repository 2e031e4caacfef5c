//! Text sources: txt, jsonl, parquet; plain, gzip or zstd; files, folders, and data sets of the Hugging Face hub.
//!
//! One thread reads the sources as a stream of raw records (a file, a line, a row); the threads that work on a record
//! decode its text ([`ReadOptions::text`]).

mod folder;
mod gzip;
mod hub;
mod parquet_column;
mod parquet_rows;
mod read;
mod record;
mod source_file;
mod text_source;

pub use parquet_rows::ParquetRows;
pub use read::{RecordReader, decompress};

pub use record::{MOST_RECORD_BYTES, Record, RecordBatch, SourcePosition};
pub use source_file::{SourceFile, hash_hex};
pub use text_source::{Compression, ReadOptions, SourceKind, TextSource};

use crate::error::{CurateError, Result};
use std::path::Path;

impl TextSource {
    /// The files that `names` stand for, in order: files as they are; folders with all their text files, sorted by
    /// path, each real file once however many links lead to it; `hf://datasets/OWNER/NAME[@REVISION][/PATH]` with the
    /// files of that data set, downloaded into the hub's cache.
    ///
    /// # Errors
    /// A path that does not exist, a pipe or a device, an unknown extension, or a folder without text files.
    pub fn resolve(names: &[String], options: &ReadOptions) -> Result<Vec<TextSource>> {
        let mut sources = Vec::new();
        for name in names {
            let before = sources.len();
            let path = Path::new(name);
            if let Some(address) = name.strip_prefix(hub::HUB) {
                hub::fetch(address, options, &mut sources)?;
            } else if path.is_dir() {
                sources.extend(folder::FolderScan::files(path, options)?);
            } else {
                sources.push(folder::file(name, options)?);
            }
            if sources.len() == before {
                return Err(CurateError::Usage(format!(
                    "{name}: expected files that end in {}, found none",
                    options.endings()
                )));
            }
        }
        Ok(sources)
    }
}
