//! Models of other formats as `.thimble` files that are gone when the program ends.

use crate::conversion::{self, Quant, Request};
use crate::failure::Failure;
use crate::model::Location;
use crate::workspace::Mapped;
use crate::{interrupt, terminal};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tempfile::TempDir;

/// A temporary folder, made when it is first needed and removed at the end, also on Ctrl-C.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    folder: Option<TempDir>,
}

impl Scratch {
    /// Maps the model's file. A Hugging Face folder or a GGUF file is converted first, as losslessly as it can be:
    /// only types that no encoding holds exactly (k-quants) are rounded, to f16, which a note tells.
    pub(crate) fn open(&mut self, location: &Location) -> Result<Mapped, Failure> {
        match location {
            Location::Path(source) if convertible(source) => self.convert(source),
            location => Mapped::open(&location.fetch()?),
        }
    }

    /// The folder.
    pub(crate) fn folder(&mut self) -> Result<&Path, Failure> {
        // Not `if let` with a return: the borrow would last to the end.
        if self.folder.is_none() {
            let folder = TempDir::with_prefix("thimble-");
            let folder = folder.map_err(|e| Failure::io("create a folder in", &std::env::temp_dir(), e))?;
            interrupt::removing(folder.path().to_path_buf())?;
            self.folder = Some(folder);
        }
        Ok(self.folder.as_ref().map_or(Path::new(""), TempDir::path))
    }

    fn convert(&mut self, source: &Path) -> Result<Mapped, Failure> {
        let folder = self.folder()?;
        let target = folder.join("model.thimble");
        let summary =
            conversion::quietly(source, &target, &Request { recipe: Quant::Keep.into(), origin: None })?;
        let rounded = summary.notes.iter().filter(|note| note.contains("rounded"));
        rounded.for_each(|note| terminal::note(&format!("note: {}: {note}", source.display())));
        let mapped = Mapped::open(&target)?;
        // What is mapped stays readable; nothing is left over however the program ends.
        #[cfg(unix)]
        std::fs::remove_file(&target).map_err(|error| Failure::io("remove", &target, error))?;
        #[cfg(not(unix))]
        std::fs::rename(&target, folder.join("other.thimble"))
            .map_err(|error| Failure::io("rename", &target, error))?;
        Ok(mapped)
    }
}

/// Whether the converter reads what is there, and the runtime does not.
fn convertible(path: &Path) -> bool {
    let mut magic = [0; 4];
    let mut gguf =
        || File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF";
    path.is_dir() || path.extension().is_some_and(|extension| extension == "safetensors") || gguf()
}
