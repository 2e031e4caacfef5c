//! A checked view of an adapter file.

use super::low_rank::LowRank;
use super::record::{ADAPTER_RECORD, AdapterRecord, MAX_RANK};
use super::{AdapterError, AdapterFormatError};
use crate::format::{ALIGN, Config, Encoding, ModelFile, TensorRole, align_up, checksum, read_u32, read_u64};
use crate::kernels::Matrix;

/// The magic number: first eight bytes of every adapter file.
pub const ADAPTER_MAGIC: [u8; 8] = *b"THMLORA\n";
/// The format version.
pub const ADAPTER_VERSION: u32 = 1;
/// Size of the fixed header, bytes.
pub const ADAPTER_HEADER: usize = 128;

/// Most adapted matrices: those of 1,024 layers.
const MAX_MATRICES: u32 = 1024 * AdapterRecord::ROLES.len() as u32;
const MAX_PROVENANCE: u32 = 1 << 20;

/// What the fixed header of an adapter file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterHeader {
    /// Adapted matrices.
    pub matrices: u32,
    /// Bytes of the provenance.
    pub provenance: u32,
    /// Bytes of the file.
    pub file_len: u64,
    /// [`base_fingerprint`] of the base model, if it is known.
    pub fingerprint: Option<u64>,
    /// Layers of the base model, if they are known.
    pub layers: Option<u32>,
}

impl AdapterHeader {
    /// Offset of the weights, which follow header, table and provenance.
    pub fn weights(&self) -> u64 {
        let table = u64::from(self.matrices) * ADAPTER_RECORD as u64;
        let end = ADAPTER_HEADER as u64 + table + u64::from(self.provenance);
        end.next_multiple_of(ALIGN)
    }

    /// Writes the header to the front of `head`, which holds the table and the provenance after it and ends where the
    /// weights begin; `weights` is their [`checksum`]. Returns nothing if `head` has another length.
    pub fn emit(&self, weights: u64, head: &mut [u8]) -> Option<()> {
        let whole = head.len() as u64 == self.weights();
        let header = head.first_chunk_mut::<ADAPTER_HEADER>().filter(|_| whole)?;
        header.fill(0);
        header[0..8].copy_from_slice(&ADAPTER_MAGIC);
        header[8..12].copy_from_slice(&ADAPTER_VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&self.matrices.to_le_bytes());
        header[16..24].copy_from_slice(&self.file_len.to_le_bytes());
        header[32..40].copy_from_slice(&weights.to_le_bytes());
        header[40..48].copy_from_slice(&self.fingerprint.unwrap_or(0).to_le_bytes());
        header[48..52].copy_from_slice(&self.layers.unwrap_or(0).to_le_bytes());
        header[52..56].copy_from_slice(&self.provenance.to_le_bytes());
        let sum = head_checksum(head);
        head[24..32].copy_from_slice(&sum.to_le_bytes());
        Some(())
    }
}

/// The checksum of what stands before the weights, its own field counted as zeros.
fn head_checksum(head: &[u8]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&head[..24]);
    hash.update(&[0; 8]);
    hash.update(&head[32..]);
    hash.digest()
}

/// Identifies a model in whatever encodings it is stored: XXH3-64 of its norms and biases, as `f32` in file order. Every
/// conversion keeps those exactly. Never 0, which stands for an unknown model.
pub fn base_fingerprint(model: &ModelFile<'_>) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for record in model.tensors().iter().filter(|record| record.encoding == Encoding::Vector) {
        hash.update(model.tensor_bytes(&record));
    }
    hash.digest().max(1)
}

/// A valid adapter file as specified in `FORMAT.md`; all views that it returns are inside the file.
#[derive(Clone, Copy, Debug)]
pub struct AdapterFile<'f> {
    bytes: &'f [u8],
    header: AdapterHeader,
    records: &'f [u8],
    provenance: &'f str,
    weights: &'f [u8],
    rank: usize,
}

