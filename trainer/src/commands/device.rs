//! `thimble-train device`.

use thimble_trainer::device::{DeviceRequest, choose};
use thimble_trainer::error::Result;

/// Say which device a run would train on, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// auto, cpu, cuda or cuda:N; candle for the CUDA path's operations on the CPU.
    #[arg(long, default_value_t)]
    device: DeviceRequest,
    /// Threads of a run on the CPU [default: one for each core].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let chosen = choose(self.device, super::shared::threads(self.threads))?;
        println!("{}", chosen.describe());
        Ok(())
    }
}
