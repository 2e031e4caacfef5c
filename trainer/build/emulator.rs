//! Compiles the kernels and the emulator that runs them on the CPU.

/// Makes `libthimble_emulator.a` and links it.
pub(crate) fn make() -> Result<(), String> {
    println!("cargo::rerun-if-changed=kernels");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").file("kernels/emulator/library.cpp").include("kernels");
    // Optimized in every profile, or a training step would take minutes; products are not fused with sums unless a kernel
    // says so.
    build.opt_level(2).debug(false).warnings(false).flag("-ffp-contract=off").flag("-fwrapv");
    build.try_compile("thimble_emulator").map_err(|e| format!("cannot compile the emulator: {e}"))
}
