//! Ctrl-C: stops an answer; at any other time the program ends as it would by itself.

use crate::failure::Failure;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a program ended by Ctrl-C.
const ENDED: i32 = 130;

/// What the signal handler looks at.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    answering: Arc<AtomicBool>,
    pressed: Arc<AtomicBool>,
}

/// While this lives, Ctrl-C sets its flag.
pub(crate) struct Answering {
    interrupt: Interrupt,
}

impl Interrupt {
    /// Installs the handler; once in a process.
    pub(crate) fn install() -> Result<Interrupt, Failure> {
        let interrupt = Interrupt { answering: Arc::default(), pressed: Arc::default() };
        let handler = interrupt.clone();
        let installed = ctrlc::set_handler(move || match handler.answering.load(Ordering::SeqCst) {
            true => handler.pressed.store(true, Ordering::SeqCst),
            false => std::process::exit(ENDED),
        });
        installed.map_err(|error| Failure::Engine(format!("cannot listen for Ctrl-C: {error}")))?;
        Ok(interrupt)
    }

    /// From now on Ctrl-C is about an answer.
    pub(crate) fn answering(&self) -> Answering {
        self.pressed.store(false, Ordering::SeqCst);
        self.answering.store(true, Ordering::SeqCst);
        Answering { interrupt: self.clone() }
    }
}

/// From now on Ctrl-C removes `folder` and all in it before the program ends; once in a process, and not besides
/// [`Interrupt::install`].
pub(crate) fn removing(folder: PathBuf) -> Result<(), Failure> {
    let installed = ctrlc::set_handler(move || {
        let _ = std::fs::remove_dir_all(&folder);
        std::process::exit(ENDED);
    });
    installed.map_err(|error| Failure::Engine(format!("cannot listen for Ctrl-C: {error}")))
}

impl Answering {
    /// Set once Ctrl-C was pressed.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.interrupt.pressed
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.interrupt.answering.store(false, Ordering::SeqCst);
    }
}
