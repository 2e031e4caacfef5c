//! Compiles the lazy archives and puts them on the linker's path, before the folders that cudarc names.

use super::lazy::{Library, symbols};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where toolkits say they are: the variables that cudarc reads too.
pub(crate) const TOOLKIT_VARIABLES: [&str; 4] =
    ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];

/// Makes `lib{cuda,cublas,cublasLt,curand,nvrtc}.a` and `libcudart.a` in `OUT_DIR/lazy`.
///
/// cudarc asks for `-lcuda` and so on; the linker takes the first folder that has either `libcuda.so` or `libcuda.a`,
/// and cargo names folders inside `OUT_DIR` first. On other targets than x86-64 Linux with glibc nothing is made: the
/// binary then needs the libraries to start.
pub(crate) fn make() -> Result<(), String> {
    for variable in TOOLKIT_VARIABLES.iter().chain(&["CUDARC_CUDA_VERSION", "CUDA_COMPUTE_CAP"]) {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=cuda/symbols");

    // The lowest compute capability that candle's kernels were compiled for, so that the command can say so.
    if let Ok(capability) = env::var("CUDA_COMPUTE_CAP") {
        println!("cargo::rustc-env=THIMBLE_CUDA_COMPUTE_CAP={capability}");
    }

    let target = variable("TARGET")?;
    if target != "x86_64-unknown-linux-gnu" {
        println!(
            "cargo::warning=on {target} the CUDA libraries are linked directly: the binary starts only where they are"
        );
        return Ok(());
    }

    let major = toolkit_major()?;
    println!("cargo::rustc-env=THIMBLE_CUDA_MAJOR={major}");
    let out = PathBuf::from(variable("OUT_DIR")?).join("lazy");
    for library in Library::all(major) {
        compile(&library, &out)?;
    }
    let runtime = static_runtime()?;
    let copy = out.join("libcudart.a");
    fs::copy(&runtime, &copy)
        .map_err(|e| format!("cannot copy {} to {}: {e}", runtime.display(), copy.display()))?;
    println!("cargo::rustc-link-search=native={}", out.display());
    Ok(())
}

/// Compiles `library`'s archive into `out`.
fn compile(library: &Library, out: &Path) -> Result<(), String> {
    let list = format!("cuda/symbols/{}.txt", library.name);
    let text = fs::read_to_string(&list).map_err(|e| format!("cannot read {list}: {e}"))?;
    let inc = symbols(&text).map_err(|problem| format!("{list}, {problem}"))?;
    // cc names objects by their source, so each library has a folder of its own.
    let folder = out.join(library.name);
    fs::create_dir_all(&folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
    let inc_file = folder.join("symbols.inc");
    fs::write(&inc_file, inc).map_err(|e| format!("cannot write {}: {e}", inc_file.display()))?;

    let mut build = cc::Build::new();
    build.file("build/lazy.c").file("build/lazy.S").include(&folder).out_dir(&folder);
    build.cargo_metadata(false).opt_level(2).debug(false).warnings(true);
    for (name, value) in library.definitions() {
        build.define(name, Some(value.as_str()));
    }
    build
        .try_compile(library.name)
        .map_err(|e| format!("cannot compile the lazy archive of {}: {e}", library.name))?;
    let made = format!("lib{}.a", library.name);
    fs::rename(folder.join(&made), out.join(&made))
        .map_err(|e| format!("cannot move {made} to {}: {e}", out.display()))
}

/// The toolkit's major version: of `CUDARC_CUDA_VERSION` (13000), else of `nvcc --version`, as cudarc finds it.
fn toolkit_major() -> Result<u32, String> {
    if let Ok(version) = env::var("CUDARC_CUDA_VERSION") {
        return version
            .parse::<u32>()
            .map(|number| number / 1000)
            .map_err(|_| format!("CUDARC_CUDA_VERSION: expected a number such as 13000, found {version:?}"));
    }
    let hint = "install a CUDA toolkit, or run trainer/cuda/build.sh, which fetches one";
    let output = Command::new("nvcc").arg("--version").output();
    let output = output.map_err(|e| format!("expected nvcc on PATH ({e}): {hint}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_once("release ").and_then(|(_, rest)| rest.split('.').next()?.parse().ok()).ok_or_else(|| {
        format!("expected \"release MAJOR.MINOR\" from nvcc --version, found {text:?}: {hint}")
    })
}

/// The toolkit's `libcudart_static.a`, which opens the driver by itself when it is first needed.
fn static_runtime() -> Result<PathBuf, String> {
    let named = TOOLKIT_VARIABLES.iter().filter_map(|variable| env::var_os(variable).map(PathBuf::from));
    let usual = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"].map(PathBuf::from);
    let roots: Vec<PathBuf> = named.chain(usual).collect();
    let folders = ["lib64", "lib", "targets/x86_64-linux/lib", "lib/x86_64-linux-gnu"];
    roots
        .iter()
        .flat_map(|root| folders.map(|folder| root.join(folder).join("libcudart_static.a")))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            let searched: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
            format!(
                "expected libcudart_static.a in lib64 or lib of {}, found none: set CUDA_HOME to the CUDA toolkit's folder",
                searched.join(", ")
            )
        })
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("expected cargo to set {name}"))
}
