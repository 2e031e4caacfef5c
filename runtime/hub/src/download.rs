//! Downloads files into the cache, over as many connections as it takes.

use crate::error::HubError;
use crate::http::{escape, text};
use crate::retry::{AttemptError, RetryCounter, is_retryable, retried};
use crate::{DownloadEvent, Repository, is_contained, is_safe_name};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often to check a lock that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(200);
/// Bytes per write.
const BUFFER: usize = 128 << 10;

/// A file at the hub.
struct Remote {
    /// `FILE of REPOSITORY`.
    what: String,
    url: String,
    etag: String,
    commit: String,
    size: Option<u64>,
    /// Whether the hub supports ranges, so that a download can resume.
    parts: bool,
}

impl Remote {
    fn broken(&self, reason: String) -> HubError {
        HubError::Broken { what: self.what.clone(), reason }
    }
}

impl Repository {
    /// Downloads the file into the cache, even if it is cached. Resumes an interrupted download.
    ///
    /// # Errors
    /// The hub is unreachable, refuses, or sends an invalid answer; the connection breaks repeatedly; the disk is full.
    pub fn download(&self, file: &str, progress: &mut dyn FnMut(DownloadEvent)) -> Result<PathBuf, HubError> {
        let remote = self.remote(file)?;
        let cache = self.hub.cache.repo(self.repo.clone());
        let blob = cache.blob_path(&remote.etag);
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |source| HubError::Disk { path, source }
        };
        let blobs = blob.parent().unwrap_or(&blob);
        fs::create_dir_all(blobs).map_err(disk(blobs))?;
        let beside = |ending: &str| blobs.join(format!("{}.{ending}", remote.etag));
        let (lock_path, part) = (beside("lock"), beside("part"));
        let (_lock, waited) = lock(&lock_path, progress).map_err(disk(&lock_path))?;
        // After a wait, the other process may have downloaded the file.
        if !(waited && blob.is_file()) {
            self.complete_part(&remote, &part, progress)?;
            fs::rename(&part, &blob).map_err(disk(&blob))?;
        }
        let pointer = cache.pointer_path(&remote.commit).join(file);
        link(&pointer, &blob).map_err(disk(&pointer))?;
        cache.create_ref(&remote.commit).map_err(disk(blobs))?;
        Ok(pointer)
    }

    /// The hub's metadata of a file.
    fn remote(&self, file: &str) -> Result<Remote, HubError> {
        let what = format!("{file} of {}", self.name());
        if !is_contained(file) {
            return Err(HubError::FileName { repository: self.name(), file: file.to_owned() });
        }
        let (endpoint, repository) = (&self.hub.client.endpoint, escape(&self.repo.url()));
        let url = format!("{endpoint}/{repository}/resolve/{}/{}", self.revision(), escape(file));
        // 416: an empty file has no first byte.
        let found = |status: u16| status == 416 || (200..300).contains(&status);
        let answer = retried(|| self.checked(self.hub.client.probe(&url), found, &what))?;
        let response = &answer.response;
        let whole = || text(response.headers(), "content-length")?.parse().ok();
        let size = match response.status().as_u16() {
            206 | 416 => content_range(response.headers()).and_then(|(_, total)| total),
            _ => whole(),
        };
        let missing = |header: &str, found: Option<String>| {
            let found = found.ok_or_else(|| self.not_a_hub(&what, format!("the answer has no {header}")))?;
            match is_safe_name(&found) {
                true => Ok(found),
                false => {
                    Err(self.not_a_hub(&what, format!("expected a plain word in {header}, found {found:?}")))
                }
            }
        };
        Ok(Remote {
            etag: missing("ETag", answer.etag)?,
            commit: missing("X-Repo-Commit", answer.commit)?,
            size: answer.size.or(size),
            parts: response.status().as_u16() == 206,
            what,
            url,
        })
    }

    /// Downloads until `part` holds the whole file.
    fn complete_part(
        &self,
        remote: &Remote,
        part: &Path,
        progress: &mut dyn FnMut(DownloadEvent),
    ) -> Result<(), HubError> {
        let disk = |source| HubError::Disk { path: part.to_owned(), source };
        let mut file = OpenOptions::new().append(true).create(true).open(part).map_err(disk)?;
        let (mut retries, mut most) = (RetryCounter::default(), 0);
        loop {
            let there = file.metadata().map_err(disk)?.len();
            match remote.size {
                Some(size) if there == size => return Ok(()),
                Some(size) if there < size => {}
                // Too long, or of unknown length: start over.
                _ => file.set_len(0).map_err(disk)?,
            }
            let error = match self.append_range(remote, &mut file, part, progress) {
                Ok(()) if remote.size.is_none() => return Ok(()),
                Ok(()) => remote.broken("the answer was too short".to_owned()),
                Err(AttemptError::Permanent(error)) => return Err(error),
                Err(AttemptError::Transient(error)) => error,
            };
            let there = file.metadata().map_err(disk)?.len();
            if remote.size == Some(there) {
                return Ok(());
            }
            if there > most {
                (retries, most) = (RetryCounter::default(), there);
            }
            if !retries.wait() {
                let kept = there > 0 && remote.size.is_some() && remote.parts;
                return Err(match error {
                    HubError::Broken { reason, .. } if kept => remote
                        .broken(format!("{reason}; {there} bytes are kept, and the same command resumes")),
                    error => error,
                });
            }
        }
    }

    /// Appends what one connection delivers.
    fn append_range(
        &self,
        remote: &Remote,
        file: &mut File,
        part: &Path,
        progress: &mut dyn FnMut(DownloadEvent),
    ) -> Result<(), AttemptError> {
        let disk = |source| AttemptError::Permanent(HubError::Disk { path: part.to_owned(), source });
        let broken =
            |reason: &dyn std::fmt::Display| AttemptError::Transient(remote.broken(reason.to_string()));
        let mut there = file.metadata().map_err(disk)?.len();
        let range = (there > 0).then(|| format!("bytes={there}-"));
        let answer = self.hub.client.get(&remote.url, range.as_deref()).map_err(|error| broken(&error))?;
        let response = answer.response;
        match response.status().as_u16() {
            206 if content_range(response.headers()).is_some_and(|(first, _)| first == Some(there)) => {}
            // The whole file instead of a range.
            200 => {
                file.set_len(0).map_err(disk)?;
                there = 0;
            }
            206 | 416 => {
                file.set_len(0).map_err(disk)?;
                return Err(broken(&"the hub sent another range of the file than requested"));
            }
            status => {
                let refused = self.refused(&response, remote.what.clone());
                return Err(if is_retryable(status) {
                    AttemptError::Transient(refused)
                } else {
                    AttemptError::Permanent(refused)
                });
            }
        }
        if answer.etag.is_some_and(|etag| etag != remote.etag) {
            let reason = "the file changed on the hub meanwhile; run the same command again".to_owned();
            return Err(AttemptError::Permanent(remote.broken(reason)));
        }
        progress(DownloadEvent::Size { total: remote.size, there });
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(&error)),
            };
            there += read as u64;
            if remote.size.is_some_and(|size| there > size) {
                file.set_len(0).map_err(disk)?;
                return Err(broken(&"the hub sent more bytes than the file has"));
            }
            file.write_all(&buffer[..read]).map_err(disk)?;
            progress(DownloadEvent::Read(read as u64));
        }
    }
}

