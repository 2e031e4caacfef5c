//! Keys and values of a session in a file, for a session that goes on where another one was: reading them is quicker than
//! computing them anew.
//!
//! Little-endian: the magic, a fingerprint of the model, the shape and the kind of the cache, the number of tokens (whole blocks
//! of 64), the tokens; for each layer and key-value head the keys, the values and (of bytes) their scales of all those
//! positions, as [`KvHead`](thimble_runtime::kernels::KvHead) lays them out; XXH3-64 of all of that.

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

/// Why keys and values cannot be kept, or taken up: whoever asked computes them instead.
#[derive(Debug, Error)]
pub enum KvFileError {
    /// The operating system refused something, or the file ends too early.
    #[error("cannot keep keys and values in {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file of another kind is in its place.
    #[error("{} is no file of keys and values, and is not replaced: name another one", .0.display())]
    OtherFile(PathBuf),
    /// Another model's, or kept in another precision, or no such file at all.
    #[error("{} has no keys and values of this model, kept as this session keeps them", .0.display())]
    OtherModel(PathBuf),
    /// The checksum differs.
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    /// The session has no room for so many tokens.
    #[error(transparent)]
    Session(#[from] SessionError),
}

const MAGIC: [u8; 8] = *b"THKV\x01\0\0\0";
/// Bytes of the model file's front, where the checksums of all its sections are.
const FRONT: usize = 4096;
/// Bytes in front of the tokens.
const HEAD: usize = 40;

/// What tells models apart: a checksum over the checksums of the file's sections.
pub(crate) fn fingerprint(file: &ModelFile<'_>) -> u64 {
    checksum(&file.bytes()[..FRONT.min(file.bytes().len())])
}

/// Passes bytes on, and remembers their checksum.
struct Summed<S> {
    inner: S,
    sum: Xxh3Default,
}

impl<S> Summed<S> {
    fn new(inner: S) -> Self {
        Summed { inner, sum: Xxh3Default::new() }
    }
}

impl<W: Write> Summed<W> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }

    fn scales(&mut self, scales: &[f32]) -> io::Result<()> {
        scales.iter().try_for_each(|scale| self.bytes(&scale.to_le_bytes()))
    }
}

impl<R: Read> Summed<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.sum.update(bytes);
        Ok(())
    }

    fn fill_scales(&mut self, scales: &mut [f32]) -> io::Result<()> {
        for scale in scales {
            let mut bytes = [0; 4];
            self.fill(&mut bytes)?;
            *scale = f32::from_le_bytes(bytes);
        }
        Ok(())
    }
}

/// Where a file is written before it takes its place: one for all, so that none is left for good.
fn partial(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    partial.into()
}

/// A file with keys and values. It may be deleted at any time: then they are computed.
#[derive(Clone, Debug)]
pub struct KvFile {
    path: PathBuf,
    /// The tokens whose keys and values are in it, as far as this process knows.
    kept: Vec<Token>,
}

impl KvFile {
    /// The file at `path`, which need not be there.
    pub fn new(path: &Path) -> KvFile {
        KvFile { path: path.to_path_buf(), kept: Vec::new() }
    }

