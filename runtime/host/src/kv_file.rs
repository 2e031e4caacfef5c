//! Saves the KV cache of a session in a file, so that a later session continues from it: reading is faster than recomputing.
//!
//! Little-endian: magic, a fingerprint of the model and its adapters, number format and shape of the cache, the number of tokens (a multiple of
//! 64), the tokens; for each layer and key-value head the keys, the values and (if 8-bit) their scales at all those positions,
//! or in a layer with a sliding window in the chunks that the next token reaches, laid out as in
//! [`KvHead`](thimble_runtime::kernels::KvHead); XXH3-64 of everything before it.

use crate::hybrid::Hybrid;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use thimble_runtime::Token;
use thimble_runtime::format::{ModelFile, checksum};
use thimble_runtime::kernels::{CHUNK, KvKind, ThreadPool};
use thimble_runtime::session::{Session, SessionError};
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3Default;

/// Why a KV cache cannot be saved or restored. The caller can always recompute it.
#[derive(Debug, Error)]
pub enum KvFileError {
    /// An I/O error, or the file is truncated.
    #[error("cannot read or write the KV cache {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The path names a file of another kind.
    #[error("{} exists and is not a KV cache file: choose another file", .0.display())]
    OtherFile(PathBuf),
    /// A cache of another model or number format, or another kind of file.
    #[error("{} does not hold a KV cache of this model in this session's number format", .0.display())]
    OtherModel(PathBuf),
    /// The checksum differs.
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    /// The tokens do not fit the session.
    #[error(transparent)]
    Session(#[from] SessionError),
}

const MAGIC: [u8; 8] = *b"THKV\x01\0\0\0";
/// Bytes at the beginning of a model file, which include the checksums of all its sections.
const MODEL_HEADER: usize = 4096;
/// Bytes before the tokens.
const HEADER_LEN: usize = 40;

/// Identifies a model: a checksum over the checksums of the file's sections.
pub(crate) fn fingerprint(file: &ModelFile<'_>) -> u64 {
    checksum(&file.bytes()[..MODEL_HEADER.min(file.bytes().len())])
}

/// Reads or writes, and keeps a running checksum.
struct Checksummed<S> {
    inner: S,
    sum: Xxh3Default,
}

impl<S> Checksummed<S> {
    fn new(inner: S) -> Self {
        Checksummed { inner, sum: Xxh3Default::new() }
    }
}

impl<W: Write> Checksummed<W> {
    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }

    fn write_scales(&mut self, scales: &[f32]) -> io::Result<()> {
        scales.iter().try_for_each(|scale| self.write_bytes(&scale.to_le_bytes()))
    }
}

impl<R: Read> Checksummed<R> {
    fn read_bytes(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.sum.update(bytes);
        Ok(())
    }

    fn read_scales(&mut self, scales: &mut [f32]) -> io::Result<()> {
        for scale in scales {
            let mut bytes = [0; 4];
            self.read_bytes(&mut bytes)?;
            *scale = f32::from_le_bytes(bytes);
        }
        Ok(())
    }
}

/// Where a file is written before it is renamed. The name is fixed, so that a crash leaves at most one such file.
fn partial(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    partial.into()
}

/// A file that holds a KV cache. It may be deleted at any time: the cache is then recomputed.
#[derive(Clone, Debug)]
pub struct KvFile {
    path: PathBuf,
    /// The tokens in the file, as far as this process knows.
    saved: Vec<Token>,
    /// The adapters that the file was made with.
    adapters: u64,
}

impl KvFile {
    /// The file at `path`, which need not exist.
    pub fn new(path: &Path) -> KvFile {
        KvFile { path: path.to_path_buf(), saved: Vec::new(), adapters: 0 }
    }

