//! Reads ranges of a file without mapping it: memory stays bounded, without `unsafe`.

use crate::ConvertError;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A source file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl SourceFile {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> Result<SourceFile, ConvertError> {
        let fail = ConvertError::read(path);
        let file = File::open(path).map_err(&fail)?;
        let len = file.metadata().map_err(&fail)?.len();
        Ok(SourceFile { file, path: path.to_owned(), len })
    }

    /// Its length when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A buffered reader from the start.
    pub(crate) fn reader(&self) -> Result<impl Read + '_, ConvertError> {
        (&self.file).seek(SeekFrom::Start(0)).map_err(|e| self.error(e))?;
        Ok(BufReader::with_capacity(1 << 16, &self.file))
    }

    /// Fills `out` from byte `offset` on.
    pub(crate) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        (&self.file).seek(SeekFrom::Start(offset)).map_err(|e| self.error(e))?;
        (&self.file).read_exact(out).map_err(|e| self.error(e))
    }

    /// Whether the file starts with these bytes.
    pub(crate) fn starts_with(&self, start: &[u8]) -> bool {
        let mut found = vec![0; start.len()];
        self.read_at(0, &mut found).is_ok() && found == start
    }

    /// An error that names this file.
    pub(crate) fn error(&self, source: io::Error) -> ConvertError {
        ConvertError::read(&self.path)(source)
    }
}
