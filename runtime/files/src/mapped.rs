//! A model file, mapped or read.

use memmap2::{Mmap, MmapMut};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
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

/// A model file in memory, whose tables have been checked.
#[derive(Debug)]
pub struct MappedModel {
    map: Mmap,
    path: PathBuf,
}

impl MappedModel {
    /// Maps `path` and checks header and tables; weights are read when they are first used, and shared with every other
    /// process that maps the file.
    ///
    /// # Safety
    /// As long as the model is there, nobody changes the file in place or shortens it: what was checked is not checked
    /// again, and the texts in it are taken for what they were. Replacing it by renaming another over it, as thimble does,
    /// is fine.
    ///
    /// # Errors
    /// No file, or no model in it.
    pub unsafe fn map(path: &Path) -> Result<MappedModel, OpenError> {
        let (file, io) = opened(path)?;
        // SAFETY: the caller's promise.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        checked(map, path)
    }

    /// Reads all of `path` into memory of its own: what becomes of the file afterwards does not matter.
    ///
    /// # Errors
    /// No file, or no model in it; too little memory.
    pub fn read(path: &Path) -> Result<MappedModel, OpenError> {
        let (mut file, io) = opened(path)?;
        let len = file.metadata().map_err(&io)?.len();
        // A file of a single byte is refused with its length, like any other that is too short.
        let len = usize::try_from(len).map_err(|_| io(ErrorKind::OutOfMemory.into()))?;
        let mut memory = MmapMut::map_anon(len.max(1)).map_err(&io)?;
        file.read_exact(&mut memory[..len]).map_err(&io)?;
        checked(memory.make_read_only().map_err(io)?, path)
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

/// The file, and what an error of the system's becomes.
fn opened(path: &Path) -> Result<(File, impl Fn(io::Error) -> OpenError + Clone), OpenError> {
    let named = path.to_owned();
    let io = move |source| OpenError::Io { path: named.clone(), source };
    let file = File::open(path).map_err(&io)?;
    if !file.metadata().map_err(&io)?.is_file() {
        return Err(OpenError::NotAFile { path: path.to_owned() });
    }
    Ok((file, io))
}

fn checked(map: Mmap, path: &Path) -> Result<MappedModel, OpenError> {
    let model = MappedModel { map, path: path.to_owned() };
    model.file().map_err(|source| OpenError::Format { path: model.path.clone(), source })?;
    Ok(model)
}
