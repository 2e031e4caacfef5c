//! What the lanes of a warp or the warps of a block do together, and branches.

use super::Decoder;
use crate::functions;
use crate::instruction::{Operand, Operation, Shuffle, Vote};

pub(super) fn decode(d: &mut Decoder<'_>, stem: &str) -> Result<Operation, String> {
    match stem {
        "bra" => {
            d.take("uni");
            let [label] = d.texts()?;
            Ok(Operation::Branch(d.names.label(label)?))
        }
        "ret" | "exit" => {
            d.take("uni");
            Ok(Operation::Exit)
        }
        "membar" | "fence" => {
            // Blocks run one after the other and lanes in lockstep: memory is in order.
            d.modifiers.clear();
            Ok(Operation::Fence)
        }
        "activemask" => {
            d.take_type()?;
            let [to] = d.texts()?;
            Ok(Operation::ActiveMask(d.names.register(to)?))
        }
        "bar" | "barrier" => barrier(d),
        "mma" => multiply_accumulate(d),
        _ => exchange(d, stem),
    }
}

fn barrier(d: &mut Decoder<'_>) -> Result<Operation, String> {
    let of_warp = d.take("warp");
    d.take("cta");
    if !d.take("sync") {
        return Err("expected `.sync`".to_owned());
    }
    d.take("aligned");
    let [which] = d.texts()?;
    let which = d.operand(which)?;
    Ok(if of_warp { Operation::WarpBarrier(which) } else { Operation::Barrier(which) })
}

fn exchange(d: &mut Decoder<'_>, stem: &str) -> Result<Operation, String> {
    if !d.take("sync") {
        return Err("expected `.sync`".to_owned());
    }
    let of = d.take_type()?;
    if d.modifiers.is_empty() {
        return Err("expected what to do, found no modifier".to_owned());
    }
    let name = d.modifiers.remove(0);
    match stem {
        "shfl" => shuffle(d, name),
        "vote" => {
            let kind = match name {
                "all" => Vote::All,
                "any" => Vote::Any,
                "uni" => Vote::Uniform,
                "ballot" => Vote::Ballot,
                _ => return Err(format!("`.{name}` of `vote` is unknown")),
            };
            let [to, from, members] = d.texts()?;
            let (from, negated) = d.names.predicate(from)?;
            Ok(Operation::Vote {
                kind,
                to: d.names.register(to)?,
                from,
                negated,
                members: d.operand(members)?,
            })
        }
        _ => {
            let f =
                functions::reduction(name, of).ok_or_else(|| format!("`.{name}` of `redux` is unknown"))?;
            let [to, from, members] = d.texts()?;
            Ok(Operation::Reduce {
                f,
                to: d.names.register(to)?,
                from: d.operand(from)?,
                members: d.operand(members)?,
            })
        }
    }
}

fn shuffle(d: &Decoder<'_>, name: &str) -> Result<Operation, String> {
    let kind = match name {
        "up" => Shuffle::Up,
        "down" => Shuffle::Down,
        "bfly" => Shuffle::Butterfly,
        "idx" => Shuffle::Index,
        _ => return Err(format!("`.{name}` of `shfl` is unknown")),
    };
    let [to, from, by, clamp, members] = d.texts()?;
    let (to, in_range) = match to.split_once('|') {
        None => (d.names.destination(to)?, None),
        Some((to, predicate)) => (d.names.destination(to.trim())?, d.names.destination(predicate.trim())?),
    };
    let (from, by, clamp, members) =
        (d.operand(from)?, d.operand(by)?, d.operand(clamp)?, d.operand(members)?);
    Ok(Operation::Shuffle { kind, to, in_range, from, by, clamp, members })
}

/// `mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 d, a, b, c`, the one shape that the kernels use.
fn multiply_accumulate(d: &mut Decoder<'_>) -> Result<Operation, String> {
    let expected = ["sync", "aligned", "m16n8k16", "row", "col", "f32", "bf16", "bf16", "f32"];
    if d.modifiers != expected {
        return Err(format!("expected `mma.{}`", expected.join(".")));
    }
    d.modifiers.clear();
    let [to, a, b, c] = d.texts()?;
    let (a, b, c): ([Operand; 4], [Operand; 2], [Operand; 4]) =
        (d.names.array(a)?, d.names.array(b)?, d.names.array(c)?);
    Ok(Operation::MultiplyAccumulate { d: d.names.registers(to)?, a, b, c })
}
