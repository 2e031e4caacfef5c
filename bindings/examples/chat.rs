//! The shortest chat: `cargo run --release -p thimble-ffi --example chat MODEL MESSAGE`.

use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Arc;
use thimble_ffi::{
    ApiError, Chat, ChatOptions, Listener, ListenerError, Model, ModelOptions, Reply, wait_until_idle,
};

/// Prints an answer as it is made.
struct Print;

impl Listener for Print {
    fn on_piece(&self, text: String) -> Result<(), ListenerError> {
        print!("{text}");
        stdout().flush().map_err(|error| ListenerError::Failed { reason: error.to_string() })
    }

    fn on_progress(&self, _done: u32, _of: u32) -> Result<(), ListenerError> {
        Ok(())
    }

    fn on_end(&self, _reply: Reply) -> Result<(), ListenerError> {
        println!();
        Ok(())
    }

    fn on_error(&self, error: ApiError) -> Result<(), ListenerError> {
        eprintln!("error: {error}");
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(message)) = (arguments.next(), arguments.next()) else {
        return Err("usage: chat MODEL MESSAGE".into());
    };
    let model = Model::open(path, ModelOptions::default())?;
    let chat = Chat::new(model, ChatOptions::default())?;
    chat.send(message, Arc::new(Print));
    wait_until_idle(u32::MAX);
    Ok(())
}
