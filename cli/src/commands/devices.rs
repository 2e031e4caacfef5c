//! `thimble devices`: the GPUs of this machine, and what `--backend auto` chose.

use crate::failure::Failure;
use crate::home::Home;
use crate::json;
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use thimble_host::{BackendChoice, saved_choices};

/// `thimble devices`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// Forget the choices: the next use of `--backend auto` measures again
    #[arg(long)]
    forget: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The file with the choices, and what to do.
pub(crate) struct Job {
    choices: PathBuf,
    flags: Flags,
}

#[cfg(feature = "gpu")]
use crate::{stderr, terminal};
#[cfg(feature = "gpu")]
use thimble_host::AdapterReport;

/// No adapter is ever found.
#[cfg(not(feature = "gpu"))]
#[derive(Serialize)]
enum AdapterReport {}

#[derive(Serialize)]
struct Output {
    adapters: Vec<AdapterReport>,
    choices: Vec<BackendChoice>,
}

impl Job {
    /// Locates the file.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { choices: Home::find()?.backends(), flags })
    }

    /// Writes the table, or JSON.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        if self.flags.forget && self.choices.exists() {
            let removed = std::fs::remove_file(&self.choices);
            removed.map_err(|error| Failure::io("remove", &self.choices, error))?;
        }
        let output = Output { adapters: adapters()?, choices: saved_choices(&self.choices) };
        if self.flags.json {
            return json::write_pretty(stdout, &output);
        }
        if output.adapters.is_empty() {
            writeln!(stdout, "no GPU adapter was found: the CPU runs everything")?;
        }
        for adapter in &output.adapters {
            show(adapter, stdout)?;
        }
        for choice in &output.choices {
            let BackendChoice { model, settings, adapter, backend, reason, .. } = choice;
            let adapter = adapter.as_deref().unwrap_or("no adapter");
            writeln!(stdout, "auto: {backend} for {model} ({settings}; {adapter})\n    {reason}")?;
        }
        if output.choices.is_empty() {
            writeln!(stdout, "auto: nothing has been chosen yet; the first use of --backend auto measures")?;
        }
        Ok(())
    }
}

#[cfg(not(feature = "gpu"))]
fn show(adapter: &AdapterReport, _out: &mut dyn Write) -> Result<(), Failure> {
    match *adapter {}
}

#[cfg(feature = "gpu")]
fn show(adapter: &AdapterReport, out: &mut dyn Write) -> Result<(), Failure> {
    let AdapterReport { name, api, kind, driver, .. } = adapter;
    let software = if adapter.software {
        "; software renderer: auto chooses it only if THIMBLE_ADAPTER selects it"
    } else {
        ""
    };
    writeln!(out, "{name} ({api}, {kind}{software})")?;
    writeln!(out, "    driver: {driver}")?;
    let yes = |flag| if flag { "yes" } else { "no" };
    writeln!(
        out,
        "    f16: {}; subgroups: {}; cooperative matrices: {}",
        yes(adapter.f16),
        yes(adapter.subgroups),
        yes(adapter.cooperative_matrices)
    )?;
    let products: Vec<String> = adapter.products.iter().map(ToString::to_string).collect();
    writeln!(out, "    matrix products for prompts: {}", products.join(", "))?;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(writeln!(
        out,
        "    bindings up to {:.0} MiB, buffers up to {:.0} MiB, workgroups of {} lanes with {} KiB",
        mebibytes(adapter.binding_bytes),
        mebibytes(adapter.buffer_bytes),
        adapter.workgroup_lanes,
        adapter.workgroup_bytes / 1024
    )?)
}

#[cfg(feature = "gpu")]
fn adapters() -> Result<Vec<AdapterReport>, Failure> {
    let (adapters, output) = stderr::capture(thimble_host::adapters);
    if adapters.is_empty() {
        // It may be the reason.
        terminal::driver_output(&output);
    }
    Ok(adapters)
}

#[cfg(not(feature = "gpu"))]
fn adapters() -> Result<Vec<AdapterReport>, Failure> {
    Err(Failure::NotBuilt { what: "thimble devices", feature: "gpu" })
}
