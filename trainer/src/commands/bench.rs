//! `thimble-train bench`.

use std::io::{ErrorKind, Write};
use thimble_trainer::bench::{BenchReport, bench};
use thimble_trainer::device::{DeviceRequest, choose};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::ops::candle::CandleOps;
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::cuda::{CudaOps, Launcher, unsupported};
use thimble_trainer::parity::{
    EngineParity, OPERATIONS_LENGTHS, OperationParity, compare_engines, compare_operations,
};
use thimble_trainer::recipe::{Precision, TrainingRecipe};

/// The sizes of a rehearsal: every kernel runs, in seconds.
const SMALL: [&str; 9] = [
    "model.hidden=192",
    "model.layers=2",
    "model.heads=3",
    "model.kv_heads=1",
    "model.ffn=256",
    "model.vocab=500",
    "stages.*.context=128",
    "stages.*.micro_batch=2",
    "stages.*.accumulate=1",
];
const REHEARSAL_STEPS: usize = 2;

/// Time the engine's own kernels on a GPU, beside the prediction, and whole training steps.
///
/// With --parity: compare every operation and the training of a small model with the CPU instead.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// A recipe's file, or the name of a built-in one: the sizes to time
    #[arg(default_value = "smollm2-70m")]
    recipe: String,
    /// Override a key, as in plan
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Optimizer steps to time
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
    /// cuda or cuda:N
    #[arg(long, default_value = "cuda")]
    device: DeviceRequest,
    /// Check results instead of timing: every operation against the CPU's, the engine against the CPU's and candle's
    #[arg(long)]
    parity: bool,
    /// Without a GPU: the same in the emulator, with small sizes and without times (needs the feature `emulator`)
    #[arg(long)]
    rehearse: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        if self.rehearse { self.rehearse() } else { self.on_gpu() }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self) -> Result<()> {
        let DeviceRequest::Cuda(ordinal) = self.device else { return Err(self.no_gpu()) };
        let chosen = choose(self.device, super::shared::threads(None))?;
        eprintln!("{}", chosen.describe());
        self.measure(|| thimble_trainer::ops::cuda::Driver::open(ordinal), &chosen.device)
    }

    /// Says why there is none.
    #[cfg(not(feature = "cuda"))]
    fn on_gpu(&self) -> Result<()> {
        let DeviceRequest::Cuda(_) = self.device else { return Err(self.no_gpu()) };
        choose(self.device, super::shared::threads(None)).map(drop)
    }

    fn no_gpu(&self) -> Error {
        Error::Usage(format!(
            "--device: expected cuda or cuda:N, found {}; without a GPU, see --rehearse",
            self.device
        ))
    }

    #[cfg(feature = "emulator")]
    fn rehearse(&self) -> Result<()> {
        use thimble_trainer::ops::cuda::Emulator;
        let threads = super::shared::threads(None);
        self.measure(|| Ok(Emulator::new(threads)), &candle_core::Device::Cpu)
    }

    #[cfg(not(feature = "emulator"))]
    fn rehearse(&self) -> Result<()> {
        Err(Error::Usage("--rehearse: this command is built without the feature `emulator`".into()))
    }

    #[cfg_attr(not(any(feature = "cuda", feature = "emulator")), expect(dead_code))]
    fn measure<L: Launcher>(
        &self,
        launcher: impl Fn() -> Result<L>,
        candle: &candle_core::Device,
    ) -> Result<()> {
        if self.parity {
            let found = Checks::run(launcher, candle)?;
            self.print(&found, &found)?;
            return if found.holds() {
                Ok(())
            } else {
                Err(Error::Invalid("the kernels differ from the CPU's operations".into()))
            };
        }
        let mut overrides = self.overrides.clone();
        if self.rehearse {
            overrides.extend(SMALL.map(str::to_owned));
        }
        let recipe = TrainingRecipe::load(&self.recipe, &overrides)?;
        if let Some(what) = unsupported(&recipe.model.config()) {
            return Err(Error::Invalid(format!("{}: there are no own kernels for {what}", recipe.name)));
        }
        // The stage with the longest context: the others differ in little else.
        let stage = recipe.stages.iter().max_by_key(|stage| stage.context);
        let stage =
            stage.ok_or_else(|| Error::Invalid(format!("{}: expected a stage, found none", recipe.name)))?;
        let steps = if self.rehearse { REHEARSAL_STEPS } else { usize::from(self.steps) };
        let found: BenchReport = bench(&recipe, stage, launcher()?, (steps, self.rehearse))?;
        self.print(&found, &found)
    }

    fn print(&self, text: &impl std::fmt::Display, value: &impl serde::Serialize) -> Result<()> {
        let text = if self.json {
            let json = serde_json::to_string_pretty(value);
            json.map_err(|error| Error::Invalid(format!("the results as JSON: {error}")))? + "\n"
        } else {
            text.to_string()
        };
        match std::io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Error::file("standard output".as_ref(), "write")(error))
            }
            _ => Ok(()),
        }
    }
}

