//! Adapter files, read into memory.

use crate::OpenError;
use crate::mapped::read;
use memmap2::Mmap;
use std::path::{Path, PathBuf};
use thimble_runtime::adapter::{AdapterFile, AdapterFormatError};

/// An adapter file in memory, with validated header and table.
#[derive(Debug)]
pub struct OpenedAdapter {
    map: Mmap,
    path: PathBuf,
}

impl OpenedAdapter {
    /// Reads all of `path` into memory and validates it. Later changes of the file do not matter.
    ///
    /// # Errors
    /// The file cannot be read, is not an adapter, or does not fit into memory.
    pub fn read(path: &Path) -> Result<OpenedAdapter, OpenError> {
        let adapter = OpenedAdapter { map: read(path)?, path: path.to_owned() };
        adapter.file().map_err(|source| OpenError::Adapter { path: adapter.path.clone(), source })?;
        Ok(adapter)
    }

    /// The validated view; cheap to create.
    pub fn file(&self) -> Result<AdapterFile<'_>, AdapterFormatError> {
        AdapterFile::parse(&self.map)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
