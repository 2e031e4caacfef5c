//! The caller's memory: how much is needed, known before anything runs, and how it is carved up.

use crate::format::Config;
use crate::kernels::{Kernels, KvKind};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Boundary of the memory and of every slice carved from it.
pub const ALIGN: usize = 64;

/// Why memory cannot be planned or carved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// More positions than the model has.
    #[error("a context of {found} positions was asked for; this model has 1 to {most}")]
    Context {
        /// Positions asked for.
        found: usize,
        /// Positions of the model.
        most: usize,
    },
    /// The size does not fit the address space.
    #[error("the memory plan overflows the address space: ask for a shorter context")]
    Overflow,
    /// The lent memory is smaller than the plan.
    #[error("the plan needs {needed} bytes of memory, {found} were lent")]
    TooSmall {
        /// Bytes of the plan.
        needed: usize,
        /// Bytes lent.
        found: usize,
    },
    /// A plan for another model or other kernels.
    #[error("the memory plan was made for another model or other kernels")]
    OtherModel,
    /// The lent memory starts off the boundary.
    #[error("the memory starts off a boundary of 64 bytes")]
    Misaligned,
}

/// What decides the size of the inference state besides the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Positions that the session can hold.
    pub context: usize,
    /// Most tokens in one forward pass of a prompt.
    pub batch: usize,
    /// Positions whose logits are kept at a time: 1 to generate, more to score.
    pub logit_rows: usize,
    /// How keys and values are kept.
    pub kv: KvKind,
    /// Multiply with f32 activations (the reference mode).
    pub exact: bool,
}

impl PlanOptions {
    /// Options to generate text with `context` positions.
    pub fn generate(context: usize) -> PlanOptions {
        PlanOptions { context, batch: context.min(192), logit_rows: 1, kv: KvKind::F16, exact: false }
    }
}

/// Bytes needed for one session, before anything runs.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPlan {
    config: Config,
    options: PlanOptions,
    tile: usize,
    bytes: usize,
}

impl MemoryPlan {
    /// The plan for a model, a context and a set of kernels; it does not depend on the number of threads.
    pub fn new(config: &Config, options: &PlanOptions, kernels: &Kernels) -> Result<MemoryPlan, MemoryError> {
        if !(1..=config.context).contains(&options.context) {
            return Err(MemoryError::Context { found: options.context, most: config.context });
        }
        let batch = options.batch.clamp(1, options.context);
        let logit_rows = options.logit_rows.clamp(1, batch);
        let options = PlanOptions { batch, logit_rows, ..*options };
        let mut plan = MemoryPlan { config: *config, options, tile: kernels.tile, bytes: 0 };
        let mut count = Count { bytes: 0 };
        crate::cpu::Buffers::carve(&plan, &mut count)?;
        plan.bytes = count.bytes;
        Ok(plan)
    }

    /// Bytes to lend, on a boundary of [`ALIGN`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The options, with batch and logit rows cut to what the context allows.
    pub fn options(&self) -> &PlanOptions {
        &self.options
    }

    /// The model's hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Tokens in a full tile of the kernels planned for.
    pub(crate) fn tile(&self) -> usize {
        self.tile
    }
}

/// Hands out slices, or only adds up what they would take: one function describes a layout for both.
pub(crate) trait Carve<'m> {
    /// `count` zero-or-old numbers on a boundary of [`ALIGN`].
    fn take<T: Number>(&mut self, count: Option<usize>) -> Result<&'m mut [T], MemoryError>;
}

/// Plain data that any bytes are a value of.
pub(crate) trait Number: FromBytes + IntoBytes + Immutable + KnownLayout + 'static {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + 'static> Number for T {}

fn padded<T>(count: Option<usize>) -> Result<usize, MemoryError> {
    let bytes = count.and_then(|count| count.checked_mul(size_of::<T>()));
    bytes.and_then(|bytes| bytes.checked_next_multiple_of(ALIGN)).ok_or(MemoryError::Overflow)
}

struct Count {
    bytes: usize,
}

impl<'m> Carve<'m> for Count {
    fn take<T: Number>(&mut self, count: Option<usize>) -> Result<&'m mut [T], MemoryError> {
        self.bytes = self.bytes.checked_add(padded::<T>(count)?).ok_or(MemoryError::Overflow)?;
        Ok(&mut [])
    }
}

/// The caller's memory, carved from front to back, once.
pub(crate) struct Arena<'m> {
    rest: &'m mut [u8],
    needed: usize,
    found: usize,
}

impl<'m> Arena<'m> {
    pub(crate) fn new(memory: &'m mut [u8], plan: &MemoryPlan) -> Result<Arena<'m>, MemoryError> {
        if !memory.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(MemoryError::Misaligned);
        }
        let found = memory.len();
        let needed = plan.bytes;
        let rest = memory.get_mut(..needed).ok_or(MemoryError::TooSmall { needed, found })?;
        Ok(Arena { rest, needed, found })
    }

    /// Bytes not carved yet.
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
