//! A bounded reader of GGUF files, versions 2 and 3 (with the same layout): metadata and tensor directory.
//!
//! A hostile file can make it fail, but not panic or allocate more than a small multiple of the file's size: every
//! length is checked against the rest of the file before a read.

use super::BlockType;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use thiserror::Error;

/// The longest accepted text.
const MAX_TEXT: u64 = 1 << 26;
/// The limit of a tensor's dimensions.
const MAX_DIMENSIONS: u32 = 4;
/// The value type of arrays.
const ARRAY: u32 = 9;

/// Why a GGUF file cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The magic bytes are wrong.
    #[error("not a GGUF file (its first four bytes are {found:02x?})")]
    BadMagic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// An unsupported version.
    #[error("GGUF version {found}{}", version_advice(*found))]
    Version {
        /// The version found.
        found: u32,
    },
    /// A length beyond the end of the file.
    #[error("the file is truncated or damaged: {what} needs {needed} bytes at byte {at}, {left} are left")]
    Truncated {
        /// The value being read.
        what: &'static str,
        /// Where.
        at: u64,
        /// Bytes it needs.
        needed: u64,
        /// Bytes left in the file.
        left: u64,
    },
    /// A text longer than any real one.
    #[error("a string of {found} bytes at byte {at}, at most {MAX_TEXT} are read")]
    LongText {
        /// Where.
        at: u64,
        /// Its length.
        found: u64,
    },
    /// A name that is not UTF-8.
    #[error("the name at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where.
        at: u64,
    },
    /// A value type outside the specification, or an array of arrays.
    #[error("metadata {key}: value type {found} is not supported")]
    ValueType {
        /// The key.
        key: String,
        /// The type's number.
        found: u32,
    },
    /// A duplicate key or tensor name.
    #[error("{name} appears twice")]
    Duplicate {
        /// The key or name.
        name: String,
    },
    /// An alignment that is not a power of two of at least 8.
    #[error("general.alignment is {found}, expected a power of two from 8 to 65536")]
    Alignment {
        /// The alignment found.
        found: u64,
    },
    /// A shape with no or too many dimensions, a zero, or a size that overflows.
    #[error("tensor {name}: shape {found:?} is not one of 1 to {MAX_DIMENSIONS} dimensions of sensible size")]
    Shape {
        /// The tensor.
        name: String,
        /// Its dimensions, innermost first.
        found: Vec<u64>,
    },
    /// A block type that the converter cannot read.
    #[error(
        "tensor {name} has GGML type {found}, supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K{}",
        if cfg!(feature = "ggml") { "" } else { "; built with the feature ggml, thimble reads IQ and other types too" }
    )]
    TensorType {
        /// The tensor.
        name: String,
        /// The type's number.
        found: u32,
    },
    /// Rows that are not whole blocks.
    #[error("tensor {name}: rows of {columns} numbers are not whole {kind} blocks")]
    PartialBlock {
        /// The tensor.
        name: String,
        /// Numbers in a row.
        columns: u64,
        /// Its type.
        kind: BlockType,
    },
    /// A tensor outside the file or off its alignment.
    #[error(
        "tensor {name} lies at bytes {start} to {end}, outside the file's {file_len} or off its alignment"
    )]
    TensorBounds {
        /// The tensor.
        name: String,
        /// First byte in the file.
        start: u64,
        /// Byte after the last.
        end: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// A read error.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
}

/// Advice for a file of an unsupported version.
fn version_advice(found: u32) -> &'static str {
    match found {
        1 => {
            ": versions 2 and 3 are supported; version 1 was replaced in 2023: convert the original model again"
        }
        _ if (1..=3).contains(&found.swap_bytes()) => {
            " (big-endian): only little-endian files are supported; convert it with llama.cpp's gguf-convert-endian"
        }
        _ => ", but versions 2 and 3 are supported: the file is damaged, or needs a newer thimble",
    }
}

/// A metadata value. Types that no supported model needs are skipped.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// f32 or f64.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A text. GGUF requires UTF-8, which is not checked here.
    Text(Vec<u8>),
    /// An array of 32-bit integers, or of booleans as 0 and 1.
    Integers(Vec<i32>),
    /// An array of texts.
    Texts(Vec<Vec<u8>>),
    /// An array of another type, skipped.
    OtherArray,
}

/// Location, type and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: BlockType,
    /// Dimensions, innermost (columns) first; one to four, none zero.
    pub dimensions: Vec<u64>,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Metadata and tensor directory of a GGUF file.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors in file order; each lies inside the file.
    pub tensors: Vec<GgufTensor>,
}

