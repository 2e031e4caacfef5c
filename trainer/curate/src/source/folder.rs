//! Text files in folders, and files that cannot be read.

use super::text_source::{BYTE_ORDER_MARK, ReadOptions, TextSource};
use crate::error::{CurateError, Result};
use serde::de::IgnoredAny;
use std::collections::HashSet;
use std::fs::FileType;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Extensions of compressed files that are not supported.
const UNSUPPORTED_COMPRESSION: [&str; 8] = [".bz2", ".xz", ".lz4", ".br", ".zip", ".7z", ".tar", ".rar"];

/// Bytes of a file's first line that are looked at.
const MOST_LINE_BYTES: u64 = 1 << 20;

/// A scan of a folder. Links are followed, but each real file is taken once, under the name that sorts first.
pub(super) struct FolderScan<'a> {
    options: &'a ReadOptions,
    /// Real paths of the folders and files seen so far.
    seen: HashSet<PathBuf>,
    sources: Vec<TextSource>,
    /// Skipped files that may hold text, and why.
    skipped: Vec<(String, &'static str)>,
}

impl<'a> FolderScan<'a> {
    /// All text files below `folder`, sorted by path; warns about skipped files.
    pub(super) fn files(folder: &Path, options: &'a ReadOptions) -> Result<Vec<TextSource>> {
        let mut scan = FolderScan { options, seen: HashSet::new(), sources: Vec::new(), skipped: Vec::new() };
        scan.enter(folder)?;
        if let Some((first, why)) = scan.skipped.first() {
            let more = match scan.skipped.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            eprintln!("warning: skipped {first} ({why}){more}");
        }
        Ok(scan.sources)
    }

    fn enter(&mut self, folder: &Path) -> Result<()> {
        let failed = |error| CurateError::file(folder, "read")(error);
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
            let compressed = unsupported_compression(&name).is_some_and(|ending| {
                let stem = name[..name.len() - ending.len()].to_owned();
                TextSource::recognize(PathBuf::new(), stem, self.options).is_some()
            });
            if compressed {
                self.skipped.push((name, "its compression is not supported; decompress it"));
            } else if self.options.rows {
                // A folder of examples is somebody's own, whose files are few: each counts.
                self.skipped.push((name, "it is no file of rows"));
            }
            return Ok(());
        };
        // A link that leads nowhere is told here.
        let metadata = std::fs::metadata(&source.path).map_err(CurateError::file(&source.path, "read"))?;
        if let Some(what) = not_a_file(metadata.file_type()) {
            self.skipped.push((source.name, what));
            return Ok(());
        }
        if source.name.to_ascii_lowercase().ends_with(".json") && !begins_with_rows(&source.path)? {
            self.skipped.push((source.name, "it is neither a JSON array nor JSON Lines"));
            return Ok(());
        }
        let real = source.path.canonicalize().map_err(CurateError::file(&source.path, "read"))?;
        if self.seen.insert(real) {
            self.sources.push(source);
        }
        Ok(())
    }
}

/// Whether a JSON file begins with an array, or with a line that is a whole object: others describe a data set.
fn begins_with_rows(path: &Path) -> Result<bool> {
    let failed = |error| CurateError::file(path, "read")(error);
    let mut line = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    BufReader::new(file.take(MOST_LINE_BYTES)).read_until(b'\n', &mut line).map_err(failed)?;
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line).trim_ascii();
    Ok(match line.first() {
        Some(b'[') => true,
        Some(b'{') => {
            line.len() as u64 >= MOST_LINE_BYTES - 1 || serde_json::from_slice::<IgnoredAny>(line).is_ok()
        }
        _ => false,
    })
}

/// What a file system entry is if it is not a file.
fn not_a_file(kind: FileType) -> Option<&'static str> {
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

/// The extension of a compression that is not supported.
fn unsupported_compression(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    UNSUPPORTED_COMPRESSION.into_iter().find(|ending| lower.ends_with(ending))
}

/// The one file that `name` stands for.
///
/// # Errors
/// The path does not exist, is not a file, or has an unsupported extension.
pub(super) fn file(name: &str, options: &ReadOptions) -> Result<TextSource> {
    let path = Path::new(name);
    let metadata = std::fs::metadata(path).map_err(CurateError::file(path, "read"))?;
    if let Some(what) = not_a_file(metadata.file_type()) {
        return Err(CurateError::Usage(format!(
            "{name}: expected a file, found {what}; write the text to a file first, as it is read more than once"
        )));
    }
    TextSource::recognize(path.to_owned(), name.to_owned(), options).ok_or_else(|| {
        let extension = path.extension().map(|extension| format!(".{}", extension.display()));
        let remedy = match (unsupported_compression(name), extension.as_deref()) {
            (Some(ending), _) => {
                format!("{ending} is not supported: decompress it, or compress it with gzip or zstd")
            }
            (None, Some(".csv" | ".tsv")) => {
                "convert it to JSON Lines, an object for each row with the columns as its fields".to_owned()
            }
            (None, Some(".txt" | ".md")) if options.rows => {
                "plain text has no rows, and is for `thimble-train tokenize` and `pretrain`".to_owned()
            }
            _ => "rename it, or convert it".to_owned(),
        };
        let found = extension.unwrap_or_else(|| "a name without an ending".to_owned());
        CurateError::Usage(format!(
            "{name}: expected a file that ends in {}, found {found}; {remedy}",
            options.endings()
        ))
    })
}
