//! Opens the files of a GGUF model: one, or the shards that `llama-gguf-split` writes.
//!
//! Every shard holds the number of shards (`split.count`), its own number (`split.no`) and the total number of tensors
//! (`split.tensors.count`). Shards are named `NAME-00001-of-00003.gguf`, from 1. Only the first has the model's metadata.

use super::source_file::SourceFile;
use super::{Gguf, GgufTensor, Value};
use crate::ConvertError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// File names shown in an error.
const SHOWN: usize = 4;
/// Digits of a number in a shard's name.
const DIGITS: usize = 5;

/// All files of a model.
pub(super) struct SplitModel {
    /// The metadata of the first file.
    pub(super) metadata: BTreeMap<String, Value>,
    /// Every tensor, with the index of its file.
    pub(super) tensors: Vec<(usize, GgufTensor)>,
    /// The files, in order.
    pub(super) files: Vec<SourceFile>,
}

/// Opens a GGUF file; for a shard, all shards in its folder.
///
/// # Errors
/// Missing or mismatched shards.
pub(super) fn open(path: &Path) -> Result<SplitModel, ConvertError> {
    let (file, gguf) = parse(path)?;
    let Some(split) = Split::of(path, &gguf)? else {
        let tensors = gguf.tensors.into_iter().map(|tensor| (0, tensor)).collect();
        return Ok(SplitModel { metadata: gguf.metadata, tensors, files: vec![file] });
    };
    let name =
        ShardName::parse(path).filter(|name| name.number == split.number + 1 && name.count == split.count);
    let name = name.ok_or_else(|| {
        let expected = format!("NAME-{:05}-of-{:05}.gguf", split.number + 1, split.count);
        let reason = format!(
            "part {} of {} of a split model, but its name is not {expected}: restore the original names of all parts, \
             by which they are found",
            split.number + 1,
            split.count
        );
        ConvertError::Shard { path: path.to_owned(), reason }
    })?;
    let paths: Vec<PathBuf> = (1..=name.count).map(|number| name.sibling(number)).collect();
    let missing: Vec<_> = paths.iter().filter(|path| !path.is_file()).collect();
    if !missing.is_empty() {
        let names = missing.iter().take(SHOWN).map(|path| path.display().to_string());
        let more = if missing.len() > SHOWN {
            format!(", and {} more", missing.len() - SHOWN)
        } else {
            String::new()
        };
        let reason = format!(
            "one of the {} parts of a split model, and not all of them are here: missing {}{more}; put all parts into \
             one folder",
            split.count,
            names.collect::<Vec<_>>().join(", ")
        );
        return Err(ConvertError::Shard { path: path.to_owned(), reason });
    }
    let mut parts = SplitModel { metadata: BTreeMap::new(), tensors: Vec::new(), files: Vec::new() };
    let mut names = BTreeSet::new();
    let mut opened = Some((file, gguf));
    for (index, path) in paths.iter().enumerate() {
        let own = index as u64 == split.number;
        let (file, gguf) = match opened.take_if(|_| own) {
            Some(opened) => opened,
            None => parse(path)?,
        };
        let found = Split::of(path, &gguf)?;
        split.check(path, index as u64, found)?;
        for tensor in gguf.tensors {
            if !names.insert(tensor.name.clone()) {
                let reason = format!("tensor {} is in another part of the split model too", tensor.name);
                return Err(ConvertError::Shard { path: path.clone(), reason });
            }
            parts.tensors.push((index, tensor));
        }
        if index == 0 {
            parts.metadata = gguf.metadata;
        }
        parts.files.push(file);
    }
    match split.tensors {
        Some(expected) if expected != parts.tensors.len() as u64 => {
            let reason = format!(
                "the {} parts of the split model hold {} tensors, but split.tensors.count is {expected}: some of them \
                 belong to another model or are damaged",
                split.count,
                parts.tensors.len()
            );
            Err(ConvertError::Shard { path: path.to_owned(), reason })
        }
        _ => Ok(parts),
    }
}