    fn io(&self) -> impl Fn(io::Error) -> KvFileError + '_ {
        |source| KvFileError::Io { path: self.path.clone(), source }
    }

    /// Whether the file may be replaced: it is a KV cache file, or does not exist.
    fn is_replaceable(&self) -> Result<bool, KvFileError> {
        let mut magic = [0; MAGIC.len()];
        match File::open(&self.path).and_then(|mut file| file.read_exact(&mut magic)) {
            Ok(()) => Ok(magic == MAGIC),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            // Too short for the magic.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(self.io()(error)),
        }
    }

    /// Removes the file if it is a KV cache file, and what an interrupted write has left.
    ///
    /// # Errors
    /// [`KvFileError::Io`].
    pub fn remove(&mut self) -> Result<(), KvFileError> {
        self.saved.clear();
        if !self.is_replaceable()? {
            return Ok(());
        }
        for path in [partial(&self.path), self.path.clone()] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.io()(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes before the tokens, `count` of them.
    fn header<T: ThreadPool>(
        file: &ModelFile<'_>,
        session: &Session<Hybrid<'_, T>>,
        count: usize,
    ) -> [u8; HEADER_LEN] {
        let cpu = session.sequence().cpu();
        let (config, options) = (cpu.plan().config(), cpu.plan().options());
        let kind = match options.kv {
            KvKind::F32 => 0,
            KvKind::F16 => 1,
            KvKind::Q8 => 2,
        };
        let [layers, heads, dim] = [config.layers, config.kv_heads, config.head_dim].map(|n| n as u32);
        let mut header = [0; HEADER_LEN];
        let fields = [kind, layers, heads, dim, u32::from(options.exact), count as u32];
        header[..8].copy_from_slice(&MAGIC);
        // Without adapters their id is 0.
        let weights = fingerprint(file) ^ cpu.adapters().id();
        header[8..16].copy_from_slice(&weights.to_le_bytes());
        for (place, field) in header[16..].as_chunks_mut::<4>().0.iter_mut().zip(fields) {
            *place = field.to_le_bytes();
        }
        header
    }

    /// Saves the session's KV cache in whole chunks of 64 positions, without stale positions of an earlier conversation.
    ///
    /// The file is replaced atomically. It stays as it is if there is no whole block, it is up to date, another session is
    /// writing it, or a lost GPU held the cache.
    ///
    /// # Errors
    /// [`KvFileError::Io`] and [`KvFileError::OtherFile`].
    pub fn save<T: ThreadPool>(
        &mut self,
        file: &ModelFile<'_>,
        session: &mut Session<Hybrid<'_, T>>,
    ) -> Result<(), KvFileError> {
        let whole = session.position() / CHUNK * CHUNK;
        let tokens = session.tokens()[..whole].to_vec();
        let adapters = session.sequence().cpu().adapters().id();
        if tokens.is_empty() || (tokens == self.saved && adapters == self.adapters) {
            return Ok(());
        }
        let path = thimble_files::resolve(&self.path).map_err(|error| self.io()(error.into()))?;
        if !self.is_replaceable()? {
            return Err(KvFileError::OtherFile(self.path.clone()));
        }
        let partial = partial(&path);
        match Self::write(&partial, file, session, &tokens) {
            Ok(false) => return Ok(()),
            Ok(true) => std::fs::rename(&partial, &path).map_err(self.io())?,
            Err(error) => {
                // The partial file is useless; if removing it fails too, the first error says enough.
                let _ = std::fs::remove_file(&partial);
                return Err(self.io()(error));
            }
        }
        (self.saved, self.adapters) = (tokens, adapters);
        Ok(())
    }

    /// Writes the file; false if another session is writing it or the cache is lost. Not synced: the checksum reveals a file that a
    /// power cut left incomplete.
    fn write<T: ThreadPool>(
        path: &Path,
        file: &ModelFile<'_>,
        session: &mut Session<Hybrid<'_, T>>,
        tokens: &[Token],
    ) -> io::Result<bool> {
        let output = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match output.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(false),
            // Not every system has locks; the checksum reveals the work of two writers.
            Err(TryLockError::Error(_)) | Ok(()) => output.set_len(0)?,
        }
        let mut out = Checksummed::new(BufWriter::new(&output));
        out.write_bytes(&Self::header(file, session, tokens.len()))?;
        tokens.iter().try_for_each(|token| out.write_bytes(&token.0.to_le_bytes()))?;
        let written = session.sequence_mut().with_cache(tokens.len(), |cpu| {
            let (layers, heads) = (cpu.plan().config().layers, cpu.plan().config().kv_heads);
            for (layer, head) in (0..layers).flat_map(|layer| (0..heads).map(move |head| (layer, head))) {
                let part = cpu.cache(layer, head, cpu.cached_chunks(layer, tokens.len()));
                out.write_bytes(part.keys)?;
                out.write_bytes(part.values)?;
                out.write_scales(part.key_scales)?;
                out.write_scales(part.value_scales)?;
            }
            Ok::<(), io::Error>(())
        });
        let Some(written) = written else {
            // Nothing may take this for a complete file.
            drop(out);
            output.set_len(0)?;
            return Ok(false);
        };
        written?;
        let sum = out.sum.digest();
        out.inner.write_all(&sum.to_le_bytes())?;
        out.inner.flush()?;
        Ok(true)
    }

    /// Restores the session from the file: it then holds the file's tokens. Without a file, nothing happens.
    ///
    /// # Errors
    /// The file is not valid for this session, which then is unchanged or empty.
    pub fn restore<T: ThreadPool>(
        &mut self,
        file: &ModelFile<'_>,
        session: &mut Session<Hybrid<'_, T>>,
    ) -> Result<(), KvFileError> {
        let opened = match File::open(&self.path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.io()(error)),
        };
        let mut input = Checksummed::new(BufReader::new(opened));
        let mut header = [0; HEADER_LEN];
        input.read_bytes(&mut header).map_err(self.io())?;
        let count = u32::from_le_bytes([header[36], header[37], header[38], header[39]]) as usize;
        if header != Self::header(file, session, count) || !count.is_multiple_of(CHUNK) {
            return Err(KvFileError::OtherModel(self.path.clone()));
        }
        if count >= session.context() {
            let context = session.context();
            return Err(SessionError::ContextFull { position: 0, more: count, context }.into());
        }
        let adapters = session.sequence().cpu().adapters().id();
        let mut tokens = Vec::with_capacity(count);
        for _ in 0..count {
            let mut bytes = [0; 4];
            input.read_bytes(&mut bytes).map_err(self.io())?;
            tokens.push(Token(u32::from_le_bytes(bytes)));
        }
        session.restore(&tokens, |hybrid| {
            hybrid.fill_cache(count, |cpu| {
                let (layers, heads) = (cpu.plan().config().layers, cpu.plan().config().kv_heads);
                cpu.reserve(0..count);
                for (layer, head) in (0..layers).flat_map(|layer| (0..heads).map(move |head| (layer, head))) {
                    let part = cpu.cache(layer, head, cpu.cached_chunks(layer, count));
                    input.read_bytes(part.keys).map_err(self.io())?;
                    input.read_bytes(part.values).map_err(self.io())?;
                    input.read_scales(part.key_scales).map_err(self.io())?;
                    input.read_scales(part.value_scales).map_err(self.io())?;
                }
                let (found, mut sum) = (input.sum.digest(), [0; 8]);
                input.inner.read_exact(&mut sum).map_err(self.io())?;
                let damaged = found != u64::from_le_bytes(sum);
                if damaged { Err(KvFileError::Damaged(self.path.clone())) } else { Ok(()) }
            })
        })?;
        (self.saved, self.adapters) = (tokens, adapters);
        Ok(())
    }
}