/// The first byte and the total of `bytes FIRST-LAST/TOTAL` or `bytes */TOTAL`.
fn content_range(headers: &ureq::http::HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let range = text(headers, "content-range")?;
    let (range, total) = range.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let first = range.split_once('-').and_then(|(first, _)| first.trim().parse().ok());
    Some((first, total.trim().parse().ok()))
}

/// Locks the file; the flag says whether another process held it.
fn lock(path: &Path, progress: &mut dyn FnMut(DownloadEvent)) -> io::Result<(File, bool)> {
    let file = File::create(path)?;
    let mut waited = false;
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        if !waited {
            progress(DownloadEvent::Waiting);
        }
        waited = true;
        std::thread::sleep(LOCK_POLL);
    }
    // Other errors: some file systems have no locks.
    Ok((file, waited))
}

/// Links `pointer` to `blob`, with a relative path as the cache may move; copies where the system has no links.
fn link(pointer: &Path, blob: &Path) -> io::Result<()> {
    let folder = pointer.parent().unwrap_or(pointer);
    fs::create_dir_all(folder)?;
    let same = |path: &Path| fs::canonicalize(path).ok();
    if same(pointer).is_some_and(|target| Some(target) == same(blob)) {
        return Ok(());
    }
    match fs::remove_file(pointer) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // From snapshots/COMMIT/FILE to blobs/ETAG.
    let repository = blob.parent().and_then(Path::parent).unwrap_or(blob);
    let depth = folder.strip_prefix(repository).map_or(0, |inner| inner.components().count());
    let mut relative: PathBuf = std::iter::repeat_n("..", depth).collect();
    relative.extend(blob.strip_prefix(repository).unwrap_or(blob));
    #[cfg(unix)]
    return std::os::unix::fs::symlink(relative, pointer);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(&relative, pointer);
    #[cfg(not(any(unix, windows)))]
    let linked: io::Result<()> = Err(io::ErrorKind::Unsupported.into());
    #[cfg(not(unix))]
    linked.or_else(|_| fs::hard_link(blob, pointer)).or_else(|_| fs::copy(blob, pointer).map(drop))
}
