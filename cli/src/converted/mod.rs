//! Models of other formats, given by path: converted once into the home, and found there again by their content.

mod index;

pub(crate) use index::{Conversion, Index};

use crate::conversion;
use crate::failure::Failure;
use crate::file_kind::{GGUF, begins_with};
use crate::home::Home;
use crate::pull::{GGUF_QUANT, HUGGING_FACE_QUANT};
use crate::workspace::Mapped;
use crate::{progress, terminal};
use index::FileStamp;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thimble_converter::{ConversionSummary, Quant};
use xxhash_rust::xxh3::Xxh3;

/// Part of every key: rises with each change of what the converter writes for the same source.
const CONVERTER: u32 = 1;
/// Beginning of the names of folders with unfinished conversions.
const UNFINISHED: &str = ".unfinished";
/// The age at which an unfinished conversion belongs to no running process.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes hashed at once.
const CHUNK: usize = 1 << 20;
/// Hexadecimal digits of the key in a file's name.
const KEY_DIGITS: usize = 16;

/// Which messages a conversion prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notes {
    /// All of them.
    Shown,
    /// None: the output is for a program.
    Hidden,
}

impl Notes {
    /// None with `--json`.
    pub(crate) fn unless(json: bool) -> Notes {
        if json { Notes::Hidden } else { Notes::Shown }
    }

    fn print(self, line: &str) {
        if self == Notes::Shown {
            terminal::note(line);
        }
    }
}

/// The `.thimble` file of the model in `source`, converted first unless the cache has it. A Hugging Face folder gets the
/// encoding that `thimble pull` uses, and a GGUF file keeps its own.
///
/// One process converts at a time; the others wait and find the model ready. A source that has changed is converted again,
/// and the old file is removed.
///
/// # Errors
/// The source cannot be converted; the cache cannot be written.
pub(crate) fn find_or_convert(home: &Home, source: &Path, notes: Notes) -> Result<PathBuf, Failure> {
    let source = fs::canonicalize(source).map_err(|error| Failure::io("open", source, error))?;
    let quant = if source.is_file() && begins_with(&source, GGUF) { GGUF_QUANT } else { HUGGING_FACE_QUANT };
    let recipe = recipe(quant);
    let files = thimble_converter::read::source_files(&source);
    let files = files.map_err(|error| conversion::failure(&source, error))?;
    if let Some(path) = up_to_date(home, &source, &recipe, &stamps(&files)?) {
        return Ok(path);
    }
    let unusable = |failure: Failure| Failure::NoCache { model: source.clone(), reason: failure.to_string() };
    let lock = home.lock_converted(|line| notes.print(line)).map_err(unusable)?;
    remove_abandoned(home, lock.is_exclusive());
    // Only now: no other process can convert it any more.
    let stamps = stamps(&files)?;
    if let Some(path) = up_to_date(home, &source, &recipe, &stamps) {
        return Ok(path);
    }
    // A family that is not supported, or a damaged file, before anything is hashed or written.
    let model = thimble_converter::read::open(&source);
    drop(model.map_err(|error| conversion::failure(&source, error))?);
    let key = key(&recipe, &files)?;
    let mut index = Index::read(home);
    let same = index.conversions.iter().find(|known| known.key == key && is_usable(&known.path(home)));
    let conversion = match same.cloned() {
        Some(same) => Conversion { source: source.clone(), stamps, ..same },
        None => {
            notes.print(&format!(
                "converting {} to {} (once; kept in {}; see `thimble list`)",
                source.display(),
                encoding(quant),
                home.converted().display()
            ));
            let file = file_name(&source, &key);
            let summary = convert(home, &source, &file, quant).map_err(|failure| match failure {
                Failure::Convert { writing: false, .. } => failure,
                failure => unusable(failure),
            })?;
            let rounded = summary.notes.iter().filter(|note| note.contains("rounded"));
            rounded.for_each(|note| notes.print(&format!("note: {note}")));
            let parameters = summary.config.parameters();
            Conversion { source: source.clone(), stamps, recipe, key, file, parameters }
        }
    };
    let path = conversion.path(home);
    if let Err(changed) = check_unchanged(&source, &files, &conversion.stamps) {
        if !index.conversions.iter().any(|known| known.path(home) == path) {
            let _ = fs::remove_file(&path);
        }
        return Err(changed);
    }
    index.replace(home, conversion).map_err(unusable)?;
    Ok(path)
}

