//! Instructions in which each lane computes for itself.

use crate::instruction::Operation;
use crate::warp::{lanes, Values, Warp, LANES};

pub(super) fn execute(warp: &mut Warp, masks: &[u64], operation: &Operation, active: u32) -> Result<(), String> {
    match operation {
        Operation::Unary(f, to, from) => {
            let a = warp.read(*from, active)?;
            let values = std::array::from_fn(|lane| f(a[lane]));
            warp.write(*to, active, masks[*to], &values);
        }
        Operation::Binary(f, to, [a, b]) => {
            let (a, b) = (warp.read(*a, active)?, warp.read(*b, active)?);
            let values = std::array::from_fn(|lane| f(a[lane], b[lane]));
            warp.write(*to, active, masks[*to], &values);
        }
        Operation::Ternary(f, to, [a, b, c]) => {
            let (a, b, c) = (warp.read(*a, active)?, warp.read(*b, active)?, warp.read(*c, active)?);
            let values = std::array::from_fn(|lane| f(a[lane], b[lane], c[lane]));
            warp.write(*to, active, masks[*to], &values);
        }
        Operation::Quaternary(f, to, [a, b, c, d]) => {
            let (a, b) = (warp.read(*a, active)?, warp.read(*b, active)?);
            let (c, d) = (warp.read(*c, active)?, warp.read(*d, active)?);
            let values = std::array::from_fn(|lane| f(a[lane], b[lane], c[lane], d[lane]));
            warp.write(*to, active, masks[*to], &values);
        }
        Operation::Compare { compare, combine, to, complement, from: [a, b] } => {
            let (a, b) = (warp.read(*a, active)?, warp.read(*b, active)?);
            let mut yes: Values = std::array::from_fn(|lane| compare(a[lane], b[lane]));
            let mut no: Values = yes.map(|yes| yes ^ 1);
            if let Some((f, other, negated)) = combine {
                let other = warp.lanes_where(*other, *negated, active)?;
                for lane in 0..LANES {
                    let other = u64::from(other >> lane & 1);
                    (yes[lane], no[lane]) = (f(yes[lane], other), f(no[lane], other));
                }
            }
            warp.write_wanted(*to, active, masks, &yes);
            warp.write_wanted(*complement, active, masks, &no);
        }
        Operation::Pack { to, from, bits } => {
            let mut values = [0; LANES];
            for (i, &part) in from.iter().enumerate() {
                let part = warp.read(part, active)?;
                for lane in lanes(active) {
                    values[lane] |= (part[lane] & (u64::MAX >> (64 - bits))) << (i * bits);
                }
            }
            warp.write(*to, active, masks[*to], &values);
        }
        Operation::Unpack { to, from, bits } => {
            let whole = warp.read(*from, active)?;
            for (i, &part) in to.iter().enumerate() {
                warp.write_wanted(part, active, masks, &whole.map(|whole| whole >> (i * bits)));
            }
        }
        _ => {}
    }
    Ok(())
}
