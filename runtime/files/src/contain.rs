//! Containment of third-party parsers: a panic becomes an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use thiserror::Error;

/// A library panicked on its input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{library} panicked ({detail}), which is a bug in that library: please report it with the file")]
pub struct Panicked {
    /// The library.
    pub library: &'static str,
    /// The panic message.
    pub detail: String,
}

thread_local! {
    /// Whether this thread runs a library that may panic.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, which passes input to `library`, and returns its panic as an error, without a message on stderr.
///
/// After a panic, what `work` was changing must not be used. This needs `panic = "unwind"`, the default of all profiles.
///
/// # Errors
/// The panic.
pub fn contain<T>(library: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CONTAINED.get() {
                before(info);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    result.map_err(|panic| Panicked { library, detail: message(&*panic) })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no reason given").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::{Panicked, contain};

    #[test]
    fn a_panic_is_an_error() {
        let panicked = contain("lib", || -> u8 { panic!("at {}", 7) });
        assert_eq!(panicked, Err(Panicked { library: "lib", detail: "at 7".to_owned() }));
        assert_eq!(contain("lib", || 3), Ok(3));
        let inner = contain("outer", || contain("inner", || -> u8 { panic!("x") }).is_err());
        assert_eq!(inner, Ok(true));
    }
}
