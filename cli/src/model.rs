//! From a MODEL argument to a file.

use crate::catalogue::{self, Entry};
use crate::converted::{self, Notes};
use crate::failure::Failure;
use crate::file_kind;
use crate::home::Home;
use crate::pull::{self, PullOptions};
use crate::repository;
use clap::Args;
use std::path::{Path, PathBuf};

/// The MODEL argument.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelFlags {
    /// A name from `thimble list`, such as OWNER/NAME of a repository that was pulled, or the path of a .thimble file, a GGUF file,
    /// a .safetensors file or a Hugging Face folder; the latter three are converted once, into the cache [default:
    /// smollm2-135m-instruct]
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<String>,
}

impl ModelFlags {
    /// Where the model is.
    pub(crate) fn location(&self) -> Result<Location, Failure> {
        Location::resolve(self.model.as_deref())
    }
}

/// What a MODEL argument means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A model of the catalogue.
    Catalogue(&'static Entry),
    /// Another model of the store: of a repository that was pulled, or one that `thimble cp` named.
    Stored(String),
    /// A file, wherever it is.
    Path(PathBuf),
}

impl Location {
    /// Names of the catalogue first; then other models of the store, unless there is a path of that name; then
    /// anything that looks like a path or is one.
    pub(crate) fn resolve(typed: Option<&str>) -> Result<Location, Failure> {
        let typed = typed.unwrap_or(catalogue::DEFAULT);
        if let Some(entry) = catalogue::find(typed) {
            return Ok(Location::Catalogue(entry));
        }
        let path = PathBuf::from(typed);
        let pulled = |name: &str| Home::find().is_ok_and(|home| home.model(name).is_file());
        let entry = catalogue::of_repository(typed).filter(|entry| !path.exists() && pulled(entry.name));
        if let Some(entry) = entry {
            return Ok(Location::Catalogue(entry));
        }
        let stored = repository::is_repository(typed) || repository::is_local(typed);
        if stored && !path.exists() && pulled(typed) {
            return Ok(Location::Stored(typed.to_string()));
        }
        let like_a_path = typed.contains(std::path::is_separator) || file_kind::has_model_extension(&path);
        match like_a_path || path.exists() {
            true => Ok(Location::Path(path)),
            false => Err(Failure::UnknownModel { name: typed.to_string() }),
        }
    }

    /// The model's file. A model of the catalogue that is not on this machine is fetched first, and a path to another
    /// format is converted, unless the cache has it.
    pub(crate) fn fetch(&self, notes: Notes) -> Result<PathBuf, Failure> {
        match self {
            Location::Catalogue(entry) => {
                pull::pull(&Home::find()?, &(*entry).into(), &PullOptions::default())
            }
            Location::Stored(name) => Ok(Home::find()?.model(name)),
            Location::Path(path) if file_kind::is_convertible(path) => {
                converted::find_or_convert(&Home::find()?, path, notes)
            }
            Location::Path(path) => usable(path),
        }
    }

    /// The model's file, only if it is on this machine.
    pub(crate) fn local(&self) -> Result<PathBuf, Failure> {
        match self {
            Location::Catalogue(entry) => {
                let path = Home::find()?.model(entry.name);
                let pulled = path.is_file();
                pulled.then_some(path).ok_or(Failure::NotPulled { name: entry.name })
            }
            Location::Stored(name) => Ok(Home::find()?.model(name)),
            Location::Path(path) => usable(path),
        }
    }

    /// A model to convert, of any format. An existing path comes before a name of the catalogue: a Hugging Face folder may
    /// have that name.
    pub(crate) fn source(typed: &Path) -> Result<Location, Failure> {
        let path = typed.to_path_buf();
        match typed.to_str() {
            Some(name) if !typed.exists() => match Location::resolve(Some(name)) {
                Ok(named @ (Location::Catalogue(_) | Location::Stored(_))) => Ok(named),
                Err(failure) if catalogue::nearest(name).is_some() => Err(failure),
                _ => Err(Failure::NoSource { path }),
            },
            _ => Ok(Location::Path(path)),
        }
    }

