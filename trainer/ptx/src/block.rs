//! What the warps of a block share.

use crate::memory::Memory;
use crate::shared::Shared;

/// Memory and parameters of a block that runs.
pub(crate) struct Block<'a> {
    pub(crate) memory: &'a mut Memory,
    pub(crate) shared: Shared,
    /// The bytes of the parameters.
    pub(crate) parameters: &'a [u8],
    /// The bits of each register.
    pub(crate) masks: &'a [u64],
    /// Among all blocks of the launch.
    pub(crate) number: u32,
}