/// The finished conversion of exactly these files, if there is one.
fn up_to_date(home: &Home, source: &Path, recipe: &str, stamps: &[FileStamp]) -> Option<PathBuf> {
    let index = Index::read(home);
    let known = index.conversions.iter().find(|known| known.source == source)?;
    let path = known.path(home);
    (known.recipe == recipe && known.stamps == stamps && is_usable(&path)).then_some(path)
}

/// Whether the file is a model that this version reads.
fn is_usable(path: &Path) -> bool {
    Mapped::open(path).is_ok()
}

/// Deletes files in the cache that the index does not name, with a line for each.
///
/// # Errors
/// The lock cannot be taken.
pub(crate) fn remove_unnamed(home: &Home, note: impl Fn(&str)) -> Result<(), Failure> {
    if !home.converted().is_dir() {
        return Ok(());
    }
    let _lock = home.lock_converted(&note)?;
    for file in Index::read(home).remove_unnamed(home) {
        note(&format!("removed {file}, which belongs to no source any more"));
    }
    Ok(())
}

/// Converts into a folder of this process, and moves the whole file into place.
fn convert(home: &Home, source: &Path, file: &str, quant: Quant) -> Result<ConversionSummary, Failure> {
    // On a file system without locks, other processes convert at the same time.
    let unfinished = home.converted().join(format!("{UNFINISHED}-{}", std::process::id()));
    fs::create_dir_all(&unfinished).map_err(|error| Failure::io("create the folder", &unfinished, error))?;
    let target = unfinished.join(file);
    let converted = conversion::run(source, &target, &quant.into(), None).and_then(|summary| {
        let place = home.converted().join(file);
        fs::rename(&target, &place).map_err(|error| Failure::io("write", &place, error))?;
        Ok(summary)
    });
    let _ = fs::remove_dir_all(&unfinished);
    converted
}