impl Gguf {
    /// Reads metadata and tensor directory of a file of `file_len` bytes, from its start.
    pub fn parse(reader: impl Read, file_len: u64) -> Result<Gguf, GgufError> {
        let mut input = Input { reader, at: 0, len: file_len };
        let found = input.array::<4>("magic")?;
        if found != *b"GGUF" {
            return Err(GgufError::BadMagic { found });
        }
        let version = input.u32("version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { found: version });
        }
        let tensor_count = input.u64("tensor count")?;
        let key_count = input.u64("metadata count")?;
        let mut metadata = BTreeMap::new();
        for _ in 0..key_count {
            let key = input.name()?;
            let kind = input.u32("value type")?;
            let value = input.value(&key, kind)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(GgufError::Duplicate { name: key });
            }
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Unsigned(a)) if a.is_power_of_two() && (8..=65536).contains(a) => *a,
            Some(Value::Unsigned(found)) => return Err(GgufError::Alignment { found: *found }),
            Some(_) => return Err(GgufError::Alignment { found: 0 }),
        };
        let mut tensors = Vec::new();
        let mut names = BTreeSet::new();
        for _ in 0..tensor_count {
            let tensor = input.tensor()?;
            if !names.insert(tensor.name.clone()) {
                return Err(GgufError::Duplicate { name: tensor.name });
            }
            tensors.push(tensor);
        }
        // Offsets in the directory count from here. `at` is at most the file's length, so that no real file overflows.
        let start = input.at.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        for tensor in &mut tensors {
            let aligned = tensor.offset.is_multiple_of(alignment);
            let offset = start.checked_add(tensor.offset);
            let end = offset.and_then(|o| o.checked_add(tensor.length));
            match (offset, end) {
                (Some(offset), Some(end)) if aligned && end <= file_len => tensor.offset = offset,
                _ => {
                    return Err(GgufError::TensorBounds {
                        name: tensor.name.clone(),
                        start: offset.unwrap_or(u64::MAX),
                        end: end.unwrap_or(u64::MAX),
                        file_len,
                    });
                }
            }
        }
        Ok(Gguf { metadata, tensors })
    }
}

/// A reader that tracks the rest of the file.
struct Input<R> {
    reader: R,
    at: u64,
    len: u64,
}

impl<R: Read> Input<R> {
    fn need(&self, what: &'static str, needed: u64) -> Result<(), GgufError> {
        let left = self.len.saturating_sub(self.at);
        if needed > left {
            return Err(GgufError::Truncated { what, at: self.at, needed, left });
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        self.need(what, N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn text(&mut self) -> Result<Vec<u8>, GgufError> {
        let length = self.u64("length of a string")?;
        self.need("a string", length)?;
        if length > MAX_TEXT {
            return Err(GgufError::LongText { at: self.at, found: length });
        }
        let mut text = vec![0; length as usize];
        self.reader.read_exact(&mut text)?;
        self.at += length;
        Ok(text)
    }

    fn name(&mut self) -> Result<String, GgufError> {
        let at = self.at;
        String::from_utf8(self.text()?).map_err(|_| GgufError::NotUtf8 { at })
    }

    fn skip(&mut self, what: &'static str, length: u64) -> Result<(), GgufError> {
        self.need(what, length)?;
        let skipped = io::copy(&mut self.reader.by_ref().take(length), &mut io::sink())?;
        if skipped != length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.at += length;
        Ok(())
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Value, GgufError> {
        let what = "a metadata value";
        Ok(match kind {
            0 => Value::Unsigned(u64::from(u8::from_le_bytes(self.array(what)?))),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array(what)?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array(what)?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array(what)?))),
            4 => Value::Unsigned(u64::from(self.u32(what)?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array(what)?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array(what)?))),
            7 => Value::Bool(self.array::<1>(what)? != [0]),
            8 => Value::Text(self.text()?),
            ARRAY => self.array_value(key)?,
            10 => Value::Unsigned(self.u64(what)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(what)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(what)?)),
            found => return Err(GgufError::ValueType { key: key.to_owned(), found }),
        })
    }

    fn array_value(&mut self, key: &str) -> Result<Value, GgufError> {
        let kind = self.u32("an array's type")?;
        let count = self.u64("an array's length")?;
        let what = "an array";
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8, // A text takes at least its length field.
            found => return Err(GgufError::ValueType { key: key.to_owned(), found }),
        };
        let bytes = count.saturating_mul(size);
        self.need(what, bytes)?;
        match kind {
            8 => (0..count).map(|_| self.text()).collect::<Result<_, _>>().map(Value::Texts),
            4 | 5 => {
                let numbers = (0..count).map(|_| self.array(what).map(i32::from_le_bytes));
                numbers.collect::<Result<_, _>>().map(Value::Integers)
            }
            // As Python's gguf writes `sliding_window_pattern`.
            7 => {
                let flags = (0..count).map(|_| self.array::<1>(what).map(|[flag]| i32::from(flag != 0)));
                flags.collect::<Result<_, _>>().map(Value::Integers)
            }
            _ => self.skip(what, bytes).map(|()| Value::OtherArray),
        }
    }

    fn tensor(&mut self) -> Result<GgufTensor, GgufError> {
        let name = self.name()?;
        let count = self.u32("a dimension count")?;
        if !(1..=MAX_DIMENSIONS).contains(&count) {
            return Err(GgufError::Shape { name, found: vec![u64::from(count)] });
        }
        let dimensions: Vec<u64> = (0..count).map(|_| self.u64("a dimension")).collect::<Result<_, _>>()?;
        let number = self.u32("a tensor type")?;
        let offset = self.u64("a tensor offset")?;
        let Some(kind) = BlockType::from_number(number) else {
            return Err(GgufError::TensorType { name, found: number });
        };
        let rows = dimensions[1..].iter().try_fold(1u64, |product, &d| product.checked_mul(d));
        let columns = usize::try_from(dimensions[0]).ok();
        let (Some(rows), Some(columns), true) = (rows, columns, dimensions.iter().all(|&d| d > 0)) else {
            return Err(GgufError::Shape { name, found: dimensions });
        };
        let Some(row) = kind.row_bytes(columns) else {
            return Err(GgufError::PartialBlock { name, columns: columns as u64, kind });
        };
        match rows.checked_mul(row as u64) {
            Some(length) => Ok(GgufTensor { name, kind, dimensions, offset, length }),
            None => Err(GgufError::Shape { name, found: dimensions }),
        }
    }
}
