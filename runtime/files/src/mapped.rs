//! Model files, mapped or read into memory.

use memmap2::{Mmap, MmapMut};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use thimble_runtime::adapter::AdapterFormatError;
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
        /// The system's error.
        source: io::Error,
    },
    /// The path is not a regular file.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is not a valid model.
    #[error("{} cannot be used: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: FormatError,
    },
    /// The file is not a valid adapter.
    #[error("{} cannot be used: {source}", path.display())]
    Adapter {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: AdapterFormatError,
    },
}

/// A model file in memory, with validated header and tables.
#[derive(Debug)]
pub struct MappedModel {
    map: Mmap,
    path: PathBuf,
}

impl MappedModel {
    /// Maps `path` and validates header and tables. Weights are read on first use, and shared with every process that maps
    /// the file.
    ///
    /// # Safety
    /// While the model exists, nobody modifies or truncates the file in place: it is validated once, and its texts count as
    /// valid UTF-8 from then on. To replace it by a rename, as thimble does, is fine.
    ///
    /// # Errors
    /// The file cannot be read, or is not a model.
    pub unsafe fn map(path: &Path) -> Result<MappedModel, OpenError> {
        let (file, io) = open(path)?;
        // SAFETY: the caller's promise.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        checked(map, path)
    }

    /// Reads all of `path` into memory and validates it. Later changes of the file do not matter.
    ///
    /// # Errors
    /// The file cannot be read, is not a model, or does not fit into memory.
    pub fn read(path: &Path) -> Result<MappedModel, OpenError> {
        checked(read(path)?, path)
    }

    /// The validated view; cheap to create.
    pub fn file(&self) -> Result<ModelFile<'_>, FormatError> {
        ModelFile::parse(&self.map)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// All of a file, in memory.
pub(crate) fn read(path: &Path) -> Result<Mmap, OpenError> {
    let (mut file, io) = open(path)?;
    let len = file.metadata().map_err(&io)?.len();
    // An empty file maps one byte, and is refused for its length like any other short file.
    let len = usize::try_from(len).map_err(|_| io(ErrorKind::OutOfMemory.into()))?;
    let mut memory = MmapMut::map_anon(len.max(1)).map_err(&io)?;
    file.read_exact(&mut memory[..len]).map_err(&io)?;
    memory.make_read_only().map_err(io)
}

/// Opens a regular file; also returns the conversion of I/O errors.
fn open(path: &Path) -> Result<(File, impl Fn(io::Error) -> OpenError + Clone), OpenError> {
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
