//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use thimble_trainer::error::{Error, Result};
use thimble_trainer::training::{RunPhase, StopRequest};

/// The exit code of a program that a signal ended.
const EXIT_CODE: i32 = 130;
/// How long a signal may go unanswered.
const ANSWERED_WITHIN: Duration = Duration::from_millis(50);

/// Sets the flag at Ctrl-C and SIGTERM; the second signal ends the process at once.
pub(super) fn set_on_signals(flag: &Arc<AtomicBool>) -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_CODE, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .map_err(|error| Error::Invalid(format!("cannot listen for signal {signal}: {error}")))?;
    }
    Ok(())
}

/// A request that Ctrl-C and SIGTERM make. A line answers them at once: a run that trains stops after its step, another
/// ends there and then.
pub(super) fn stop_run_on_signals() -> Result<StopRequest> {
    let stop = StopRequest::default();
    set_on_signals(&stop.flag())?;
    let watched = stop.clone();
    std::thread::spawn(move || {
        while !watched.asked() {
            std::thread::sleep(ANSWERED_WITHIN);
        }
        let said = match watched.phase() {
            RunPhase::Training => {
                eprintln!(
                    "stopping after this step, with a checkpoint; Ctrl-C again ends at once, without one"
                );
                return;
            }
            RunPhase::Preparing => "stopped before the first step; the same command starts again",
            RunPhase::Finished => {
                "stopped after the last step, which is saved; the same command with --resume ends the run"
            }
        };
        thimble_files::remove_unfinished();
        eprintln!("{said}");
        std::process::exit(EXIT_CODE)
    });
    Ok(stop)
}
