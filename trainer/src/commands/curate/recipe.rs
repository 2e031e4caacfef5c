//! `thimble-train curate RECIPE.toml`.

use super::display::Display;
use crate::commands::shared;
use std::path::PathBuf;
use thimble_curate::pipeline::{ArrayTask, CorpusRecipe, CurationRun, CurationSummary, Share};
use thimble_curate::source::TextSource;
use thimble_trainer::error::Result;

#[derive(Debug, clap::Args)]
pub(super) struct RecipeFlags {
    /// The recipe.
    recipe: PathBuf,
    /// Do a share of the next pass only, from 1/N to N/N, as an array job does.
    #[arg(long, value_name = "I/N")]
    task: Option<ArrayTask>,
    /// Do only what needs all documents, once all tasks are done: find the next duplicates, or write the report.
    #[arg(long, conflicts_with = "task")]
    barrier: bool,
    /// Write removed documents too, with the reason, into the folder `removed`.
    #[arg(long)]
    keep_removed: bool,
    /// Threads [default: one for each core].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl RecipeFlags {
    pub(super) fn run(self) -> Result<()> {
        let mut recipe = CorpusRecipe::read(&self.recipe)?;
        recipe.keep_removed |= self.keep_removed;
        let sources = TextSource::resolve(&recipe.input, &recipe.read_options())?;
        let share = match self.task {
            Some(task) => Share::Task(task),
            None if self.barrier => Share::Barrier,
            None => Share::All,
        };
        let run = CurationRun { recipe: &recipe, share, threads: shared::threads(self.threads) };
        let mut display = Display::new(&sources, recipe.readings());
        let mut read = (0, 0);
        let summary = run.run(&mut |documents, bytes| {
            read = (documents, bytes);
            display.show(documents, bytes);
        })?;
        display.finish(read.0, read.1);
        match summary {
            CurationSummary::Complete { data, documents, bytes, bad } => {
                if bad > 0 {
                    eprintln!(
                        "warning: {bad} documents cannot be read, and were left out; the report has the first"
                    );
                }
                println!("{}: {documents} documents, {bytes} bytes of text", data.display());
                println!("report: {}", recipe.output.join("report.html").display());
            }
            CurationSummary::ShareDone { pass } if self.barrier => {
                println!("pass {pass} waits for its tasks; run them, then --barrier again");
            }
            CurationSummary::ShareDone { pass } => {
                println!("this task's share of pass {pass} is done; run --barrier once all tasks are done");
            }
        }
        Ok(())
    }
}
