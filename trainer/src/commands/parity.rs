//! `thimble-train parity`.

use std::path::{Path, PathBuf};
use thimble_runtime::format::Config;
use thimble_trainer::device::{DeviceRequest, DeviceWork, Operations, choose};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::ops::{BufferLengths, Ops};
use thimble_trainer::parity::{Comparison, compare, reference_model};
use thimble_trainer::recipe::Precision;

/// Compare the engine with PyTorch on a folder of reference values.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// The folder. Pretraining: config.json, model.safetensors, gradients.safetensors, steps.json, after10.safetensors, or in bf16
    /// update-f32.safetensors and update-bf16.safetensors in the place of the gradients and the end.
    /// Conversations and preferences: model/, sft.json or dpo.json, after5.safetensors
    folder: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Threads [default: one for each core].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// auto, cpu, cuda or cuda:N, in f32 but for a folder in bf16; candle for the CUDA path's operations on the CPU, slow, for checking.
    #[arg(long, default_value_t)]
    device: DeviceRequest,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let threads = super::shared::threads(self.threads);
        let chosen = choose(self.device, threads)?;
        let (model, precision) = reference_model(&self.folder)?;
        let (operations, lacking) = chosen.operations(&model, precision);
        if let Some(why) = lacking {
            // A folder in bf16 is there to check the kernels.
            if precision == Precision::Bf16 && operations != Operations::Kernels {
                return Err(Error::Invalid(why));
            }
            eprintln!("{why}");
        }
        let found = chosen.run(ParityRun { folder: &self.folder }, &model, precision)?;
        if self.json {
            println!("{}", serde_json::json!(found));
        } else {
            eprintln!("{}", chosen.describe());
            show(&found);
        }
        if found.holds() {
            Ok(())
        } else {
            Err(Error::Invalid(format!("{}: the engine differs from the reference", self.folder.display())))
        }
    }
}

/// The comparison as work on any operations.
struct ParityRun<'a> {
    folder: &'a Path,
}

impl DeviceWork for ParityRun<'_> {
    type Output = Comparison;

    fn run<O: Ops>(self, make: impl FnOnce(&Config, BufferLengths) -> Result<O>) -> Result<Comparison> {
        compare(self.folder, make)
    }
}

fn show(found: &Comparison) {
    match found {
        Comparison::Pretraining(found) => {
            println!("first loss            {:.2e} of 1e-5", found.first_loss_rel);
            println!(
                "worst gradient        {:.2e} of 1e-4 ({})",
                found.worst_gradient_rel, found.worst_gradient
            );
            println!("worst loss of a step  {:.2e} of 1e-4", found.worst_step_loss);
            println!("worst weight after    {:.2e} of 1e-4", found.worst_weight_rel);
        }
        Comparison::Bf16(found) => {
            let noise = found.noise;
            println!("{}", found.device);
            println!("distance of             losses      update");
            for (name, run) in [("PyTorch's f32", found.to_f32), ("PyTorch's bf16", found.to_bf16)] {
                println!("  to {name:<15} {:>10.1e}  {:>10.1e}", run.losses, run.update);
            }
            println!("  noise of bf16       {:>10.1e}  {:>10.1e}", noise.losses, noise.update);
        }
        Comparison::Tuning(found) => {
            println!("masks that differ     {}", found.masks_differing);
            if let Some(bins) = found.bins_differing {
                println!("bins that differ      {bins}");
            }
            println!("worst loss of a step  {:.2e} of 1e-5", found.worst_loss_rel);
            println!("worst gradient norm   {:.2e} of 1e-4", found.worst_gradient_norm_rel);
            println!("worst log-probability {:.2e} of 1e-2 nats", found.worst_logp_abs);
            println!("worst weight after    {:.2e} of 1e-4 ({})", found.worst_weight_rel, found.worst_weight);
        }
    }
}
