//! Carves the caller's memory into aligned slices.

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Alignment of the memory and of every slice in it, bytes.
pub const ALIGN: usize = 64;

/// Why a memory plan or its memory is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// The context is out of range for the model.
    #[error("a context of {found} positions was asked for; this model has 1 to {limit}")]
    Context {
        /// Requested positions.
        found: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// The size overflows the address space.
    #[error("the memory plan overflows the address space: ask for a shorter context")]
    Overflow,
    /// The memory is smaller than the plan.
    #[error("the plan needs {needed} bytes of memory, {found} were lent")]
    TooSmall {
        /// Bytes of the plan.
        needed: usize,
        /// Bytes of the memory.
        found: usize,
    },
    /// The plan is for another model or other kernels.
    #[error("the memory plan was made for another model or other kernels")]
    OtherModel,
    /// The plan is for another number of sequences.
    #[error("the memory plan is for {found} sequences, expected {expected}: plan for as many")]
    Sequences {
        /// Sequences of the caller.
        expected: usize,
        /// Sequences of the plan.
        found: usize,
    },
    /// The memory is not aligned.
    #[error("the memory starts off a boundary of 64 bytes")]
    Misaligned,
}

/// Allocates slices, or only adds up their sizes, so that one function describes a layout for both.
pub(crate) trait Carve<'m> {
    /// A slice of `count` numbers aligned to [`ALIGN`], with unspecified values; `None` is an overflow.
    fn take<T: Number>(&mut self, count: Option<usize>) -> Result<&'m mut [T], MemoryError>;
}

/// A type for which any bytes are valid.
pub(crate) trait Number: FromBytes + IntoBytes + Immutable + KnownLayout + 'static {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + 'static> Number for T {}

fn padded<T>(count: Option<usize>) -> Result<usize, MemoryError> {
    let bytes = count.and_then(|count| count.checked_mul(size_of::<T>()));
    bytes.and_then(|bytes| bytes.checked_next_multiple_of(ALIGN)).ok_or(MemoryError::Overflow)
}

/// Adds up the bytes of a layout.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) bytes: usize,
}

impl<'m> Carve<'m> for Count {
    fn take<T: Number>(&mut self, count: Option<usize>) -> Result<&'m mut [T], MemoryError> {
        self.bytes = self.bytes.checked_add(padded::<T>(count)?).ok_or(MemoryError::Overflow)?;
        Ok(&mut [])
    }
}

/// The caller's memory, allocated from front to back.
pub(crate) struct Arena<'m> {
    rest: &'m mut [u8],
    needed: usize,
    found: usize,
}

impl<'m> Arena<'m> {
    /// An arena of the first `needed` bytes of `memory`.
    pub(crate) fn new(memory: &'m mut [u8], needed: usize) -> Result<Arena<'m>, MemoryError> {
        if !memory.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(MemoryError::Misaligned);
        }
        let found = memory.len();
        let rest = memory.get_mut(..needed).ok_or(MemoryError::TooSmall { needed, found })?;
        Ok(Arena { rest, needed, found })
    }

    /// Bytes not yet allocated.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }
}

impl<'m> Carve<'m> for Arena<'m> {
    fn take<T: Number>(&mut self, count: Option<usize>) -> Result<&'m mut [T], MemoryError> {
        let bytes = padded::<T>(count)?;
        let too_small = MemoryError::TooSmall { needed: self.needed, found: self.found };
        let rest = core::mem::take(&mut self.rest);
        let (part, rest) = rest.split_at_mut_checked(bytes).ok_or(too_small)?;
        self.rest = rest;
        let count = count.unwrap_or(0);
        let (slice, _) =
            <[T]>::mut_from_prefix_with_elems(part, count).map_err(|_| MemoryError::Misaligned)?;
        Ok(slice)
    }
}
