//! The stages of a recipe, one after another: resumable, in bounded memory, as tasks.
//!
//! The output folder holds a folder for each pass over the documents: `pass-0`, `pass-1`, ... A pass applies stages that
//! look at one document, and writes parts; every part has a marker with the position behind it, so that a killed run
//! goes on there. Between two passes stands a stage that looks at all documents: its duplicates are a file of the pass
//! before. Parts depend on sources alone, so the bytes are the same for any number of threads and tasks.

mod filters;
mod part;
mod pass;
mod recipe;
mod report;
mod run;
mod stage;

pub use recipe::{CorpusRecipe, StageRecipe};
pub use run::{ArrayTask, CurationRun, CurationSummary, Share};
pub use stage::{DocumentStage, StageCount, Verdict};