/// Removes what killed processes have left behind. Without an exclusive lock, a folder of the last day may belong to a
/// process that still runs.
fn remove_abandoned(home: &Home, exclusive: bool) {
    for entry in fs::read_dir(home.converted()).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|data| data.modified()).ok();
        let age = modified.and_then(|time| time.elapsed().ok()).unwrap_or_default();
        let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
        if unfinished && (exclusive || age > ABANDONED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Refuses files that have changed since `before`: key and stamps of the old ones must not stand for other content.
fn check_unchanged(source: &Path, files: &[PathBuf], before: &[FileStamp]) -> Result<(), Failure> {
    match stamps(files)? == before {
        true => Ok(()),
        false => Err(Failure::Other(format!(
            "{} changed while it was converted: try again when nothing writes to it",
            source.display()
        ))),
    }
}

/// What determines a conversion besides the source: the versions of the converter and the format, and the encoding.
fn recipe(quant: Quant) -> String {
    let [version, format] = [env!("CARGO_PKG_VERSION"), &thimble_runtime::format::VERSION.to_string()];
    format!("thimble {version}, converter {CONVERTER}, format {format}, {quant}")
}

/// Describes the encoding.
fn encoding(quant: Quant) -> String {
    match quant {
        Quant::Keep => "a .thimble file with the same weights".to_string(),
        quant => quant.to_string(),
    }
}

/// How the files look without reading them.
fn stamps(files: &[PathBuf]) -> Result<Vec<FileStamp>, Failure> {
    files.iter().map(|path| FileStamp::of(path).map_err(|error| Failure::io("open", path, error))).collect()
}

/// XXH3-128 of the recipe, and of name, length and content of each file, in hexadecimal.
fn key(recipe: &str, files: &[PathBuf]) -> Result<String, Failure> {
    let mut hash = Xxh3::new();
    hash.update(recipe.as_bytes());
    let total = files.iter().filter_map(|path| fs::metadata(path).ok()).map(|data| data.len()).sum();
    let bar = progress::bytes("checking", total);
    for path in files {
        // The name of a file with weights has no effect: a renamed GGUF file is the same model.
        let beside = path.extension().is_some_and(|extension| extension == "json" || extension == "jinja");
        let name = if beside { path.file_name().unwrap_or_default().as_encoded_bytes() } else { &[] };
        let hashed = hash_file(&mut hash, path, name, &mut |bytes| bar.inc(bytes));
        hashed.map_err(|error| Failure::io("read", path, error))?;
    }
    bar.finish_and_clear();
    Ok(format!("{:032x}", hash.digest128()))
}

fn hash_file(hash: &mut Xxh3, path: &Path, name: &[u8], read: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut file = File::open(path)?;
    hash.update(&(name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update(&file.metadata()?.len().to_le_bytes());
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            bytes => {
                hash.update(&buffer[..bytes]);
                read(bytes as u64);
            }
        }
    }
}

/// The source's name with the beginning of the key.
fn file_name(source: &Path, key: &str) -> String {
    let name = if source.is_dir() { source.file_name() } else { source.file_stem() };
    let name = name.unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().take(64).map(plain).collect();
    format!("{}-{}.thimble", name.trim_start_matches('.'), &key[..KEY_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::{check_unchanged, file_name, key, remove_abandoned, stamps};
    use crate::home::Home;
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_key_depends_on_content_and_not_on_the_name_of_weights() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let keys = |recipe: &str, files: &[(&str, &str)]| {
            let files: Vec<_> = files.iter().map(|(name, text)| write(name, text)).collect();
            key(recipe, &files).unwrap()
        };
        let first = keys("q8", &[("a.gguf", "one")]);
        assert_eq!((first.len(), &first), (32, &keys("q8", &[("b.gguf", "one")])));
        assert_ne!(first, keys("q8", &[("a.gguf", "two")]));
        assert_ne!(first, keys("q4", &[("a.gguf", "one")]));
        assert_ne!(
            keys("q8", &[("x.json", "ab"), ("y.json", "c")]),
            keys("q8", &[("x.json", "a"), ("y.json", "bc")])
        );
        assert_ne!(keys("q8", &[("x.json", "a")]), keys("q8", &[("y.json", "a")]));
    }

    #[test]
    fn a_source_that_changes_while_it_is_converted_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("m.gguf")];
        fs::write(&files[0], "one").unwrap();
        let before = stamps(&files).unwrap();
        check_unchanged(&files[0], &files, &before).unwrap();
        fs::write(&files[0], "another").unwrap();
        let said = check_unchanged(&files[0], &files, &before).unwrap_err().to_string();
        assert!(said.contains("m.gguf changed while it was converted"), "{said}");
    }

    #[test]
    fn without_locks_a_conversion_of_another_process_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let unfinished = home.converted().join(".unfinished-1");
        fs::create_dir_all(&unfinished).unwrap();
        remove_abandoned(&home, false);
        assert!(unfinished.is_dir());
        remove_abandoned(&home, true);
        assert!(!unfinished.exists());
    }

    #[test]
    fn a_file_is_named_after_its_source() {
        let key = "0123456789abcdef0123456789abcdef";
        assert_eq!(file_name(Path::new("/m/Smol 2.Q4.gguf"), key), "Smol_2.Q4-0123456789abcdef.thimble");
        assert_eq!(file_name(Path::new("/m/.hidden"), key), "hidden-0123456789abcdef.thimble");
    }
}
