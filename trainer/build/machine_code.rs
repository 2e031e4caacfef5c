//! Compiles the committed PTX of the kernels to machine code for every architecture, in one file that is embedded.

use super::archives::TOOLKIT_VARIABLES;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As `ptx/resources.json` has them.
const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_89", "sm_90a"];
const PTX: &str = "kernels/ptx/kernels.ptx";

/// Makes `OUT_DIR/kernels.fatbin`: machine code, and the PTX for GPUs that are newer.
pub(crate) fn make() -> Result<(), String> {
    println!("cargo::rerun-if-changed={PTX}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let mut images = Vec::new();
    for architecture in ARCHITECTURES {
        let cubin = out.join(format!("{architecture}.cubin"));
        run(Command::new(tool("ptxas")).arg(format!("-arch={architecture}")).arg("-o").arg(&cubin).arg(PTX))?;
        images.push(image("elf", architecture, &cubin));
    }
    images.push(image("ptx", "sm_80", Path::new(PTX)));
    let binary = out.join("kernels.fatbin");
    run(Command::new(tool("fatbinary")).arg("-64").arg(format!("--create={}", binary.display())).args(images))
}

fn image(kind: &str, architecture: &str, file: &Path) -> String {
    let number = architecture.trim_start_matches("sm_");
    format!("--image3=kind={kind},sm={number},file={}", file.display())
}

/// A program of the toolkit: below its folder, where a variable names that, else on PATH.
fn tool(name: &str) -> PathBuf {
    let homes = TOOLKIT_VARIABLES.iter().filter_map(env::var_os);
    homes
        .map(|home| Path::new(&home).join("bin").join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let missing = |error| {
        format!(
            "expected {program} of the CUDA toolkit ({error}): set CUDA_HOME, or build with cuda/build.sh"
        )
    };
    let output = command.output().map_err(missing)?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")))
}
