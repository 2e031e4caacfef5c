//! Other people's parsers: where one panics on a file, that is an error like any other.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use thiserror::Error;

/// A library panicked on what it was given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{library} gave up on it ({detail}), which is a fault of that library: please report it with the file"
)]
pub struct Panicked {
    /// The library.
    pub library: &'static str,
    /// Its words.
    pub detail: String,
}

thread_local! {
    /// Whether this thread is in the hands of a library that may panic.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, which hands input to `library`, and returns its panic as an error, without a message on stderr.
///
/// What `work` changed before it panicked must not be used any more. Builds that abort on a panic cannot do this; none of
/// ours does.
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
    result.map_err(|panic| Panicked { library, detail: words(&*panic) })
}

fn words(panic: &(dyn Any + Send)) -> String {
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
