//! Instructions in which each lane computes for itself.
//!
//! nvcc computes ahead of branches what only one of them uses. So what comes of a register without a value has no value
//! either, and is an error only where it is used: in an address, a guard, a store, or between lanes.

use crate::instruction::Operation;
use crate::warp::{LANES, Values, Warp, lanes};

pub(super) fn execute(
    warp: &mut Warp,
    masks: &[u64],
    operation: &Operation,
    active: u32,
) -> Result<(), String> {
    match operation {
        Operation::Unary(f, to, from) => {
            let (a, defined) = warp.peek(*from);
            let values = std::array::from_fn(|lane| f(a[lane]));
            warp.write_defined(*to, active, defined, masks[*to], &values);
        }
        Operation::Binary(f, to, [a, b]) => {
            let ((a, of_a), (b, of_b)) = (warp.peek(*a), warp.peek(*b));
            let values = std::array::from_fn(|lane| f(a[lane], b[lane]));
            warp.write_defined(*to, active, of_a & of_b, masks[*to], &values);
        }
        Operation::Ternary(f, to, [a, b, c]) => {
            let ((a, of_a), (b, of_b), (c, of_c)) = (warp.peek(*a), warp.peek(*b), warp.peek(*c));
            let values = std::array::from_fn(|lane| f(a[lane], b[lane], c[lane]));
            warp.write_defined(*to, active, of_a & of_b & of_c, masks[*to], &values);
        }
        Operation::Quaternary(f, to, [a, b, c, d]) => {
            let ((a, of_a), (b, of_b)) = (warp.peek(*a), warp.peek(*b));
            let ((c, of_c), (d, of_d)) = (warp.peek(*c), warp.peek(*d));
            let values = std::array::from_fn(|lane| f(a[lane], b[lane], c[lane], d[lane]));
            warp.write_defined(*to, active, of_a & of_b & of_c & of_d, masks[*to], &values);
        }
        Operation::Select { to, yes, no, by } => {
            let chosen = warp.lanes_where(*by, false, active)?;
            let ((yes, of_yes), (no, of_no)) = (warp.peek(*yes), warp.peek(*no));
            let values =
                std::array::from_fn(|lane| if chosen >> lane & 1 == 1 { yes[lane] } else { no[lane] });
            warp.write_defined(*to, active, of_yes & chosen | of_no & !chosen, masks[*to], &values);
        }
        Operation::Compare { compare, combine, to, complement, from: [a, b] } => {
            let ((a, of_a), (b, of_b)) = (warp.peek(*a), warp.peek(*b));
            let mut defined = of_a & of_b;
            let mut yes: Values = std::array::from_fn(|lane| compare(a[lane], b[lane]));
            let mut no: Values = yes.map(|yes| yes ^ 1);
            if let Some((f, other, negated)) = combine {
                let (other, of_other) = warp.peek(*other);
                defined &= of_other;
                for lane in 0..LANES {
                    let other = other[lane] ^ u64::from(*negated);
                    (yes[lane], no[lane]) = (f(yes[lane], other), f(no[lane], other));
                }
            }
            for (to, values) in [(to, &yes), (complement, &no)] {
                if let Some(to) = *to {
                    warp.write_defined(to, active, defined, masks[to], values);
                }
            }
        }
        Operation::Pack { to, from, bits } => {
            let (mut values, mut defined) = ([0; LANES], u32::MAX);
            for (i, &part) in from.iter().enumerate() {
                let (part, of_part) = warp.peek(part);
                defined &= of_part;
                for lane in lanes(active) {
                    values[lane] |= (part[lane] & (u64::MAX >> (64 - bits))) << (i * bits);
                }
            }
            warp.write_defined(*to, active, defined, masks[*to], &values);
        }
        Operation::Unpack { to, from, bits } => {
            let (whole, defined) = warp.peek(*from);
            for (i, part) in to.iter().enumerate() {
                if let Some(part) = *part {
                    warp.write_defined(
                        part,
                        active,
                        defined,
                        masks[part],
                        &whole.map(|whole| whole >> (i * bits)),
                    );
                }
            }
        }
        _ => {}
    }
    Ok(())
}