/// What --parity compares.
#[derive(Debug, serde::Serialize)]
struct Checks {
    device: String,
    holds: bool,
    operations: Vec<OperationParity>,
    engine_and_cpu: EngineParity,
    /// Candle on the same device, in bf16; none if it failed.
    candle_and_cpu: Option<EngineParity>,
    /// Why candle failed.
    candle_error: Option<String>,
}

impl Checks {
    fn run<L: Launcher>(launcher: impl Fn() -> Result<L>, candle: &candle_core::Device) -> Result<Checks> {
        let threads = super::shared::threads(None);
        // As in `Config::PLAIN`.
        let epsilon = 1e-5;
        let first = launcher()?;
        let device = first.device();
        let own = CudaOps::new(first, OPERATIONS_LENGTHS, epsilon)?;
        let operations = compare_operations(own, CpuOps::new(threads, OPERATIONS_LENGTHS, epsilon)?)?;
        let engine_and_cpu = compare_engines(
            |config, lengths| CudaOps::new(launcher()?, lengths, config.norm_eps),
            |config, lengths| CpuOps::new(threads, lengths, config.norm_eps),
        )?;
        let candle_and_cpu = compare_engines(
            |config, lengths| CandleOps::new(candle.clone(), Precision::Bf16, lengths, config.norm_eps),
            |config, lengths| CpuOps::new(threads, lengths, config.norm_eps),
        );
        // What the kernels did is told even if candle fails.
        let (candle_and_cpu, candle_error) = match candle_and_cpu {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut found =
            Checks { device, holds: false, operations, engine_and_cpu, candle_and_cpu, candle_error };
        found.holds = found.holds();
        Ok(found)
    }

    fn holds(&self) -> bool {
        let operations = self.operations.iter().all(OperationParity::holds);
        operations
            && self.engine_and_cpu.holds()
            && self.candle_and_cpu.as_ref().is_some_and(EngineParity::holds)
    }
}

impl std::fmt::Display for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.device)?;
        for OperationParity { name, distance, bound } in &self.operations {
            writeln!(f, "  {name:<32}{distance:>12.1e} of {bound:.0e}")?;
        }
        if let Some(error) = &self.candle_error {
            writeln!(f, "candle failed: {error}")?;
        }
        let engines = [("own kernels", Some(&self.engine_and_cpu)), ("candle", self.candle_and_cpu.as_ref())];
        for (name, found) in engines.into_iter().filter_map(|(name, found)| Some((name, found?))) {
            writeln!(f, "Training a small model, {name} and the CPU:")?;
            writeln!(f, "  worst loss of ten steps         {:>12.1e}", found.worst_loss)?;
            writeln!(
                f,
                "  least cosine of a gradient      {:>12.6} ({})",
                found.worst_cosine, found.worst_tensor
            )?;
        }
        Ok(())
    }
}