    /// The path of a [`Location::source`], of any format; a model of the catalogue that is not on this machine is fetched
    /// first.
    pub(crate) fn fetch_source(&self) -> Result<PathBuf, Failure> {
        match self {
            Location::Path(path) => Ok(path.clone()),
            Location::Catalogue(_) | Location::Stored(_) => self.fetch(Notes::Shown),
        }
    }

    /// As the user would type it.
    pub(crate) fn typed(&self) -> String {
        match self {
            Location::Catalogue(entry) => entry.name.to_string(),
            Location::Stored(name) => name.clone(),
            Location::Path(path) => path.display().to_string(),
        }
    }

    /// The same from any folder.
    pub(crate) fn absolute(&self) -> String {
        match self {
            Location::Path(path) => {
                std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
            named => named.typed(),
        }
    }

    /// The model's name in messages and results.
    pub(crate) fn name(&self) -> String {
        match self {
            Location::Catalogue(entry) => entry.name.to_string(),
            Location::Stored(name) => name.clone(),
            Location::Path(path) => {
                path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
            }
        }
    }
}

/// Refuses a missing file, a folder and a model of another format, each with its own error.
fn usable(path: &Path) -> Result<PathBuf, Failure> {
    let data = match std::fs::metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::NoFile { path: path.to_path_buf() });
        }
        Err(source) => return Err(Failure::io("open", path, source)),
    };
    if file_kind::is_convertible(path) {
        return Err(Failure::NotThimble { path: path.to_path_buf() });
    }
    match data.is_dir() {
        true => Err(Failure::Folder { path: path.to_path_buf() }),
        false => Ok(path.to_path_buf()),
    }
}

#[cfg(test)]
mod tests {
    use super::Location;
    use crate::catalogue;
    use std::path::PathBuf;

    #[test]
    fn names_and_paths_are_told_apart() {
        let entry = catalogue::find(catalogue::DEFAULT).unwrap();
        assert_eq!(Location::resolve(None).unwrap(), Location::Catalogue(entry));
        for path in ["./smollm2-70m", "x.thimble", "x.gguf", "a/b", "."] {
            assert_eq!(Location::resolve(Some(path)).unwrap(), Location::Path(PathBuf::from(path)));
        }
        let unknown = Location::resolve(Some("smollm2-70n")).unwrap_err();
        assert_eq!(unknown.exit_code(), 2);
        assert!(unknown.to_string().contains("did you mean smollm2-70m?"), "{unknown}");
    }

    #[test]
    fn a_source_is_what_is_there_and_else_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("smollm2-70m");
        std::fs::create_dir(&path).unwrap();
        assert_eq!(Location::source(&path).unwrap(), Location::Path(path));
        let entry = catalogue::find("smollm2-70m").unwrap();
        assert_eq!(Location::source("SmolLM2-70M".as_ref()).unwrap(), Location::Catalogue(entry));
        let sentence = |typed: &str| {
            Location::source(typed.as_ref()).and_then(|l| l.fetch_source()).unwrap_err().to_string()
        };
        assert!(sentence("smollm2-70n").contains("did you mean smollm2-70m?"));
        assert!(sentence("./none").contains("./none does not exist: expected a Hugging Face folder"));
    }

    #[test]
    fn each_kind_of_wrong_file_has_its_own_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let gguf = folder.path().join("m.gguf");
        std::fs::write(&gguf, b"GGUF....").unwrap();
        let sentence = |path: PathBuf| Location::Path(path).local().unwrap_err().to_string();
        assert!(sentence(gguf).contains("is not a .thimble file; convert it"));
        assert!(sentence(folder.path().to_path_buf()).contains("is a folder"));
        assert!(sentence(folder.path().join("none.thimble")).contains("there is no file"));
    }
}