    fn io(&self) -> impl Fn(io::Error) -> KvFileError + '_ {
        |source| KvFileError::Io { path: self.path.clone(), source }
    }

    /// Whether the file may be replaced: it is one of these, or is not there.
    fn is_ours(&self) -> Result<bool, KvFileError> {
        let mut magic = [0; MAGIC.len()];
        match File::open(&self.path).and_then(|mut file| file.read_exact(&mut magic)) {
            Ok(()) => Ok(magic == MAGIC),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            // Shorter than that.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(self.io()(error)),
        }
    }

    /// Removes the file, if it is one of these, and what an end in the middle of writing it has left.
    ///
    /// # Errors
    /// [`KvFileError::Io`].
    pub fn forget(&mut self) -> Result<(), KvFileError> {
        self.kept.clear();
        if !self.is_ours()? {
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

    /// What stands in front of the tokens; `count` of them.
    fn head<T: ThreadPool>(
        file: &ModelFile<'_>,
        session: &Session<Hybrid<'_, T>>,
        count: usize,
    ) -> [u8; HEAD] {
        let cpu = session.sequence().cpu();
        let (config, options) = (cpu.plan().config(), cpu.plan().options());
        let kind = match options.kv {
            KvKind::F32 => 0,
            KvKind::F16 => 1,
            KvKind::Q8 => 2,
        };
        let [layers, heads, dim] = [config.layers, config.kv_heads, config.head_dim].map(|n| n as u32);
        let mut head = [0; HEAD];
        let fields = [kind, layers, heads, dim, u32::from(options.exact), count as u32];
        head[..8].copy_from_slice(&MAGIC);
        head[8..16].copy_from_slice(&fingerprint(file).to_le_bytes());
        for (place, field) in head[16..].as_chunks_mut::<4>().0.iter_mut().zip(fields) {
            *place = field.to_le_bytes();
        }
        head
    }

    /// Keeps what the session holds, in whole blocks of 64 positions: nothing of what an earlier conversation may have left
    /// behind its end. The file is replaced as a whole or stays; it stays where there is no such block, where it has them
    /// already, where another session is writing it, and where a GPU that had them is lost.
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
        if tokens.is_empty() || tokens == self.kept {
            return Ok(());
        }
        let path = thimble_files::resolve(&self.path).map_err(|error| self.io()(error.into()))?;
        if !self.is_ours()? {
            return Err(KvFileError::OtherFile(self.path.clone()));
        }
        let partial = partial(&path);
        match Self::write(&partial, file, session, &tokens) {
            Ok(false) => return Ok(()),
            Ok(true) => std::fs::rename(&partial, &path).map_err(self.io())?,
            Err(error) => {
                // What is left of it is of no use; that it cannot be removed either is told by the first error.
                let _ = std::fs::remove_file(&partial);
                return Err(self.io()(error));
            }
        }
        self.kept = tokens;
        Ok(())
    }

    /// Whether everything was written. Not synced: a file that a power cut leaves torn has another checksum.
    fn write<T: ThreadPool>(
        path: &Path,
        file: &ModelFile<'_>,
        session: &mut Session<Hybrid<'_, T>>,
        tokens: &[Token],
    ) -> io::Result<bool> {
        let output = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match output.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(false),
            // Not to be had everywhere; the checksum finds what two writers make of it.
            Err(TryLockError::Error(_)) | Ok(()) => output.set_len(0)?,
        }
        let mut out = Summed::new(BufWriter::new(&output));
        out.bytes(&Self::head(file, session, tokens.len()))?;
        tokens.iter().try_for_each(|token| out.bytes(&token.0.to_le_bytes()))?;
        let blocks = 0..tokens.len() / CHUNK;
        let written = session.sequence_mut().with_cache(tokens.len(), |cpu| {
            let (layers, heads) = (cpu.plan().config().layers, cpu.plan().config().kv_heads);
            for (layer, head) in (0..layers).flat_map(|layer| (0..heads).map(move |head| (layer, head))) {
                let part = cpu.cache(layer, head, blocks.clone());
                out.bytes(part.keys)?;
                out.bytes(part.values)?;
                out.scales(part.key_scales)?;
                out.scales(part.value_scales)?;
            }
            Ok::<(), io::Error>(())
        });
        let Some(written) = written else {
            // Empty: nothing of it shall be taken for more.
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

    /// Takes up what is in the file: the session holds its tokens then. Nothing where there is no file.
    ///
    /// # Errors
    /// Whatever is wrong with the file; the session holds what it did before then, or nothing.
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
        let mut input = Summed::new(BufReader::new(opened));
        let mut head = [0; HEAD];
        input.fill(&mut head).map_err(self.io())?;
        let count = u32::from_le_bytes([head[36], head[37], head[38], head[39]]) as usize;
        if head != Self::head(file, session, count) || !count.is_multiple_of(CHUNK) {
            return Err(KvFileError::OtherModel(self.path.clone()));
        }
        if count >= session.context() {
            let context = session.context();
            return Err(SessionError::ContextFull { position: 0, more: count, context }.into());
        }
        let mut tokens = Vec::with_capacity(count);
        for _ in 0..count {
            let mut bytes = [0; 4];
            input.fill(&mut bytes).map_err(self.io())?;
            tokens.push(Token(u32::from_le_bytes(bytes)));
        }
        let blocks = 0..count / CHUNK;
        session.restore(&tokens, |hybrid| {
            hybrid.fill_cache(count, |cpu| {
                let (layers, heads) = (cpu.plan().config().layers, cpu.plan().config().kv_heads);
                for (layer, head) in (0..layers).flat_map(|layer| (0..heads).map(move |head| (layer, head))) {
                    let part = cpu.cache(layer, head, blocks.clone());
                    input.fill(part.keys).map_err(self.io())?;
                    input.fill(part.values).map_err(self.io())?;
                    input.fill_scales(part.key_scales).map_err(self.io())?;
                    input.fill_scales(part.value_scales).map_err(self.io())?;
                }
                let (found, mut sum) = (input.sum.digest(), [0; 8]);
                input.inner.read_exact(&mut sum).map_err(self.io())?;
                let damaged = found != u64::from_le_bytes(sum);
                if damaged { Err(KvFileError::Damaged(self.path.clone())) } else { Ok(()) }
            })
        })?;
        self.kept = tokens;
        Ok(())
    }
}
