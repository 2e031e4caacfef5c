//! Instructions in which the lanes of a warp exchange values.

use crate::instruction::{Operation, Shuffle, Vote};
use crate::warp::{LANES, Values, Warp, lanes};

pub(super) fn execute(
    warp: &mut Warp,
    masks: &[u64],
    operation: &Operation,
    active: u32,
) -> Result<(), String> {
    match operation {
        Operation::ActiveMask(to) => warp.write(*to, active, masks[*to], &[active.into(); LANES]),
        Operation::WarpBarrier(members) => {
            let members = warp.read(*members, active)?;
            all_there(&members, active)?;
            warp.syncs += 1;
        }
        Operation::Vote { kind, to, from, negated, members } => {
            let members = warp.read(*members, active)?;
            all_there(&members, active)?;
            let yes = warp.lanes_where(*from, *negated, active)?;
            let result = match kind {
                Vote::All => u64::from(yes == active),
                Vote::Any => u64::from(yes != 0),
                Vote::Uniform => u64::from(yes == active || yes == 0),
                Vote::Ballot => yes.into(),
            };
            warp.write(*to, active, masks[*to], &[result; LANES]);
        }
        Operation::Reduce { f, to, from, members } => {
            let (from, members) = (warp.read(*from, active)?, warp.read(*members, active)?);
            all_there(&members, active)?;
            let result = lanes(active).map(|lane| from[lane]).reduce(f).unwrap_or(0);
            warp.write(*to, active, masks[*to], &[result; LANES]);
        }
        Operation::Shuffle { kind, to, in_range, from, by, clamp, members } => {
            let (from, by) = (warp.read(*from, active)?, warp.read(*by, active)?);
            let (clamp, members) = (warp.read(*clamp, active)?, warp.read(*members, active)?);
            all_there(&members, active)?;
            let (mut values, mut inside) = ([0; LANES], [0; LANES]);
            for lane in lanes(active) {
                let source = source(*kind, lane, by[lane] as usize & 31, clamp[lane] as usize);
                let other = source.unwrap_or(lane);
                if active >> other & 1 == 0 {
                    return Err(format!("lane {lane} asks lane {other}, which does not take part"));
                }
                (values[lane], inside[lane]) = (from[other], u64::from(source.is_some()));
            }
            warp.write_wanted(*to, active, masks, &values);
            warp.write_wanted(*in_range, active, masks, &inside);
        }
        _ => {}
    }
    Ok(())
}

/// Exactly the members have to be there.
fn all_there(members: &Values, active: u32) -> Result<(), String> {
    match lanes(active).find(|&lane| members[lane] as u32 != active) {
        None => Ok(()),
        Some(lane) => Err(format!("expected the lanes {:#x}, found {active:#x}", members[lane])),
    }
}

/// The lane whose value a lane gets, if it is in range (PTX ISA, shfl.sync).
fn source(kind: Shuffle, lane: usize, by: usize, clamp: usize) -> Option<usize> {
    let (segment, clamp) = (clamp >> 8 & 31, clamp & 31);
    let least = lane & segment;
    let most = least | clamp & !segment;
    match kind {
        Shuffle::Up => lane.checked_sub(by).filter(|&source| source >= most),
        Shuffle::Down => Some(lane + by).filter(|&source| source <= most),
        Shuffle::Butterfly => Some(lane ^ by).filter(|&source| source <= most),
        Shuffle::Index => Some(least | by & !segment).filter(|&source| source <= most),
    }
}
