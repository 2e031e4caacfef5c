//! The fixed header and the directory of sections.

use super::{FormatError, SectionKind, SectionName, align_up, read_u32, read_u64};

/// The magic number: first eight bytes of every file.
pub const MAGIC: [u8; 8] = *b"THIMBLE\n";
/// The newest format version. A file has the lowest version that describes it.
pub const VERSION: u32 = 2;
/// Size of the fixed header, bytes.
pub const HEADER_LEN: usize = 64;
/// Size of a directory record, bytes.
pub const DIRECTORY_RECORD: usize = 32;

/// Readers skip unknown section kinds from this number on.
const OPTIONAL: u32 = 0x8000_0000;
const MAX_SECTIONS: u32 = 32;

/// Offset, length and checksum of one section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRecord {
    /// The section's kind.
    pub kind: SectionKind,
    /// Offset in the file.
    pub offset: u64,
    /// Length, bytes.
    pub length: u64,
    /// [`checksum`] of its bytes.
    pub checksum: u64,
}

impl SectionRecord {
    fn emit(&self, out: &mut [u8; DIRECTORY_RECORD]) {
        out[0..4].copy_from_slice(&(self.kind as u32).to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.length.to_le_bytes());
        out[24..32].copy_from_slice(&self.checksum.to_le_bytes());
    }
}

/// The bytes of a section in a file.
#[derive(Clone, Copy, Debug)]
pub struct SectionBytes<'f> {
    /// The section's kind.
    pub name: SectionName,
    /// The padding before it.
    pub padding: &'f [u8],
    /// Its bytes.
    pub bytes: &'f [u8],
    /// The expected [`checksum`] of its bytes.
    pub checksum: u64,
}

/// The directory of a file's sections, which tile the file.
#[derive(Clone, Copy, Debug)]
pub struct Directory {
    version: u32,
    sections: [Option<SectionRecord>; SectionKind::ALL.len()],
    count: usize,
}

/// XXH3 (64 bits, seed 0): the checksum of the header and of each section.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

