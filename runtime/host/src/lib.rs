//! Where the runtime meets an operating system: mapping the file, finding out what the CPU can do, lending
//! memory, running threads.

pub mod chat;
mod detect;
mod generator;
mod mapped;
pub mod output;
mod plan;
pub mod template;
pub mod text;
mod threads;

pub use detect::{KernelKind, KernelsError};
pub use generator::{Generator, GeneratorError, generator};
pub use mapped::{MappedModel, OpenError};
pub use plan::{Memory, Plan, PlanError, Settings};
pub use threads::Pool;
