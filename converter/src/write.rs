//! Writes `.thimble` files: streamed, checksummed, and atomic.

use crate::ConvertError;
use crate::read::SourceTensor;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use thimble_runtime::format::{
    ALIGN, Config, DIRECTORY_RECORD, Encoding, FormatError, HEADER_LEN, SectionKind, SectionRecord,
    TENSOR_RECORD, TENSORS_ALIGN, TensorRecord, align_up, checksum, emit_header,
};
use thimble_runtime::tokenizer;
use xxhash_rust::xxh3::Xxh3;

/// The content of a file except for the weights.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The hyperparameters.
    pub config: Config,
    /// The tokenizer section.
    pub tokenizer: Vec<u8>,
    /// The chat section, if there is one.
    pub chat: Option<Vec<u8>>,
    /// The provenance section: a JSON object.
    pub provenance: String,
    /// The tensors in canonical order, as [`layout`] makes them.
    pub tensors: Vec<TensorRecord>,
}

impl Contents {
    /// The lowest format version that describes the contents.
    pub fn version(&self) -> u32 {
        self.config.version().max(tokenizer::layout::version(&self.tokenizer))
    }

    /// Bytes of the file, weights included.
    pub fn file_len(&self) -> u64 {
        let text = |bytes: &[u8]| (bytes.len() as u64).next_multiple_of(ALIGN);
        let chat = self.chat.as_ref();
        let sections = 5 + u64::from(chat.is_some());
        let directory = (HEADER_LEN as u64 + sections * DIRECTORY_RECORD as u64).next_multiple_of(ALIGN);
        let table = ((self.tensors.len() * TENSOR_RECORD) as u64).next_multiple_of(ALIGN);
        let before = directory
            + (Config::LEN as u64).next_multiple_of(ALIGN)
            + table
            + text(&self.tokenizer)
            + chat.map_or(0, |chat| text(chat))
            + self.provenance.len() as u64;
        before.next_multiple_of(TENSORS_ALIGN) + self.tensors.last().map_or(0, |t| t.offset + t.length)
    }
}

/// Lays out tensors with the given encodings.
pub fn layout<'a>(
    tensors: impl IntoIterator<Item = (&'a SourceTensor, Encoding)>,
) -> Result<Vec<TensorRecord>, FormatError> {
    let mut end = 0;
    let mut records = Vec::new();
    for (tensor, encoding) in tensors {
        let (role, layer) = (tensor.role, tensor.layer);
        let overflow = FormatError::TensorOverflow { role, layer };
        let offset = align_up(end, ALIGN).ok_or(overflow)?;
        let length = encoding.tensor_bytes(tensor.rows, tensor.columns).ok_or(overflow)? as u64;
        end = offset.checked_add(length).ok_or(overflow)?;
        // `Config::check` bounds every dimension far below 2^32.
        let (rows, columns) = (tensor.rows as u32, tensor.columns as u32);
        records.push(TensorRecord { role, layer, encoding, rows, columns, offset, length });
    }
    Ok(records)
}

/// Writes a file: all sections but the weights, then the weights in order, then the header.
pub struct FileWriter<W> {
    out: W,
    version: u32,
    at: u64,
    sections: Vec<SectionRecord>,
    pending: std::vec::IntoIter<TensorRecord>,
    tensors_start: u64,
    tensors_length: u64,
    hash: Box<Xxh3>,
}

impl<W: Write + Seek> FileWriter<W> {
    /// Writes a placeholder for the header, and every section but the weights.
    pub fn new(out: W, contents: Contents) -> io::Result<FileWriter<W>> {
        let announced = contents.file_len();
        let table: Vec<u8> = contents.tensors.iter().flat_map(TensorRecord::emit).collect();
        let config = contents.config.emit();
        let mut parts: Vec<(SectionKind, &[u8])> = vec![
            (SectionKind::Config, &config),
            (SectionKind::TensorTable, &table),
            (SectionKind::Tokenizer, &contents.tokenizer),
        ];
        if let Some(chat) = &contents.chat {
            parts.push((SectionKind::Chat, chat));
        }
        parts.push((SectionKind::Provenance, contents.provenance.as_bytes()));
        let tensors_length = contents.tensors.last().map_or(0, |t| t.offset + t.length);
        let mut writer = FileWriter {
            out,
            version: contents.version(),
            at: 0,
            sections: Vec::new(),
            pending: Vec::new().into_iter(),
            tensors_start: 0,
            tensors_length,
            hash: Box::new(Xxh3::new()),
        };
        // One record for each part and one for the weights.
        writer.zeros((HEADER_LEN + (parts.len() + 1) * DIRECTORY_RECORD) as u64)?;
        for (kind, bytes) in parts {
            writer.pad(kind.align())?;
            let (offset, length) = (writer.at, bytes.len() as u64);
            writer.sections.push(SectionRecord { kind, offset, length, checksum: checksum(bytes) });
            writer.put(bytes)?;
        }
        writer.pad(TENSORS_ALIGN)?;
        writer.tensors_start = writer.at;
        writer.pending = contents.tensors.into_iter();
        debug_assert_eq!(writer.file_len(), announced);
        Ok(writer)
    }

    /// Bytes of the finished file.
    pub fn file_len(&self) -> u64 {
        self.tensors_start + self.tensors_length
    }

    /// Remaining bytes of the tensor section, padding included.
    pub fn weights_left(&self) -> u64 {
        self.file_len() - self.at
    }

    /// Pads up to the next tensor, whose bytes [`FileWriter::weights`] then writes; `None` after the last tensor.
    pub fn next_tensor(&mut self) -> io::Result<Option<TensorRecord>> {
        let Some(record) = self.pending.next() else { return Ok(None) };
        let gap = (self.tensors_start + record.offset).checked_sub(self.at);
        let gap = gap.ok_or_else(|| io::Error::other("more bytes than the previous tensor holds"))?;
        self.hash.update(&[0; ALIGN as usize][..gap as usize % ALIGN as usize]);
        self.zeros(gap)?;
        Ok(Some(record))
    }

    /// Appends bytes of the current tensor.
    pub fn weights(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.put(bytes)
    }

    /// Writes the header and returns the output.
    pub fn finish(mut self) -> io::Result<W> {
        let file_len = self.file_len();
        if self.at != file_len {
            return Err(io::Error::other(format!("{} bytes written, {file_len} announced", self.at)));
        }
        self.sections.push(SectionRecord {
            kind: SectionKind::Tensors,
            offset: self.tensors_start,
            length: self.tensors_length,
            checksum: self.hash.digest(),
        });
        let mut header = vec![0; HEADER_LEN + self.sections.len() * DIRECTORY_RECORD];
        emit_header(self.version, &self.sections, file_len, &mut header)
            .ok_or_else(|| io::Error::other("the header does not fit"))?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self, align: u64) -> io::Result<()> {
        self.zeros(self.at.next_multiple_of(align) - self.at)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.at += count;
        io::copy(&mut io::Read::take(io::repeat(0), count), &mut self.out).map(|_| ())
    }
}

/// A failed write as an error that says when the disk is full.
pub(crate) fn write_error(path: &Path, needed: u64, source: io::Error) -> ConvertError {
    let full = matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    match full {
        true => ConvertError::DiskFull { path: path.to_owned(), needed },
        false => ConvertError::Write { path: path.to_owned(), source },
    }
}
