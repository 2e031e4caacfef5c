//! The benchmarks: their data, an evaluation from its first item to its table, and two results side by side.

pub mod answer;
mod answerer;
mod compare;
mod data;
mod error;
mod item;
mod partial;
mod passes;
mod prediction;
mod random;
mod results;
mod run;
mod samples;
mod table;
mod task;
mod watch;

pub use answerer::ItemOutcome;
pub use compare::compare;
pub use data::{BenchmarkData, DataFile, DataSource, HubDatasets, Selection};
pub use error::{EvalError, Result};
pub use item::{Choices, Gold, Item, Question};
pub use passes::Work;
pub use results::{
    Average, Identity, MissingTask, ModelId, Results, SettingsId, TaskId, TaskMetric, TaskResult, Times,
};
pub use run::{Ended, EvalEvent, Evaluated, Evaluation, Stopped};
pub use task::{Metric, Task};
pub use watch::Watch;
