//! `thimble-train plan`.

use std::io::{ErrorKind, Write};
use thimble_runtime::format::Config;
use thimble_trainer::device::{DeviceRequest, DeviceWork, choose};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::objective;
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::{BufferLengths, Ops};
use thimble_trainer::plan::{
    Assumptions, DeviceTarget, MeasuredThroughput, StageLength, TrainingPlan, available_memory, measure, plan,
};
use thimble_trainer::prediction::{GpuModel, unpredictable};
use thimble_trainer::recipe::{HeldOut, Precision, Stage, TrainingRecipe};

/// Show what a recipe costs: parameters, tokens, FLOPs, memory, time.
///
/// Trains for a few seconds to measure throughput, unless --tokens-per-second is given.
/// Exits with 1 if the recipe does not fit in memory.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// A recipe's file, or the name of a built-in one (tiny-cpu, smollm2-70m, ...)
    recipe: String,
    /// Override a key: optimizer.clip=0.5, stages.0.context=512, 'stages.*.length={steps=100}', optimizer.clip=none
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Tokens of a set that does not exist yet: train=10.2e9
    #[arg(long = "set-tokens", value_name = "NAME=N")]
    set_tokens: Vec<String>,
    /// Assumed throughput [default: measured on this machine for a few seconds, if the recipe fits in its memory]
    #[arg(long, value_name = "N", value_parser = super::shared::positive)]
    tokens_per_second: Option<f64>,
    /// Price of the machine per hour, in any currency
    #[arg(long, value_name = "X", value_parser = super::shared::positive)]
    price_per_hour: Option<f64>,
    /// The device's peak, for the MFU: 362 for an L40S in bf16, 989 for an H100 [default: that of --gpu]
    #[arg(long, value_name = "X", value_parser = super::shared::positive)]
    peak_tflops: Option<f64>,
    /// Memory limit, such as 46GB or 44GiB [default: what is available]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Device to plan for [default: cuda for a bf16 recipe with --memory, otherwise cpu (in f32)]
    #[arg(long)]
    device: Option<DeviceTarget>,
    /// Predict the throughput of a GPU that is not at hand, kernel by kernel
    #[arg(long, conflicts_with = "device")]
    gpu: Option<GpuModel>,
    /// Mean tokens of a document, for --gpu with a document mask [default: that of the token sets, else 1000]
    #[arg(long, value_name = "N", requires = "gpu", value_parser = clap::value_parser!(u32).range(1..))]
    document_tokens: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let recipe = TrainingRecipe::load(&self.recipe, &self.overrides)?;
        let mut assumptions = self.assumptions(&recipe)?;
        if !recipe.objective.reads_token_sets() {
            assumptions.examples = examples(&recipe);
        }
        let mut found = plan(&recipe, &assumptions)?;
        // A recipe that does not fit is refused below and not measured.
        if self.tokens_per_second.is_none() && self.gpu.is_none() && found.fit().is_ok() {
            assumptions.measured = self.measured(&recipe, &found);
            found = plan(&recipe, &assumptions)?;
        }
        let plan = found;
        if let Some(why) = self.gpu.and_then(|_| unpredictable(&recipe)) {
            eprintln!("warning: no prediction: {why}; pass --tokens-per-second N for a time estimate");
        }
        for warning in &plan.warnings {
            eprintln!("warning: {warning}");
        }
        let text = if self.json {
            let text = serde_json::to_string_pretty(&plan);
            text.map_err(|error| Error::Invalid(format!("the plan as JSON: {error}")))? + "\n"
        } else {
            plan.to_string()
        };
        // A closed pipe is no error.
        match std::io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Error::file("standard output".as_ref(), "write")(error))
            }
            _ => plan.fit(),
        }
    }

    /// This machine's speed; none if it cannot be measured, with the reason on stderr.
    fn measured(&self, recipe: &TrainingRecipe, plan: &TrainingPlan) -> Option<MeasuredThroughput> {
        let threads = super::shared::threads(None);
        // The stage with most of the tokens.
        let longest = plan.stages.iter().enumerate().max_by_key(|(_, stage)| stage.tokens)?.0;
        let stage = recipe.stages.get(longest)?;
        let request = match plan.device {
            DeviceTarget::Cpu => DeviceRequest::Cpu,
            DeviceTarget::Cuda => DeviceRequest::Cuda(0),
        };
        // The plan may be for another machine.
        let device = choose(request, threads).ok()?;
        let name = if device.is_cpu() { "machine" } else { "GPU" };
        eprintln!("measuring this {name}'s speed for a few seconds (skip with --tokens-per-second N)");
        let memory = if device.is_cpu() { available_memory() } else { device.memory };
        let work = Measurement { recipe, stage, limits: (plan.device, memory) };
        let measured = device.run(work, &recipe.model.config(), recipe.compute.precision);
        match measured {
            Ok(Some(measured)) => return Some(measured),
            Ok(None) => eprintln!(
                "warning: the speed was not measured, because the recipe does not fit in this machine's memory; pass \
                 --tokens-per-second N for a time estimate"
            ),
            Err(error) => eprintln!(
                "warning: the speed was not measured ({error}); pass --tokens-per-second N for a time estimate"
            ),
        }
        None
    }

    fn assumptions(&self, recipe: &TrainingRecipe) -> Result<Assumptions> {
        let mut assumptions = Assumptions::of_this_machine(recipe)?;
        assumptions.gpu = self.gpu;
        if let Some(tokens) = self.document_tokens {
            assumptions.document_tokens = tokens as usize;
        }
        assumptions.device = match (self.device, recipe.compute.precision) {
            (Some(device), _) => device,
            (None, _) if self.gpu.is_some() => DeviceTarget::Cuda,
            (None, Precision::Bf16) if self.memory.is_some() => DeviceTarget::Cuda,
            (None, _) => DeviceTarget::Cpu,
        };
        let gpu = self.gpu.map(|gpu| gpu.sheet().usable_bytes());
        assumptions.memory = match (self.memory.or(gpu), assumptions.device) {
            (None, DeviceTarget::Cuda) => None, // this machine's memory says nothing about a GPU's
            (None, DeviceTarget::Cpu) => assumptions.memory,
            (given, _) => given,
        };
        assumptions.tokens_per_second = self.tokens_per_second;
        assumptions.price_per_hour = self.price_per_hour;
        assumptions.peak_tflops = self.peak_tflops;
        for given in &self.set_tokens {
            let (name, tokens) = set_tokens(given).map_err(Error::Usage)?;
            if !recipe.data.sets.contains_key(&name) {
                let sets = recipe.data.sets.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(Error::Usage(format!(
                    "--set-tokens {given}: no set `{name}` in [data.sets]; there are: {sets}"
                )));
            }
            assumptions.set_tokens.insert(name, tokens);
        }
        Ok(assumptions)
    }
}