impl<'f> AdapterFile<'f> {
    /// Parses `bytes`, aligned to 64 bytes, without copying. Reads header, table and provenance;
    /// [`AdapterFile::verify`] checks the weights, which may have any bit pattern.
    ///
    /// # Errors
    /// [`AdapterFormatError`].
    pub fn parse(bytes: &'f [u8]) -> Result<AdapterFile<'f>, AdapterFormatError> {
        use AdapterFormatError as E;
        let found = bytes.len() as u64;
        let short = |expected| E::TooShort { expected, found };
        let magic = bytes.first_chunk::<8>().ok_or(short(ADAPTER_HEADER as u64))?;
        if *magic != ADAPTER_MAGIC {
            return Err(E::BadMagic { found: *magic });
        }
        let fixed = bytes.first_chunk::<ADAPTER_HEADER>().ok_or(short(ADAPTER_HEADER as u64))?;
        if !bytes.as_ptr().addr().is_multiple_of(ALIGN as usize) {
            return Err(E::Misaligned { expected: ALIGN as usize });
        }
        let word = |at| read_u32(fixed, at).unwrap_or(0);
        let long = |at| read_u64(fixed, at).unwrap_or(0);
        let version = word(8);
        if version != ADAPTER_VERSION {
            return Err(E::Version { expected: ADAPTER_VERSION, found: version });
        }
        let header = AdapterHeader {
            matrices: word(12),
            provenance: word(52),
            file_len: long(16),
            fingerprint: Some(long(40)).filter(|&fingerprint| fingerprint != 0),
            layers: Some(word(48)).filter(|&layers| layers != 0),
        };
        if header.file_len != found {
            return Err(E::FileLength { expected: header.file_len, found });
        }
        let field = |field, expected, found: u32| E::Header { field, expected, found: found.into() };
        if !(1..=MAX_MATRICES).contains(&header.matrices) {
            return Err(field("number of matrices", "1 to 7,168", header.matrices));
        }
        if header.provenance > MAX_PROVENANCE {
            return Err(field("length of the provenance", "at most 1,048,576", header.provenance));
        }
        if word(48) > 1024 {
            return Err(field("number of layers", "at most 1,024", word(48)));
        }
        // Both lengths are limited, so that the sum fits any address space.
        let start = header.weights() as usize;
        let head = bytes.get(..start).ok_or(short(start as u64))?;
        let (expected, found) = (long(24), head_checksum(head));
        if expected != found {
            return Err(E::Checksum { part: "header", expected, found });
        }
        if fixed[56..].iter().any(|&b| b != 0) {
            return Err(E::Reserved { part: "header" });
        }
        let (records, rest) = head[ADAPTER_HEADER..].split_at(header.matrices as usize * ADAPTER_RECORD);
        let (provenance, padding) = rest.split_at(header.provenance as usize);
        if padding.iter().any(|&b| b != 0) {
            return Err(E::Reserved { part: "padding" });
        }
        let provenance =
            core::str::from_utf8(provenance).map_err(|e| E::NotUtf8 { at: e.valid_up_to() as u64 })?;
        let weights = &bytes[start..];
        let rank = check_table(records, weights.len() as u64)?;
        Ok(AdapterFile { bytes, header, records, provenance, weights, rank })
    }

    /// Checks the checksum of the weights; reads the whole file.
    ///
    /// # Errors
    /// [`AdapterFormatError::Checksum`].
    pub fn verify(&self) -> Result<(), AdapterFormatError> {
        let expected = self.weights_checksum();
        let found = checksum(self.weights);
        let damaged = AdapterFormatError::Checksum { part: "weights", expected, found };
        if expected == found { Ok(()) } else { Err(damaged) }
    }

    /// Checks that the adapter's matrices fit those of a model of this configuration.
    ///
    /// # Errors
    /// [`AdapterError::Layers`], [`AdapterError::Shape`].
    pub fn check_shape(&self, config: &Config) -> Result<(), AdapterError> {
        let found = config.layers;
        if let Some(expected) = self.header.layers.map(|layers| layers as usize).filter(|n| *n != found) {
            return Err(AdapterError::Layers { expected, found });
        }
        for record in self.records() {
            let (role, layer) = (record.role, record.layer);
            if usize::from(layer) >= found {
                return Err(AdapterError::Layers { expected: usize::from(layer) + 1, found });
            }
            let (found_rows, found_columns) = role.shape(config);
            let (rows, columns) = (record.rows as usize, record.columns as usize);
            if (rows, columns) != (found_rows, found_columns) {
                return Err(AdapterError::Shape { role, layer, rows, columns, found_rows, found_columns });
            }
        }
        Ok(())
    }

    /// Checks that the adapter was trained on `model`, in whatever encodings it is stored: by shape, and by fingerprint if the
    /// adapter has one.
    ///
    /// # Errors
    /// [`AdapterError::OtherBase`], and those of [`AdapterFile::check_shape`].
    pub fn check_base(&self, model: &ModelFile<'_>) -> Result<(), AdapterError> {
        self.check_shape(model.config())?;
        let Some(expected) = self.header.fingerprint else { return Ok(()) };
        let found = base_fingerprint(model);
        if expected == found { Ok(()) } else { Err(AdapterError::OtherBase { expected, found }) }
    }

    /// The header.
    pub fn header(&self) -> &AdapterHeader {
        &self.header
    }

    /// The checksum of the weights, as the header has it.
    pub fn weights_checksum(&self) -> u64 {
        read_u64(self.bytes, 32).unwrap_or(0)
    }

    /// Identifies the file: the checksum of everything before the weights, which includes that of the weights.
    pub fn id(&self) -> u64 {
        read_u64(self.bytes, 24).unwrap_or(0)
    }

    /// The largest rank of its matrices.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The origin of the adapter: a JSON object.
    pub fn provenance(&self) -> &'f str {
        self.provenance
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &'f [u8] {
        self.bytes
    }

