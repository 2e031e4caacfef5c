//! The list of conversions: which source became which file.

use crate::failure::Failure;
use crate::home::Home;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A file of a source, without its content: if nothing here has changed, the content is not read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileStamp {
    path: PathBuf,
    bytes: u64,
    modified_nanoseconds: u64,
    /// 0 where the system has none.
    inode: u64,
}

impl FileStamp {
    /// The stamp of the file that `path` leads to.
    pub(super) fn of(path: &Path) -> io::Result<FileStamp> {
        let data = fs::metadata(path)?;
        let since = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(FileStamp {
            path: path.to_path_buf(),
            bytes: data.len(),
            modified_nanoseconds: since.as_nanos() as u64,
            inode: inode(&data),
        })
    }
}

#[cfg(unix)]
fn inode(data: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(data)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

/// A source and the file that it was converted to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conversion {
    /// The source's absolute path.
    pub(crate) source: PathBuf,
    /// Its files when it was converted.
    pub(super) stamps: Vec<FileStamp>,
    /// The converter, the format and the encoding.
    pub(super) recipe: String,
    /// The hash of the recipe and the content.
    pub(super) key: String,
    /// The file's name in [`Home::converted`].
    pub(super) file: String,
    /// Number of parameters, tied weights counted once.
    pub(crate) parameters: u64,
}

impl Conversion {
    /// The name in `thimble list`: the file's, without its extension.
    pub(crate) fn name(&self) -> String {
        Path::new(&self.file).file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The converted file; plain names only, so that a damaged index leads nowhere else.
    pub(crate) fn path(&self, home: &Home) -> PathBuf {
        home.converted().join(Path::new(&self.file).file_name().unwrap_or_default())
    }
}

/// All conversions of a home.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    /// One per source, oldest first.
    pub(crate) conversions: Vec<Conversion>,
}

impl Index {
    /// The index; empty if there is none. A damaged one counts as none: everything in it can be made again.
    pub(crate) fn read(home: &Home) -> Index {
        let text = fs::read(home.conversion_index()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Puts a conversion in place of its source's old one, and removes files that no source needs any more.
    ///
    /// # Errors
    /// The index cannot be written.
    pub(super) fn replace(&mut self, home: &Home, conversion: Conversion) -> Result<(), Failure> {
        let old = self.take(|known| known.source == conversion.source);
        self.conversions.push(conversion);
        self.write(home)?;
        self.remove_files(home, &old);
        Ok(())
    }

    /// Removes the conversions that `chosen` picks, with their files, and returns them.
    ///
    /// # Errors
    /// The index cannot be written.
    pub(crate) fn remove(
        &mut self,
        home: &Home,
        chosen: impl Fn(&Conversion) -> bool,
    ) -> Result<Vec<Conversion>, Failure> {
        let removed = self.take(chosen);
        if !removed.is_empty() {
            self.write(home)?;
            self.remove_files(home, &removed);
        }
        Ok(removed)
    }

    fn take(&mut self, chosen: impl Fn(&Conversion) -> bool) -> Vec<Conversion> {
        let (taken, kept) = std::mem::take(&mut self.conversions).into_iter().partition(chosen);
        self.conversions = kept;
        taken
    }

    /// Removes the files of `old` that no remaining source has.
    fn remove_files(&self, home: &Home, old: &[Conversion]) {
        let needed = |file: &str| self.conversions.iter().any(|known| known.file == file);
        for conversion in old.iter().filter(|conversion| !needed(&conversion.file)) {
            // A file that is open elsewhere may refuse to go; it is not in the index any more, so it is never used.
            let _ = fs::remove_file(conversion.path(home));
        }
    }

    /// Removes `.thimble` files that no conversion names, as a damaged index leaves them, and returns their names. Only for
    /// the lock's holder.
    pub(super) fn remove_unnamed(&self, home: &Home) -> Vec<String> {
        let entries = fs::read_dir(home.converted()).into_iter().flatten().flatten();
        let unnamed = entries.filter(|entry| {
            let path = entry.path();
            let named = self.conversions.iter().any(|known| known.path(home) == path);
            path.extension().is_some_and(|extension| extension == "thimble") && !named
        });
        let removed = unnamed.filter(|entry| fs::remove_file(entry.path()).is_ok());
        removed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn write(&self, home: &Home) -> Result<(), Failure> {
        let path = home.conversion_index();
        let written = thimble_files::write_with(&path, |out| Ok(serde_json::to_writer_pretty(out, self)?));
        written.map_err(|error| Failure::io("write", &path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::{Conversion, Index};
    use crate::home::Home;
    use std::fs;
    use std::path::PathBuf;

    #[test]
    fn a_file_goes_with_its_last_source() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        fs::create_dir_all(home.converted()).unwrap();
        let conversion = |source: &str, file: &str| {
            fs::write(home.converted().join(file), "").unwrap();
            Conversion {
                source: PathBuf::from(source),
                stamps: Vec::new(),
                recipe: String::new(),
                key: file.to_string(),
                file: file.to_string(),
                parameters: 1,
            }
        };
        let there = |file: &str| home.converted().join(file).exists();
        let mut index = Index::read(&home);
        for source in ["/a", "/b"] {
            index.replace(&home, conversion(source, "one")).unwrap();
        }
        index.replace(&home, conversion("/a", "two")).unwrap();
        assert!(there("one") && there("two"));
        assert_eq!(Index::read(&home).conversions, index.conversions);
        index.replace(&home, conversion("/b", "two")).unwrap();
        assert!(!there("one") && there("two"));
        assert_eq!(index.remove(&home, |known| known.source.ends_with("a")).unwrap().len(), 1);
        assert!(there("two"));
        index.remove(&home, |_| true).unwrap();
        assert!(!there("two") && Index::read(&home).conversions.is_empty());
        let kept = conversion("/a", "kept.thimble");
        index.replace(&home, kept).unwrap();
        conversion("/b", "lost.thimble");
        assert_eq!(index.remove_unnamed(&home), ["lost.thimble"]);
        assert!(there("kept.thimble") && there("index.json"));
        fs::write(home.conversion_index(), "{").unwrap();
        let index = Index::read(&home);
        assert!(index.conversions.is_empty());
        assert_eq!(index.remove_unnamed(&home), ["kept.thimble"]);
    }

    #[test]
    fn a_name_in_the_index_leads_nowhere_else() {
        let home = Home::at("/home/thimble".as_ref());
        let text =
            r#"{"source": "/a", "stamps": [], "recipe": "", "key": "", "file": "../../x", "parameters": 1}"#;
        let conversion: Conversion = serde_json::from_str(text).unwrap();
        assert_eq!(conversion.path(&home), home.converted().join("x"));
    }
}
