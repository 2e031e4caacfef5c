//! Models of other formats, converted to temporary `.thimble` files.

use crate::conversion;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::file_kind;
use crate::model::Location;
use crate::workspace::Mapped;
use crate::{interrupt, terminal};
use std::path::Path;
use tempfile::TempDir;
use thimble_converter::Quant;

/// A temporary folder, created when first needed and removed at the end, also on Ctrl-C.
#[derive(Debug, Default)]
pub(crate) struct TemporaryModels {
    folder: Option<TempDir>,
}

impl TemporaryModels {
    /// Maps the model's file. A Hugging Face folder or a GGUF file is converted first, losslessly where an encoding holds
    /// its numbers exactly; other types (k-quants) are rounded to f16, with a note.
    pub(crate) fn open(&mut self, location: &Location) -> Result<Mapped, Failure> {
        match location {
            Location::Path(source) if source.is_dir() || file_kind::is_convertible(source) => {
                self.convert(source)
            }
            location => Mapped::open(&location.fetch(Notes::Shown)?),
        }
    }

    /// The folder.
    pub(crate) fn folder(&mut self) -> Result<&Path, Failure> {
        // Not `if let` with a return: the borrow would last to the end.
        if self.folder.is_none() {
            let folder = TempDir::with_prefix("thimble-");
            let folder = folder.map_err(|e| Failure::io("create a folder in", &std::env::temp_dir(), e))?;
            interrupt::remove_folder(folder.path().to_path_buf())?;
            self.folder = Some(folder);
        }
        Ok(self.folder.as_ref().map_or(Path::new(""), TempDir::path))
    }

    fn convert(&mut self, source: &Path) -> Result<Mapped, Failure> {
        let folder = self.folder()?;
        let target = folder.join("model.thimble");
        let summary = conversion::run(source, &target, &Quant::Keep.into(), None)?;
        let rounded = summary.notes.iter().filter(|note| note.contains("rounded"));
        rounded.for_each(|note| terminal::note(&format!("note: {}: {note}", source.display())));
        let mapped = Mapped::open(&target)?;
        // A mapped file stays readable; removed now, it is gone however the program ends.
        #[cfg(unix)]
        std::fs::remove_file(&target).map_err(|error| Failure::io("remove", &target, error))?;
        #[cfg(not(unix))]
        std::fs::rename(&target, folder.join("other.thimble"))
            .map_err(|error| Failure::io("rename", &target, error))?;
        Ok(mapped)
    }
}
