//! A model file, mapped.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use thimble_runtime::format::{FormatError, ModelFile};
use thiserror::Error;

/// Why a model file cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be read.
    #[error("cannot open {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The path is no regular file.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Its bytes are not a model.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
}

/// A mapped model file whose tables have been checked.
#[derive(Debug)]
pub struct MappedModel {
    map: Mmap,
    path: PathBuf,
}

impl MappedModel {
    /// Maps `path` and checks header and tables; weights are read when they are first used.
    ///
    /// The file must not be changed in place while it is mapped: what was checked is not checked again.
    /// Replacing it by renaming another over it, as thimble does, is fine.
    pub fn open(path: &Path) -> Result<MappedModel, OpenError> {
        let path = path.to_owned();
        let io = |source| OpenError::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(OpenError::NotAFile { path });
        }
        // SAFETY: the mapping is read-only and private to this process; a file that another process
        // overwrites in place, against this function's documentation, changes numbers (which every reader treats as
        // untrusted) and texts (which were checked once); one that it truncates ends this one with a bus error.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let model = MappedModel { map, path };
        model.file().map_err(|source| OpenError::Format { path: model.path.clone(), source })?;
        Ok(model)
    }

    /// The checked view; cheap enough to be made whenever it is needed.
    pub fn file(&self) -> Result<ModelFile<'_>, FormatError> {
        ModelFile::parse(&self.map)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