/// The lengths of the stages, from the examples if they are on this machine; else why they are not known.
fn examples(recipe: &TrainingRecipe) -> std::result::Result<Vec<StageLength>, String> {
    let held_out = match &recipe.data.held_out {
        Some(HeldOut::Files(files)) => files.as_slice(),
        _ => &[],
    };
    for file in recipe.data.files.iter().chain(held_out) {
        let name = file.display();
        if file.to_string_lossy().starts_with("hf://") {
            return Err(format!("{name} is a data set of the hub, which plan does not download"));
        }
        if !file.exists() {
            return Err(format!("{name} is not there"));
        }
    }
    let objective = objective::open::<CpuOps>(recipe).map_err(|error| error.to_string())?;
    let length = |stage| StageLength {
        steps: objective.steps(stage),
        tokens: objective.tokens(stage).unwrap_or_default(),
    };
    Ok((0..recipe.stages.len()).map(length).collect())
}

fn set_tokens(text: &str) -> std::result::Result<(String, u64), String> {
    let wrong = || format!("--set-tokens {text}: expected NAME=N, as in train=10.2e9");
    let (name, number) = text.split_once('=').ok_or_else(wrong)?;
    match number.trim().replace('_', "").parse::<f64>() {
        Ok(number) if (1.0..=1e18).contains(&number) => Ok((name.trim().to_owned(), number as u64)),
        _ => Err(wrong()),
    }
}

fn size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0f64.powi(2),
        "gib" => 1024.0f64.powi(3),
        "tib" => 1024.0f64.powi(4),
        _ => return Err("expected a size such as 46GB, 44GiB or 512MB".into()),
    };
    match digits.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok((number * factor) as u64),
        _ => Err("expected a size such as 46GB, 44GiB or 512MB".into()),
    }
}

/// The measurement as work on any operations.
struct Measurement<'a> {
    recipe: &'a TrainingRecipe,
    stage: &'a Stage,
    limits: (DeviceTarget, Option<u64>),
}

impl DeviceWork for Measurement<'_> {
    type Output = Option<MeasuredThroughput>;

    fn run<O: Ops>(self, make: impl FnOnce(&Config, BufferLengths) -> Result<O>) -> Result<Self::Output> {
        measure(self.recipe, self.stage, self.limits, make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_read_as_people_write_them() {
        assert_eq!(size("46GB"), Ok(46_000_000_000));
        assert_eq!(size("1.5GiB"), Ok(1_610_612_736));
        assert_eq!(size("46g"), Ok(46_000_000_000));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "GB", "-1GB", "nanGB", "46 apples", "1e999GB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(set_tokens("train=10.2e9"), Ok(("train".into(), 10_200_000_000)));
        assert_eq!(set_tokens("a = 1_000"), Ok(("a".into(), 1000)));
        for wrong in ["train", "train=", "train=-1", "train=inf"] {
            assert!(set_tokens(wrong).is_err(), "{wrong}");
        }
    }
}
