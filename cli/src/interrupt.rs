//! Ctrl-C: stops an answer, and otherwise ends the program after removing unfinished files.

use crate::failure::Failure;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// The exit code of a program that Ctrl-C ended.
pub(crate) const EXIT_CODE: i32 = 130;

/// Ctrl-C during a chat.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    answering: Arc<AtomicBool>,
    pressed: Arc<AtomicBool>,
}

/// While this lives, Ctrl-C sets its flag instead of ending the program.
pub(crate) struct Answering {
    interrupt: Interrupt,
}

impl Interrupt {
    /// Installs the handler; once per process.
    pub(crate) fn install() -> Result<Interrupt, Failure> {
        let interrupt = Interrupt { answering: Arc::default(), pressed: Arc::default() };
        let handler = interrupt.clone();
        on_ctrl_c(move || match handler.answering.load(Ordering::SeqCst) {
            true => handler.pressed.store(true, Ordering::SeqCst),
            false => {
                thimble_files::remove_unfinished();
                std::process::exit(EXIT_CODE)
            }
        })?;
        Ok(interrupt)
    }

    /// From now on Ctrl-C stops an answer.
    pub(crate) fn answering(&self) -> Answering {
        self.pressed.store(false, Ordering::SeqCst);
        self.answering.store(true, Ordering::SeqCst);
        Answering { interrupt: self.clone() }
    }
}

/// Folders that Ctrl-C removes.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static INSTALLED: Once = Once::new();
/// Whether a server handles Ctrl-C.
static SERVES: AtomicBool = AtomicBool::new(false);

/// From now on a server handles Ctrl-C: [`remove_unfinished_files`], which a download before it needed, no longer does.
#[cfg(feature = "serve")]
pub(crate) fn leave_to_server() {
    SERVES.store(true, Ordering::SeqCst);
}

/// Calls `handler` on Ctrl-C; once per process.
pub(crate) fn on_ctrl_c(handler: impl FnMut() + 'static + Send) -> Result<(), Failure> {
    let installed = ctrlc::set_handler(handler);
    installed.map_err(|error| Failure::Other(format!("cannot listen for Ctrl-C: {error}")))
}

/// From now on Ctrl-C removes unfinished files before the program ends. Excludes [`Interrupt::install`].
pub(crate) fn remove_unfinished_files() -> Result<(), Failure> {
    let mut installed = Ok(());
    INSTALLED.call_once(|| {
        installed = on_ctrl_c(|| {
            if SERVES.load(Ordering::SeqCst) {
                return;
            }
            for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = std::fs::remove_dir_all(folder);
            }
            thimble_files::remove_unfinished();
            std::process::exit(EXIT_CODE);
        });
    });
    installed
}

/// The same, and removes `folder` with everything in it.
pub(crate) fn remove_folder(folder: PathBuf) -> Result<(), Failure> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
    remove_unfinished_files()
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
