//! A line of JSON for each document, on stdout.

use serde::Serialize;
use std::io::{BufWriter, ErrorKind, StdoutLock, Write};
use thimble_trainer::error::{Error, Result};

/// Standard output; a reader that went away, as `head` does, is no fault.
pub(super) struct JsonLines {
    out: Option<BufWriter<StdoutLock<'static>>>,
}

impl JsonLines {
    pub(super) fn new() -> JsonLines {
        JsonLines { out: Some(BufWriter::with_capacity(1 << 16, std::io::stdout().lock())) }
    }

    pub(super) fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|error| Error::Invalid(error.to_string()))?;
        text.push(b'\n');
        let written = self.out.as_mut().map_or(Ok(()), |out| out.write_all(&text));
        self.check(written)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let written = self.out.as_mut().map_or(Ok(()), Write::flush);
        self.check(written)
    }

    fn check(&mut self, written: std::io::Result<()>) -> Result<()> {
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                // What is left in the buffer has no reader either.
                if let Some(out) = self.out.take() {
                    let _ = out.into_parts();
                }
                Ok(())
            }
            other => other.map_err(|error| Error::Invalid(format!("stdout: cannot write: {error}"))),
        }
    }
}
