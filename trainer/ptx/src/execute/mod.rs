//! What each instruction does to a warp.

mod exchange;
mod matrix;
mod scalar;

use crate::access;
use crate::block::Block;
use crate::instruction::{Instruction, Operation};
use crate::warp::Warp;

/// Where the lanes that executed an instruction go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Next,
    Jump(usize),
    Exit,
    /// They wait for the other warps.
    Wait,
}

/// Executes one instruction in the `active` lanes.
///
/// # Errors
/// What the kernel does wrong.
pub(crate) fn execute(
    warp: &mut Warp,
    block: &mut Block<'_>,
    instruction: &Instruction,
    active: u32,
) -> Result<Flow, String> {
    match &instruction.operation {
        Operation::Unary(..)
        | Operation::Binary(..)
        | Operation::Ternary(..)
        | Operation::Quaternary(..)
        | Operation::Select { .. }
        | Operation::Compare { .. }
        | Operation::Pack { .. }
        | Operation::Unpack { .. } => scalar::execute(warp, block.masks, &instruction.operation, active)?,
        Operation::LoadParameter { .. }
        | Operation::Load { .. }
        | Operation::Store { .. }
        | Operation::Copy { .. }
        | Operation::CommitCopies
        | Operation::WaitCopies(_) => access::execute(warp, block, &instruction.operation, active)?,
        Operation::LoadMatrix { .. } | Operation::MultiplyAccumulate { .. } => {
            matrix::execute(warp, block, &instruction.operation, active)?;
        }
        Operation::Shuffle { .. }
        | Operation::Vote { .. }
        | Operation::Reduce { .. }
        | Operation::ActiveMask(_)
        | Operation::WarpBarrier(_) => exchange::execute(warp, block.masks, &instruction.operation, active)?,
        Operation::Barrier(which) => {
            let which = warp.read(*which, active)?;
            if which.iter().any(|&which| which != 0) {
                return Err(format!("expected barrier 0, found {}", which[0]));
            }
            if active != warp.alive() {
                return Err(format!("divergent barrier: lanes {active:#x} reach it of {:#x}", warp.alive()));
            }
            return Ok(Flow::Wait);
        }
        Operation::Branch(target) => return Ok(Flow::Jump(*target)),
        Operation::Exit => return Ok(Flow::Exit),
        Operation::Fence => {}
    }
    Ok(Flow::Next)
}
