//! The flags of every command that trains, and the run that they describe.

use std::path::{Path, PathBuf};
use thimble_runtime::format::Config;
use thimble_trainer::checkpoint::RECIPE;
use thimble_trainer::device::{ChosenDevice, DeviceRequest, DeviceWork, choose};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::init_from;
use thimble_trainer::ops::{BufferLengths, Ops};
use thimble_trainer::plan::{Assumptions, DeviceTarget, plan};
use thimble_trainer::recipe::{Precision, TrainingRecipe};
use thimble_trainer::report::page;
use thimble_trainer::shell;
use thimble_trainer::training::{RunOutcome, TrainingOptions, train};

#[derive(Debug, clap::Args)]
pub(super) struct RunFlags {
    /// Override a key: optimizer.clip=0.5, stages.0.context=512, 'stages.*.length={steps=100}', optimizer.clip=none
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) overrides: Vec<String>,
    /// The run folder [default: runs/ and the recipe's name]
    #[arg(long, value_name = "FOLDER")]
    run: Option<PathBuf>,
    /// Resume from the newest checkpoint in the run folder; if there is none yet, start the run, with a warning. --set may
    /// change a schedule's peak and floor, optimizer.clip and the keys of guard; history.jsonl records it
    #[arg(long)]
    resume: bool,
    /// Go on without the next step of a stopped run, whose data are written to skipped.jsonl
    #[arg(long, requires = "resume")]
    skip_step: bool,
    /// auto, cpu, cuda or cuda:N; candle or emulator for what runs on a GPU on the CPU, slow, for checking. auto takes the
    /// first GPU that can be used; a GPU trains in the recipe's precision, the CPU in f32
    #[arg(long, default_value_t)]
    device: DeviceRequest,
    /// CPU threads, which do not affect the result [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// The device's peak, for the MFU [default: no MFU is shown]
    #[arg(long, value_name = "X", value_parser = super::shared::positive)]
    peak_tflops: Option<f64>,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl RunFlags {
    /// Reads and checks a recipe with the overrides.
    pub(super) fn load(&self, recipe: &str) -> Result<TrainingRecipe> {
        TrainingRecipe::load(recipe, &self.overrides)
    }

    /// The run folder of a recipe.
    pub(super) fn folder(&self, recipe: &TrainingRecipe) -> PathBuf {
        self.folder_named(&recipe.name)
    }

    /// The run folder of a run of this name.
    pub(super) fn folder_named(&self, name: &str) -> PathBuf {
        self.run.clone().unwrap_or_else(|| PathBuf::from("runs").join(name))
    }

    /// Whether the newest checkpoint is to be continued.
    pub(super) fn resumes(&self) -> bool {
        self.resume
    }

    /// CPU threads.
    pub(super) fn threads(&self) -> usize {
        super::shared::threads(self.threads)
    }

    /// Trains as the recipe says and reports the end; `pretrain` resumes the run, whatever its objective.
    pub(super) fn train(self, recipe: &TrainingRecipe) -> Result<()> {
        let stop = super::signals::stop_run_on_signals()?;
        let run = self.folder(recipe);
        let threads = super::shared::threads(self.threads);
        let chosen = choose(self.device, threads)?;
        if !self.quiet {
            eprintln!("{}", chosen.describe());
        }
        let plan = plan(recipe, &assumptions(recipe, &chosen)?)?;
        plan.fit()?;
        if !self.quiet {
            plan.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            if let Some(typed) = recipe.init_from.as_ref().filter(|_| !self.resume)
                && let Some(advice) = init_from::rounded(typed, &init_from::open(typed)?)
            {
                eprintln!("note: {advice}");
            }
        }
        let settings = TrainingOptions {
            resume: self.resume,
            skip_step: self.skip_step,
            overrides: self.overrides.clone(),
            quiet: self.quiet,
            stop,
            peak_tflops: self.peak_tflops,
            command: self.resume_command(&run),
            threads,
            run,
        };
        let (model, precision) = (recipe.model.config(), recipe.compute.precision);
        if !self.quiet {
            if chosen.is_cpu() && precision == Precision::Bf16 {
                eprintln!("the recipe asks for bf16: the CPU computes in f32");
            }
            let (_, why) = chosen.operations(&model, precision);
            why.iter().for_each(|why| eprintln!("{why}"));
        }
        let outcome = chosen.run(TrainingRun { recipe, settings: &settings }, &model, precision)?;
        self.write_report(&settings.run);
        if !self.quiet {
            let best = outcome
                .best
                .map(|best| format!("; best held-out loss {:.4} after step {}", best.loss, best.step));
            eprintln!(
                "{} of {} steps done{}; the run is in {}",
                outcome.step,
                outcome.steps,
                best.unwrap_or_default(),
                settings.run.display()
            );
        }
        if outcome.step < outcome.steps {
            let said = format!("stopped after step {}; to continue: {}", outcome.step, settings.command);
            return Err(Error::Stopped(said));
        }
        Ok(())
    }

    /// Writes the report into the run folder; a run has not failed where this does.
    fn write_report(&self, run: &Path) {
        let output = run.join(page::FILE_NAME);
        match page::write(run, &output) {
            Ok(()) if !self.quiet => eprintln!("wrote the report {}", output.display()),
            Ok(()) => {}
            Err(error) => eprintln!("warning: no report: {error}"),
        }
    }

    /// The command that resumes the run from its own recipe, which has the overrides.
    fn resume_command(&self, run: &Path) -> String {
        let device = match self.device {
            DeviceRequest::Auto => String::new(),
            device => format!(" --device {device}"),
        };
        let [recipe, run] = [&run.join(RECIPE), run].map(shell::quote);
        format!("thimble-train pretrain {recipe} --run {run}{device} --resume")
    }
}

/// Training as work on any operations.
struct TrainingRun<'a> {
    recipe: &'a TrainingRecipe,
    settings: &'a TrainingOptions,
}

impl DeviceWork for TrainingRun<'_> {
    type Output = RunOutcome;

    fn run<O: Ops>(self, make: impl FnOnce(&Config, BufferLengths) -> Result<O>) -> Result<RunOutcome> {
        train(self.recipe, self.settings, make)
    }
}

/// The memory that the recipe must fit.
fn assumptions(recipe: &TrainingRecipe, chosen: &ChosenDevice) -> Result<Assumptions> {
    let mut assumptions = Assumptions::of_this_machine(recipe)?;
    if !chosen.is_cpu() {
        assumptions.device = DeviceTarget::Cuda;
        assumptions.memory = chosen.memory.or(assumptions.memory);
    }
    Ok(assumptions)
}
