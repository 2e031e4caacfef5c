//! The shortest chat: `cargo run --release -p thimble-ffi --example chat MODEL MESSAGE`.

use std::error::Error;
use std::io::{Write, stdout};
use thimble_ffi::{Chat, ChatOptions, Model, ModelOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(message)) = (arguments.next(), arguments.next()) else {
        return Err("usage: chat MODEL MESSAGE".into());
    };
    let model = Model::open(path, ModelOptions::default())?;
    let chat = Chat::new(model, ChatOptions::default())?;
    chat.answer(&message, |piece| {
        print!("{piece}");
        _ = stdout().flush();
    })?;
    println!();
    Ok(())
}