impl Directory {
    /// Parses header and directory, and checks that the sections tile the file. Does not read padding between sections:
    /// [`ModelFile::verify`](super::ModelFile::verify) does.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(bytes: &[u8]) -> Result<Directory, FormatError> {
        let file_len = bytes.len() as u64;
        let short = |expected: usize| FormatError::TooShort { expected: expected as u64, found: file_len };
        let magic = bytes.first_chunk::<8>().ok_or(short(HEADER_LEN))?;
        if *magic != MAGIC {
            return Err(FormatError::BadMagic { found: *magic });
        }
        let header = bytes.first_chunk::<HEADER_LEN>().ok_or(short(HEADER_LEN))?;
        let version = read_u32(header, 8).unwrap_or(0);
        if !(1..=VERSION).contains(&version) {
            return Err(FormatError::Version { expected: VERSION, found: version });
        }
        let count = read_u32(header, 12).unwrap_or(0);
        let announced = read_u64(header, 16).unwrap_or(0);
        let expected = read_u64(header, 24).unwrap_or(0);
        if announced != file_len {
            return Err(FormatError::FileLength { expected: announced, found: file_len });
        }
        if count > MAX_SECTIONS {
            return Err(FormatError::SectionCount { found: count, limit: MAX_SECTIONS });
        }
        let end = HEADER_LEN + count as usize * DIRECTORY_RECORD;
        let records = bytes.get(HEADER_LEN..end).ok_or(short(end))?;
        let found = header_checksum(header, records);
        if found != expected {
            return Err(FormatError::HeaderChecksum { expected, found });
        }
        if header[32..].iter().any(|&b| b != 0) {
            return Err(FormatError::HeaderReserved);
        }
        Self::parse_records(records, version, end as u64, file_len)
    }

    fn parse_records(
        records: &[u8],
        version: u32,
        mut end: u64,
        file_len: u64,
    ) -> Result<Directory, FormatError> {
        let mut sections = [None; SectionKind::ALL.len()];
        let mut last = None;
        for record in records.chunks_exact(DIRECTORY_RECORD) {
            let number = read_u32(record, 0).unwrap_or(0);
            let offset = read_u64(record, 8).unwrap_or(0);
            let length = read_u64(record, 16).unwrap_or(0);
            let name = SectionName::new(number);
            if matches!(name, SectionName::Other(number) if number < OPTIONAL) {
                return Err(FormatError::UnknownSection { kind: number });
            }
            let bounds = |end| FormatError::SectionBounds { name, end, file_len };
            let start = align_up(end, name.align()).ok_or(bounds(u64::MAX))?;
            if offset != start {
                return Err(FormatError::SectionOffset { name, expected: start, found: offset });
            }
            end = offset.checked_add(length).ok_or(bounds(u64::MAX))?;
            if end > file_len {
                return Err(bounds(end));
            }
            let SectionName::Known(kind) = name else { continue };
            if sections[kind.index()].is_some() {
                return Err(FormatError::DuplicateSection { kind });
            }
            if record[4..8] != [0; 4] {
                return Err(FormatError::RecordReserved { kind });
            }
            if let Some(before) = last.filter(|last| *last > kind) {
                return Err(FormatError::SectionOrder { kind, before });
            }
            last = Some(kind);
            let checksum = read_u64(record, 24).unwrap_or(0);
            sections[kind.index()] = Some(SectionRecord { kind, offset, length, checksum });
        }
        if end != file_len {
            return Err(FormatError::TrailingBytes { end, file_len });
        }
        Ok(Directory { version, sections, count: records.len() / DIRECTORY_RECORD })
    }

    /// The format version of the file.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The record of a section, if the file has it.
    pub fn get(&self, kind: SectionKind) -> Option<SectionRecord> {
        self.sections[kind.index()]
    }

    /// The records of known sections, in file order.
    pub fn sections(&self) -> impl Iterator<Item = SectionRecord> + '_ {
        self.sections.iter().flatten().copied()
    }

    /// All sections of `file`, which this directory describes, including unknown ones.
    pub fn section_bytes<'f>(&self, file: &'f [u8]) -> impl Iterator<Item = SectionBytes<'f>> + use<'f> {
        let mut end = HEADER_LEN + self.count * DIRECTORY_RECORD;
        let records = file.get(HEADER_LEN..end).unwrap_or(&[]);
        records.chunks_exact(DIRECTORY_RECORD).map(move |record| {
            let number = read_u32(record, 0).unwrap_or(0);
            // `parse` checked both against the file's length.
            let offset = read_u64(record, 8).unwrap_or(0) as usize;
            let padding = file.get(end..offset).unwrap_or(&[]);
            end = offset.saturating_add(read_u64(record, 16).unwrap_or(0) as usize);
            let bytes = file.get(offset..end).unwrap_or(&[]);
            let checksum = read_u64(record, 24).unwrap_or(0);
            SectionBytes { name: SectionName::new(number), padding, bytes, checksum }
        })
    }

    /// The bytes of a section of `file`, which this directory describes.
    ///
    /// # Errors
    /// [`FormatError::MissingSection`].
    pub fn bytes<'f>(&self, file: &'f [u8], kind: SectionKind) -> Result<&'f [u8], FormatError> {
        let record = self.get(kind).ok_or(FormatError::MissingSection { kind })?;
        let end = record.offset.saturating_add(record.length);
        let bounds = FormatError::SectionBounds { name: kind.into(), end, file_len: file.len() as u64 };
        let start = usize::try_from(record.offset).map_err(|_| bounds)?;
        let end = usize::try_from(end).map_err(|_| bounds)?;
        file.get(start..end).ok_or(bounds)
    }
}

fn header_checksum(header: &[u8; HEADER_LEN], records: &[u8]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&header[..24]);
    hash.update(&[0; 8]);
    hash.update(&header[32..]);
    hash.update(records);
    hash.digest()
}

/// Writes the header and the directory of `sections`, which tile a file of format `version` and `file_len` bytes, to the front
/// of `out`. Returns the bytes written; `None` if `out` is too short.
pub fn emit_header(version: u32, sections: &[SectionRecord], file_len: u64, out: &mut [u8]) -> Option<usize> {
    let end = HEADER_LEN + sections.len() * DIRECTORY_RECORD;
    let (header, rest) = out.split_first_chunk_mut::<HEADER_LEN>()?;
    let records = rest.get_mut(..end - HEADER_LEN)?;
    header.fill(0);
    records.fill(0);
    for (record, out) in sections.iter().zip(records.chunks_exact_mut(DIRECTORY_RECORD)) {
        record.emit(out.first_chunk_mut()?);
    }
    header[0..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..16].copy_from_slice(&(sections.len() as u32).to_le_bytes());
    header[16..24].copy_from_slice(&file_len.to_le_bytes());
    let sum = header_checksum(header, records);
    header[24..32].copy_from_slice(&sum.to_le_bytes());
    Some(end)
}
