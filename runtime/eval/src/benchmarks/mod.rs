//! The benchmarks: data, evaluation, results, and the comparison of two results.

pub mod answer;
mod compare;
mod data;
mod error;
mod evaluated;
mod event;
mod item;
mod item_runner;
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
mod text_runner;
mod workers;

pub use compare::compare;
pub use data::{BenchmarkData, DataFile, DataSource, HubDatasets, Selection};
pub use error::{EvalError, Result};
pub use evaluated::{Ended, Evaluated, Stopped};
pub use event::EvalEvent;
pub use item::{Choices, Gold, Item, Question};
pub use item_runner::ItemOutcome;
pub use passes::Work;
pub use progress::EvalProgress;
pub use results::{
    Average, Identity, MissingTask, ModelId, Results, SettingsId, TaskId, TaskMetric, TaskResult, Times,
};
pub use run::Evaluation;
pub use task::{Metric, Task};