    /// The records, sorted by layer and role.
    pub fn records(&self) -> impl Iterator<Item = AdapterRecord> + use<'f> {
        let records = self.records.as_chunks::<ADAPTER_RECORD>().0;
        records.iter().zip(0..).filter_map(|(record, index)| AdapterRecord::parse(record, index).ok())
    }

    /// The low-rank matrices beside a matrix of the model, if it is adapted.
    pub fn find(&self, role: TensorRole, layer: u16) -> Option<LowRank<'f>> {
        let records = self.records.as_chunks::<ADAPTER_RECORD>().0;
        let key = |record: &[u8; ADAPTER_RECORD]| {
            let [role, _, layer, _] = [0, 1, 2, 3].map(|at| u16::from_le_bytes([record[at], record[at + 1]]));
            (layer, role)
        };
        let index = records.binary_search_by_key(&(layer, role as u16), key).ok()?;
        Some(self.matrices(&AdapterRecord::parse(&records[index], index as u32).ok()?))
    }

    /// The matrices of a record of this file.
    pub fn matrices(&self, record: &AdapterRecord) -> LowRank<'f> {
        let AdapterRecord { encoding, rank, rows, columns, scale, offset, .. } = *record;
        let [rank, rows, columns] = [u32::from(rank), rows, columns].map(|n| n as usize);
        // The table's checks guarantee that every matrix is inside the weights.
        let data = |start: u64, bytes: u64| {
            self.weights.get(start as usize..(start + bytes) as usize).unwrap_or(&[])
        };
        let (b, _) = record.extent().unwrap_or((0, 0));
        LowRank {
            a: Matrix { encoding, rows: rank, columns, data: data(offset, record.a_bytes()) },
            b: Matrix { encoding, rows, columns: rank, data: data(b, record.b_bytes()) },
            scale,
        }
    }
}

/// Checks order and ranges, and that the matrices tile `weights_len` bytes. Returns the largest rank.
fn check_table(records: &[u8], weights_len: u64) -> Result<usize, AdapterFormatError> {
    let (mut end, mut last, mut largest) = (0u64, None, 0);
    for (record, index) in records.chunks_exact(ADAPTER_RECORD).zip(0..) {
        let record = AdapterRecord::parse(record, index)?;
        if last.is_some_and(|last| last >= record.key()) {
            let (field, expected) = ("layer and role", "more than those of the matrix before");
            let found = u64::from(record.layer) << 16 | record.role as u64;
            return Err(AdapterFormatError::Record { index, field, expected, found });
        }
        last = Some(record.key());
        let overflow = AdapterFormatError::WeightsLength { expected: u64::MAX, found: weights_len };
        let expected = align_up(end, ALIGN).ok_or(overflow)?;
        if record.offset != expected {
            return Err(AdapterFormatError::Offset { index, expected, found: record.offset });
        }
        end = record.extent().ok_or(overflow)?.1;
        largest = largest.max(usize::from(record.rank));
    }
    debug_assert!(largest <= MAX_RANK);
    match end == weights_len {
        true => Ok(largest),
        false => Err(AdapterFormatError::WeightsLength { expected: end, found: weights_len }),
    }
}
