//! The command `thimble`; all of it is in the library, so that other packages can ask for its features.

fn main() -> std::process::ExitCode {
    thimble_cli::main()
}
