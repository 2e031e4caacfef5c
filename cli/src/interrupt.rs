//! Ctrl-C: stops an answer; at any other time the program ends as it would by itself.

use crate::failure::Failure;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

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
            false => {
                thimble_files::remove_unfinished();
                std::process::exit(ENDED)
            }
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

/// Folders that go when the program is told to end.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static TIDYING: Once = Once::new();

/// From now on Ctrl-C removes what is being written before the program ends; not besides [`Interrupt::install`].
pub(crate) fn tidying() -> Result<(), Failure> {
    let mut installed = Ok(());
    TIDYING.call_once(|| {
        installed = ctrlc::set_handler(|| {
            for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = std::fs::remove_dir_all(folder);
            }
            thimble_files::remove_unfinished();
            std::process::exit(ENDED);
        });
    });
    installed.map_err(|error| Failure::Engine(format!("cannot listen for Ctrl-C: {error}")))
}

/// The same, and `folder` goes too with all that is in it.
pub(crate) fn removing(folder: PathBuf) -> Result<(), Failure> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
    tidying()
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
