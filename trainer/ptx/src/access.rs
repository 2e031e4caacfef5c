//! Loads, stores and copies of a warp.

use crate::block::Block;
use crate::instruction::{Operation, Space};
use crate::memory::SHARED_WINDOW;
use crate::shared::Thread;
use crate::warp::{LANES, Values, Warp, lanes};

/// Where an address lies.
enum Target {
    Global(u64),
    Shared(u64),
}

fn aligned(address: u64, bytes: usize) -> Result<u64, String> {
    if address.is_multiple_of(bytes as u64) {
        Ok(address)
    } else {
        Err(format!("misaligned: address {address:#x} is no multiple of {bytes}"))
    }
}

/// The offset that an address of shared memory means.
pub(crate) fn shared_offset(address: u64, bytes: usize) -> Result<u64, String> {
    aligned(address, bytes)
}

fn target(space: Space, address: u64, bytes: usize) -> Result<Target, String> {
    let address = aligned(address, bytes)?;
    Ok(match space {
        Space::Global => Target::Global(address),
        Space::Shared => Target::Shared(address),
        Space::Generic if address & SHARED_WINDOW != 0 => Target::Shared(address & !SHARED_WINDOW),
        Space::Generic => Target::Global(address),
    })
}

/// The value of little-endian bytes, its sign continued if it has one.
fn value(bytes: &[u8], signed: bool) -> u64 {
    let bits = bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let unused = 64 - 8 * bytes.len();
    if signed { ((bits << unused) as i64 >> unused) as u64 } else { bits }
}

pub(crate) fn execute(
    warp: &mut Warp,
    block: &mut Block<'_>,
    operation: &Operation,
    active: u32,
) -> Result<(), String> {
    match operation {
        Operation::LoadParameter { to, offset, bytes, signed } => {
            let value = value(&block.parameters[*offset..offset + bytes], *signed);
            warp.write(*to, active, block.masks[*to], &[value; LANES]);
        }
        Operation::Load { space, to, address, bytes, signed } => {
            let base = warp.read(address.base, active)?;
            let width = bytes * to.len();
            let mut loaded = [[0; LANES]; 4];
            for lane in lanes(active) {
                let mut buffer = [0; 32];
                let at = base[lane].wrapping_add_signed(address.offset);
                load(block, warp.thread(lane as u8), target(*space, at, width)?, &mut buffer[..width])
                    .map_err(|problem| format!("lane {lane}: {problem}"))?;
                for (values, part) in loaded.iter_mut().zip(buffer[..width].chunks_exact(*bytes)) {
                    values[lane] = value(part, *signed);
                }
            }
            for (&to, values) in to.iter().zip(&loaded) {
                warp.write_wanted(to, active, block.masks, values);
            }
        }
        Operation::Store { space, address, from, bytes } => {
            let base = warp.read(address.base, active)?;
            let values =
                from.iter().map(|&from| warp.read(from, active)).collect::<Result<Vec<Values>, _>>()?;
            for lane in lanes(active) {
                let mut buffer = Vec::with_capacity(32);
                values
                    .iter()
                    .for_each(|values| buffer.extend_from_slice(&values[lane].to_le_bytes()[..*bytes]));
                let at = base[lane].wrapping_add_signed(address.offset);
                store(block, warp.thread(lane as u8), target(*space, at, buffer.len())?, &buffer)
                    .map_err(|problem| format!("lane {lane}: {problem}"))?;
            }
        }
        Operation::Copy { to, from, bytes, source_bytes } => {
            let (to_base, from_base) = (warp.read(to.base, active)?, warp.read(from.base, active)?);
            let counts = source_bytes.map(|count| warp.read(count, active)).transpose()?;
            for lane in lanes(active) {
                let wanted = counts.map_or(*bytes, |counts| counts[lane] as u32 as usize);
                if wanted > *bytes {
                    return Err(format!(
                        "lane {lane}: expected at most {bytes} bytes of the source, found {wanted}"
                    ));
                }
                let to = shared_offset(to_base[lane].wrapping_add_signed(to.offset), *bytes)?;
                let from = from_base[lane].wrapping_add_signed(from.offset);
                // What is not copied becomes zeros, and its address means nothing.
                let mut buffer = vec![0; *bytes];
                if wanted > 0 {
                    let from = aligned(from, *bytes)?;
                    let number = block.number;
                    block
                        .memory
                        .load(from, &mut buffer[..wanted], number)
                        .map_err(|problem| format!("lane {lane}: {problem}"))?;
                }
                let thread = warp.thread(lane as u8);
                warp.copies[lane]
                    .begin(to, buffer, &mut block.shared, thread)
                    .map_err(|problem| format!("lane {lane}: {problem}"))?;
            }
        }
        Operation::CommitCopies => lanes(active).for_each(|lane| warp.copies[lane].commit()),
        Operation::WaitCopies(left) => {
            for lane in lanes(active) {
                let thread = warp.thread(lane as u8);
                warp.copies[lane].wait(*left, &mut block.shared, thread)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn load(block: &mut Block<'_>, thread: Thread, from: Target, to: &mut [u8]) -> Result<(), String> {
    match from {
        Target::Global(address) => block.memory.load(address, to, block.number),
        Target::Shared(offset) => block.shared.load(offset, to, thread),
    }
}

fn store(block: &mut Block<'_>, thread: Thread, to: Target, from: &[u8]) -> Result<(), String> {
    match to {
        Target::Global(address) => block.memory.store(address, from, block.number),
        Target::Shared(offset) => block.shared.store(offset, from, thread),
    }
}
