//! The command `thimble`; all of it is in the library, so that other packages can enable its features.

fn main() -> std::process::ExitCode {
    thimble_cli::main()
}