/// All files of the model that the GGUF file `path` belongs to, judged by their names.
pub fn shards(path: &Path) -> Vec<PathBuf> {
    match ShardName::parse(path) {
        Some(name) => {
            (1..=name.count).map(|number| name.sibling(number)).filter(|path| path.exists()).collect()
        }
        None => vec![path.to_owned()],
    }
}

fn parse(path: &Path) -> Result<(SourceFile, Gguf), ConvertError> {
    let file = SourceFile::open(path)?;
    let gguf = Gguf::parse(file.reader()?, file.len());
    let gguf = gguf.map_err(|source| ConvertError::Gguf { path: path.to_owned(), source })?;
    Ok((file, gguf))
}

/// The split metadata of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Split {
    /// Counted from zero.
    number: u64,
    count: u64,
    /// Tensors in all shards together.
    tensors: Option<u64>,
}

impl Split {
    /// `None` for a file with a whole model.
    fn of(path: &Path, gguf: &Gguf) -> Result<Option<Split>, ConvertError> {
        let number = |key: &str| match gguf.metadata.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(number)) => Ok(Some(*number)),
            Some(Value::Signed(number)) if *number >= 0 => Ok(Some(*number as u64)),
            Some(_) => Err(shard_error(path, format!("{key} is not a whole number"))),
        };
        let Some(count) = number("split.count")?.filter(|&count| count > 1) else { return Ok(None) };
        let most = 10_u64.pow(DIGITS as u32) - 1;
        let no = number("split.no")?;
        let tensors = number("split.tensors.count")?;
        match no.filter(|&no| no < count && count <= most) {
            Some(number) => Ok(Some(Split { number, count, tensors })),
            None => {
                let no = no.map_or("missing".to_owned(), |no| no.to_string());
                Err(shard_error(
                    path,
                    format!("split.no is {no} and split.count {count}: expected 0 to split.count - 1"),
                ))
            }
        }
    }

    /// Checks that a file is part `index` of this split.
    fn check(self, path: &Path, index: u64, found: Option<Split>) -> Result<(), ConvertError> {
        let expected = Split { number: index, ..self };
        match found {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(shard_error(
                path,
                format!("expected {expected}, found {found}: it belongs to another model or was renamed"),
            )),
            None => Err(shard_error(path, format!("expected {expected}, found a whole model"))),
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "part {} of {}", self.number + 1, self.count)?;
        self.tensors.map_or(Ok(()), |tensors| write!(f, " of a model of {tensors} tensors"))
    }
}

fn shard_error(path: &Path, reason: String) -> ConvertError {
    ConvertError::Shard { path: path.to_owned(), reason }
}

/// The name of a shard, `NAME-00001-of-00003.gguf`.
struct ShardName {
    folder: PathBuf,
    name: String,
    /// Counted from one.
    number: u64,
    count: u64,
}

impl ShardName {
    fn parse(path: &Path) -> Option<ShardName> {
        let (rest, count) = path.file_name()?.to_str()?.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (name, number) = rest.rsplit_once('-')?;
        let parse = |digits: &str| match digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit())
        {
            true => digits.parse().ok(),
            false => None,
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Some(ShardName { folder, name: name.to_owned(), number: parse(number)?, count: parse(count)? })
    }

    fn sibling(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}-{number:05}-of-{:05}.gguf", self.name, self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_shards_are_understood() {
        let name = ShardName::parse(Path::new("a/m-q4-00002-of-00012.gguf")).unwrap();
        assert_eq!((name.name.as_str(), name.number, name.count), ("m-q4", 2, 12));
        assert_eq!(name.sibling(11), Path::new("a/m-q4-00011-of-00012.gguf"));
        for other in [
            "m.gguf",
            "m-1-of-2.gguf",
            "m-00001-of-00002.bin",
            "00001-of-00002.gguf",
            "m-+0001-of-00002.gguf",
        ] {
            assert!(ShardName::parse(Path::new(other)).is_none(), "{other}");
        }
    }
}
