//! Matrices in the registers of a warp: `ldmatrix` and `mma` (PTX ISA, "Matrix fragments for mma.m16n8k16").

use crate::access::shared_offset;
use crate::block::Block;
use crate::instruction::{Operand, Operation};
use crate::shared::{ALL_LANES, Thread};
use crate::warp::{LANES, Values, Warp};

pub(super) fn execute(
    warp: &mut Warp,
    block: &mut Block<'_>,
    operation: &Operation,
    active: u32,
) -> Result<(), String> {
    if active != u32::MAX {
        return Err(format!("expected all lanes of the warp, found {active:#x}"));
    }
    match operation {
        Operation::LoadMatrix { to, address, transpose } => {
            let base = warp.read(address.base, active)?;
            for (i, &register) in to.iter().enumerate() {
                let matrix =
                    load_matrix(warp.thread(ALL_LANES), block, &base[8 * i..8 * i + 8], address.offset)?;
                // A lane gets two neighbours of a row, or of a column.
                let values = std::array::from_fn(|lane| {
                    let (row, column) = (lane / 4, lane % 4 * 2);
                    let at = |row: usize, column: usize| u64::from(matrix[row][column]);
                    match transpose {
                        false => at(row, column) | at(row, column + 1) << 16,
                        true => at(column, row) | at(column + 1, row) << 16,
                    }
                });
                warp.write(register, active, block.masks[register], &values);
            }
        }
        Operation::MultiplyAccumulate { d, a, b, c } => {
            let (a, b) = (left(warp, a)?, right(warp, b)?);
            let mut sums = [[0; LANES]; 4];
            for (i, sums) in sums.iter_mut().enumerate() {
                let c = warp.read(c[i], active)?;
                for lane in 0..LANES {
                    let (row, column) = (lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
                    let product: f64 = (0..16).map(|k| a[row][k] * b[k][column]).sum();
                    let sum = (product + f64::from(f32::from_bits(c[lane] as u32))) as f32;
                    sums[lane] = u64::from(sum.to_bits());
                }
            }
            for (&d, sums) in d.iter().zip(&sums) {
                warp.write(d, active, block.masks[d], sums);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Eight rows of eight elements, each row at its lane's address.
fn load_matrix(
    thread: Thread,
    block: &mut Block<'_>,
    rows: &[u64],
    offset: i64,
) -> Result<[[u16; 8]; 8], String> {
    let mut matrix = [[0; 8]; 8];
    for (row, &base) in matrix.iter_mut().zip(rows) {
        let mut bytes = [0; 16];
        let at = shared_offset(base.wrapping_add_signed(offset), 16)?;
        block.shared.load(at, &mut bytes, thread)?;
        for (element, pair) in row.iter_mut().zip(bytes.chunks_exact(2)) {
            *element = u16::from_le_bytes([pair[0], pair[1]]);
        }
    }
    Ok(matrix)
}

/// The bf16 in the upper or lower half of a register.
fn half(register: &Values, lane: usize, upper: usize) -> f64 {
    f64::from(f32::from_bits(((register[lane] >> (16 * upper)) as u32) << 16))
}

/// A, 16 x 16.
fn left(warp: &Warp, registers: &[Operand; 4]) -> Result<[[f64; 16]; 16], String> {
    let mut matrix = [[0.0; 16]; 16];
    for (i, &register) in registers.iter().enumerate() {
        let register = warp.read(register, u32::MAX)?;
        for lane in 0..LANES {
            for upper in 0..2 {
                matrix[lane / 4 + i % 2 * 8][lane % 4 * 2 + upper + i / 2 * 8] = half(&register, lane, upper);
            }
        }
    }
    Ok(matrix)
}

/// B, 16 x 8.
fn right(warp: &Warp, registers: &[Operand; 2]) -> Result<[[f64; 8]; 16], String> {
    let mut matrix = [[0.0; 8]; 16];
    for (i, &register) in registers.iter().enumerate() {
        let register = warp.read(register, u32::MAX)?;
        for lane in 0..LANES {
            for upper in 0..2 {
                matrix[lane % 4 * 2 + upper + i * 8][lane / 4] = half(&register, lane, upper);
            }
        }
    }
    Ok(matrix)
}
