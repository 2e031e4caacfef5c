//! A block of threads: its warps run one after the other from barrier to barrier.

use crate::block::Block;
use crate::entry::Entry;
use crate::error::KernelError;
use crate::execute::{Flow, execute};
use crate::instruction::{Instruction, Operand};
use crate::warp::{LANES, Place, Warp};

/// Instructions of a warp between two barriers, beyond which it is taken to run for ever.
const ENDLESS: u64 = 1 << 24;

/// Where a warp's run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Finished,
    /// At the barrier with this index.
    At(usize),
}

/// Runs all warps to their end, and returns how much shared memory they have used; `executed` counts each instruction by
/// its index.
pub(crate) fn run(
    entry: &Entry,
    place: Place,
    mut block: Block<'_>,
    executed: &mut [u64],
) -> Result<usize, KernelError> {
    let count = (place.threads as usize).div_ceil(LANES);
    let mut warps: Vec<Warp> = (0..count).map(|index| Warp::new(index, place, entry.masks.len())).collect();
    loop {
        let mut stops = Vec::with_capacity(count);
        for warp in &mut warps {
            stops.push(run_warp(entry, warp, &mut block, executed).map_err(|(at, problem)| KernelError {
                kernel: entry.name.clone(),
                place: Some((place.block, warp.index)),
                instruction: entry.code.get(at).map(shown),
                problem,
            })?);
        }
        let first = stops[0];
        if let Some(other) = stops.iter().position(|&stop| stop != first) {
            let name = |stop| match stop {
                Stop::Finished => "has ended".to_owned(),
                Stop::At(at) => format!("waits at line {}", entry.code[at].line),
            };
            return Err(KernelError {
                kernel: entry.name.clone(),
                place: Some((place.block, other)),
                instruction: None,
                problem: format!(
                    "divergent barrier: warp 0 {} and warp {other} {}",
                    name(first),
                    name(stops[other])
                ),
            });
        }
        match first {
            Stop::Finished => return Ok(block.shared.used),
            Stop::At(_) => block.shared.pass_barrier(),
        }
    }
}

fn shown(instruction: &Instruction) -> (usize, String) {
    (instruction.line, instruction.text.clone())
}

/// Runs a warp until all its lanes wait or have ended; an error has the index of its instruction.
fn run_warp(
    entry: &Entry,
    warp: &mut Warp,
    block: &mut Block<'_>,
    executed: &mut [u64],
) -> Result<Stop, (usize, String)> {
    let mut steps = 0;
    while let Some(index) = warp.next_group() {
        let group = warp.groups[index];
        let at = group.at;
        let fail = |problem| (at, problem);
        let instruction = entry
            .code
            .get(at)
            .ok_or_else(|| fail("expected `ret` before the end of the entry".to_owned()))?;
        let active = match instruction.guard {
            None => group.lanes,
            Some((predicate, negated)) => {
                warp.lanes_where(Operand::Register(predicate), negated, group.lanes).map_err(fail)?
            }
        };
        if active == 0 {
            warp.advance(index, 0, at);
            continue;
        }
        executed[at] += 1;
        steps += 1;
        if steps > ENDLESS {
            return Err(fail(format!("expected an end or a barrier within {ENDLESS} instructions")));
        }
        match execute(warp, block, instruction, active).map_err(fail)? {
            Flow::Next => warp.advance(index, group.lanes, at + 1),
            Flow::Jump(target) => warp.advance(index, active, target),
            Flow::Exit => warp.exit(index, active),
            Flow::Wait => {
                warp.advance(index, group.lanes, at + 1);
                return Ok(Stop::At(at));
            }
        }
    }
    Ok(Stop::Finished)
}
