//! `thimble-train device`.

use thimble_trainer::device::{DeviceRequest, choose};
use thimble_trainer::error::Result;

/// Say which device a run would train on, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// auto, cpu, cuda or cuda:N; candle for the CUDA path's operations on the CPU.
    #[arg(long, default_value_t)]
    device: DeviceRequest,
    /// Threads of a run on the CPU; all cores unless given.
    #[arg(long)]
    threads: Option<usize>,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let chosen = choose(self.device, self.threads.unwrap_or_else(cores))?;
        println!("{}", chosen.describe());
        Ok(())
    }
}
