//! The benchmarks: their data, an evaluation from its first item to its table, and two results side by side.

pub mod answer;
mod answerer;
mod compare;
mod data;
mod error;
mod item;
mod journal;
mod passes;
mod prediction;
mod random;
mod results;
mod run;
mod samples;
mod table;
mod task;
mod watch;

pub use answerer::Outcome;
pub use compare::compare;
pub use data::{Data, DataFile, Hub, Selection, Source};
pub use error::{EvalError, Result};
pub use item::{Choices, Gold, Item, Question};
pub use passes::Work;
pub use results::{
    Average, Identity, Measured, MissingTask, ModelId, Results, SettingsId, TaskId, TaskResult, Times,
};
pub use run::{Ended, Evaluated, Evaluation, Event, Stopped};
pub use task::{Metric, Task};
pub use watch::Watch;
