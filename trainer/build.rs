//! Under the feature `cuda`: makes the lazy archives that let one binary start with and without a GPU, and the kernels'
//! machine code. Under the feature `emulator`: compiles the kernels for the CPU. Else nothing.

#[cfg(feature = "cuda")]
#[path = "build/archives.rs"]
mod archives;
#[cfg(feature = "emulator")]
#[path = "build/emulator.rs"]
mod emulator;
#[cfg(feature = "cuda")]
#[path = "build/lazy.rs"]
mod lazy;
#[cfg(feature = "cuda")]
#[path = "build/machine_code.rs"]
mod machine_code;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    if let Err(problem) = archives::make().and_then(|()| machine_code::make()) {
        println!("cargo::error={problem}");
    }
    #[cfg(feature = "emulator")]
    if let Err(problem) = emulator::make() {
        println!("cargo::error={problem}");
    }
}
