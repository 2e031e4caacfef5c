//! The benchmarks: their data, an evaluation from its first item to its table, and two results side by side.

pub mod answer;
mod answerer;
mod atomic;
mod compare;
mod data;
mod error;
mod evaluated;
mod event;
mod item;
mod outcomes;
mod partial;
mod passes;
mod prediction;
mod progress;
mod random;
mod results;
mod run;
mod samples;
mod schedule;
mod table;
mod task;
mod workers;

pub use answerer::ItemOutcome;
pub use compare::compare;
pub use data::{BenchmarkData, DataFile, DataSource, HubDatasets, Selection};
pub use error::{EvalError, Result};
pub use evaluated::{Ended, Evaluated, Stopped};
pub use event::EvalEvent;
pub use item::{Choices, Gold, Item, Question};
pub use passes::Work;
pub use progress::EvalProgress;
pub use results::{
    Average, Identity, MissingTask, ModelId, Results, SettingsId, TaskId, TaskMetric, TaskResult, Times,
};
pub use run::Evaluation;
pub use task::{Metric, Task};
