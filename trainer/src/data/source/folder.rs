//! What is in a folder, and what of a file's kind cannot be read.

use super::{ENDINGS, ReadOptions, TextSource};
use crate::error::{Error, Result};
use std::collections::HashSet;
use std::fs::FileType;
use std::path::{Path, PathBuf};

/// Endings of text that is packed in a way that is not read here.
const OTHER_PACKINGS: [&str; 8] = [".bz2", ".xz", ".lz4", ".br", ".zip", ".7z", ".tar", ".rar"];

/// A walk through a folder. Links are followed, but every file is taken once, by the name that comes first.
pub(super) struct Walk<'a> {
    options: &'a ReadOptions,
    /// Folders and files that were there already, by their real paths.
    seen: HashSet<PathBuf>,
    sources: Vec<TextSource>,
    /// Files that were passed over although text may be in them, and why.
    passed_over: Vec<(String, &'static str)>,
}

impl<'a> Walk<'a> {
    /// All text files below `folder`, sorted by path; says on stderr what was passed over.
    pub(super) fn files(folder: &Path, options: &'a ReadOptions) -> Result<Vec<TextSource>> {
        let mut walk = Walk { options, seen: HashSet::new(), sources: Vec::new(), passed_over: Vec::new() };
        walk.enter(folder)?;
        if let Some((first, why)) = walk.passed_over.first() {
            let more = match walk.passed_over.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            eprintln!("warning: passed over {first} ({why}){more}");
        }
        Ok(walk.sources)
    }

    fn enter(&mut self, folder: &Path) -> Result<()> {
        let failed = |error| Error::file(folder, "read")(error);
        if !self.seen.insert(folder.canonicalize().map_err(failed)?) {
            return Ok(());
        }
        let entries = std::fs::read_dir(folder).map_err(failed)?;
        let mut paths = entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden {
                continue;
            }
            if path.is_dir() {
                self.enter(&path)?;
            } else {
                self.take(path)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf) -> Result<()> {
        let name = path.to_string_lossy().into_owned();
        let Some(source) = TextSource::recognize(path, name.clone(), self.options) else {
            if other_packing(&name).is_some_and(|ending| {
                let stem = name[..name.len() - ending.len()].to_owned();
                TextSource::recognize(PathBuf::new(), stem, self.options).is_some()
            }) {
                self.passed_over.push((name, "packed in a way that is not read here; unpack it"));
            }
            return Ok(());
        };
        // A link that leads nowhere is told here.
        let metadata = std::fs::metadata(&source.path).map_err(Error::file(&source.path, "read"))?;
        if let Some(what) = no_file(metadata.file_type()) {
            self.passed_over.push((source.name, what));
            return Ok(());
        }
        let real = source.path.canonicalize().map_err(Error::file(&source.path, "read"))?;
        if self.seen.insert(real) {
            self.sources.push(source);
        }
        Ok(())
    }
}

/// What something is that is neither a file nor a folder.
fn no_file(kind: FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kinds = [
            (kind.is_fifo(), "a pipe"),
            (kind.is_socket(), "a socket"),
            (kind.is_char_device() || kind.is_block_device(), "a device"),
        ];
        if let Some((_, what)) = kinds.into_iter().find(|(is, _)| *is) {
            return Some(what);
        }
    }
    (!kind.is_file()).then_some("no file")
}

/// The ending of a packing that is not read here.
fn other_packing(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    OTHER_PACKINGS.into_iter().find(|ending| lower.ends_with(ending))
}

/// The one file that `name` stands for.
///
/// # Errors
/// What does not exist, is no file, or has an ending that is not read here.
pub(super) fn file(name: &str, options: &ReadOptions) -> Result<TextSource> {
    let path = Path::new(name);
    let metadata = std::fs::metadata(path).map_err(Error::file(path, "read"))?;
    if let Some(what) = no_file(metadata.file_type()) {
        return Err(Error::Usage(format!(
            "{name}: expected a file, found {what}; write the text to a file first, as it is read more than once"
        )));
    }
    TextSource::recognize(path.to_owned(), name.to_owned(), options).ok_or_else(|| {
        let remedy = match other_packing(name) {
            Some(ending) => format!("{ending} is not read here: unpack it, or pack it with gzip or zstd"),
            None => "rename it, or convert it".to_owned(),
        };
        Error::Usage(format!("{name}: expected a file that ends in {ENDINGS}; {remedy}"))
    })
}
