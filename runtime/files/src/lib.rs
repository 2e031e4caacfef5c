//! Files: mapped models, adapters, the folder of fetched models, atomic writes, output paths, and containment of panics in third-party parsers.

mod adapter;
mod atomic;
mod cached;
mod contain;
mod folder;
mod mapped;
mod output;
mod unfinished;

pub use adapter::OpenedAdapter;
pub use atomic::{AtomicFile, sync_folder, write, write_with};
pub use cached::{cached_model, home_folder, model_file_stem, models_folder, repository_of};
pub use contain::{Panicked, contain};
pub use folder::AtomicFolder;
pub use mapped::{MappedModel, OpenError};
pub use output::{OutputError, OutputFiles, resolve};
pub use unfinished::remove_unfinished;
