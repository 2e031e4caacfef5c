//! `cargo run --release -p thimble-converter --example convert -- SOURCE DESTINATION [QUANT]`

use std::path::Path;
use std::process::ExitCode;
use thimble_converter::{ConversionOptions, ConvertError, convert};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, destination, quant @ ..] = arguments.as_slice() else {
        eprintln!("usage: convert SOURCE DESTINATION [QUANT]");
        return ExitCode::from(2);
    };
    match run(source, destination, quant.first().map_or("keep", String::as_str)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(source: &str, destination: &str, quant: &str) -> Result<(), ConvertError> {
    let options = ConversionOptions { quant: quant.parse()?, ..ConversionOptions::default() };
    let summary = convert(Path::new(source), Path::new(destination), &options, &mut |_| {})?;
    println!("{summary:#?}");
    Ok(())
}
