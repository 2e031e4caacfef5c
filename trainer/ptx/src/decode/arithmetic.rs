//! Moves, arithmetic, comparisons and conversions.

use super::Decoder;
use crate::functions::{self, Conversion, Rounding};
use crate::instruction::{Binary, Operand, Operation};
use crate::memory::SHARED_WINDOW;
use crate::operands::between;
use crate::types::Type;

pub(super) fn decode(d: &mut Decoder<'_>, stem: &str) -> Result<Operation, String> {
    let unknown = || format!("the instruction `{stem}` is unknown, or unknown with these types");
    match stem {
        "mov" => return mov(d),
        "cvta" => return cvta(d),
        "cvt" => return cvt(d),
        "setp" => return setp(d),
        "selp" => {
            d.take_type()?;
            let [to, yes, no, by] = d.texts()?;
            let (yes, no, by) = (d.operand(yes)?, d.operand(no)?, d.names.predicate(by)?.0);
            return Ok(Operation::Select { to: d.names.register(to)?, yes, no, by });
        }
        "shf" => {
            let left = d.take_one(&["l", "r"]).ok_or_else(unknown)? == "l";
            let clamp = d.take_one(&["wrap", "clamp"]).ok_or_else(unknown)? == "clamp";
            d.take_type()?;
            return three(d, functions::funnel(left, clamp));
        }
        "prmt" => {
            d.take_type()?;
            return three(d, functions::permute());
        }
        "bfe" => {
            let of = d.take_type()?;
            return three(d, functions::bit_field_extract(of).ok_or_else(unknown)?);
        }
        "bfi" => {
            let of = d.take_type()?;
            return four(d, functions::bit_field_insert(of).ok_or_else(unknown)?);
        }
        "lop3" => {
            d.take_type()?;
            return four(d, functions::lookup());
        }
        _ => {}
    }
    let of = d.take_type()?;
    let flushes = d.take("ftz");
    let is_float = matches!(of, Type::F32 | Type::F64);
    if is_float {
        // To nearest is the default; the approximations have no other.
        d.take_one(&["rn", "approx", "full"]);
        let name = if d.take("NaN") { format!("{stem}.NaN") } else { stem.to_owned() };
        match d.operands.len() {
            2 => one(d, functions::float_unary(&name, of, flushes).ok_or_else(unknown)?),
            3 => two(d, functions::float_binary(&name, of, flushes).ok_or_else(unknown)?),
            _ => three(d, functions::float_ternary(&name, of, flushes).ok_or_else(unknown)?),
        }
    } else if d.take("wide") {
        match stem {
            "mul" => two(d, functions::multiply_wide(of).ok_or_else(unknown)?),
            "mad" => three(d, functions::add_wide(of).ok_or_else(unknown)?),
            _ => Err(unknown()),
        }
    } else {
        let half = d.take_one(&["lo", "hi"]).map(|half| format!("{stem}.{half}"));
        let name = half.as_deref().unwrap_or(stem);
        match d.operands.len() {
            2 => one(d, functions::integer_unary(name, of).ok_or_else(unknown)?),
            3 => two(d, functions::integer_binary(name, of).ok_or_else(unknown)?),
            _ => three(d, functions::integer_ternary(name, of).ok_or_else(unknown)?),
        }
    }
}

fn one(d: &Decoder<'_>, f: fn(u64) -> u64) -> Result<Operation, String> {
    let [to, a] = d.texts()?;
    Ok(Operation::Unary(f, d.names.register(to)?, d.operand(a)?))
}

fn two(d: &Decoder<'_>, f: Binary) -> Result<Operation, String> {
    let [to, a, b] = d.texts()?;
    Ok(Operation::Binary(f, d.names.register(to)?, [d.operand(a)?, d.operand(b)?]))
}

fn three(d: &Decoder<'_>, f: fn(u64, u64, u64) -> u64) -> Result<Operation, String> {
    let [to, a, b, c] = d.texts()?;
    Ok(Operation::Ternary(f, d.names.register(to)?, [d.operand(a)?, d.operand(b)?, d.operand(c)?]))
}

fn four(d: &Decoder<'_>, f: fn(u64, u64, u64, u64) -> u64) -> Result<Operation, String> {
    let [to, x, y, z, w] = d.texts()?;
    let from = [d.operand(x)?, d.operand(y)?, d.operand(z)?, d.operand(w)?];
    Ok(Operation::Quaternary(f, d.names.register(to)?, from))
}

/// Bits of each part of a vector of that type.
fn part_bits(of: Type, parts: usize) -> Result<usize, String> {
    let bits = 8 * of.bytes();
    if parts > 0 && bits.is_multiple_of(parts) {
        Ok(bits / parts)
    } else {
        Err(format!("expected parts of {bits} bits, found {parts}"))
    }
}

fn mov(d: &mut Decoder<'_>) -> Result<Operation, String> {
    let of = d.take_type()?;
    let [to, from] = d.texts()?;
    if between(to, '{', '}').is_some() {
        let to = d.names.destinations(to)?;
        let bits = part_bits(of, to.len())?;
        return Ok(Operation::Unpack { to, from: d.operand(from)?, bits });
    }
    let to = d.names.register(to)?;
    if between(from, '{', '}').is_some() {
        let from = d.names.vector(from)?;
        let bits = part_bits(of, from.len())?;
        return Ok(Operation::Pack { to, from, bits });
    }
    Ok(Operation::Unary(|a| a, to, d.operand(from)?))
}

/// Between the address of a space and a generic one.
fn cvta(d: &mut Decoder<'_>) -> Result<Operation, String> {
    let back = d.take("to");
    let space = d.take_one(&["global", "shared"]);
    d.take_type()?;
    match (space, back) {
        (Some("global"), _) => one(d, |a| a),
        (Some("shared"), false) => one(d, |a| a | SHARED_WINDOW),
        (Some("shared"), true) => one(d, |a| a & !SHARED_WINDOW),
        _ => Err("expected `.global` or `.shared`".to_owned()),
    }
}

fn cvt(d: &mut Decoder<'_>) -> Result<Operation, String> {
    let (from, to) = (d.take_type()?, d.take_type()?);
    let (flushes, saturates) = (d.take("ftz"), d.take("sat"));
    let rounding = match d.take_one(&["rn", "rz", "rni", "rzi", "rmi", "rpi"]) {
        None => Rounding::None,
        Some("rn") => Rounding::Nearest,
        Some("rz") => Rounding::Zero,
        Some("rni") => Rounding::NearestInteger,
        Some("rzi") => Rounding::IntegerTowardsZero,
        Some("rmi") => Rounding::IntegerBelow,
        Some(_) => Rounding::IntegerAbove,
    };
    let unknown = || format!("the conversion from {from:?} to {to:?} is unknown with this rounding");
    if to == Type::Bf16x2 {
        return match from {
            Type::F32 if !saturates && !flushes => {
                two(d, functions::bf16_pair(rounding).ok_or_else(unknown)?)
            }
            _ => Err(unknown()),
        };
    }
    one(d, functions::conversion(Conversion { to, from, rounding, flushes, saturates }).ok_or_else(unknown)?)
}

fn setp(d: &mut Decoder<'_>) -> Result<Operation, String> {
    let of = d.take_type()?;
    let flushes = d.take("ftz");
    if d.modifiers.is_empty() {
        return Err("expected a comparison, found none".to_owned());
    }
    let name = d.modifiers.remove(0);
    let compare = match of {
        Type::F32 | Type::F64 => functions::float_compare(name, of, flushes),
        _ => functions::integer_compare(name, of),
    };
    let compare = compare.ok_or_else(|| format!("the comparison `{name}` of {of:?} is unknown"))?;
    let combination: Option<Binary> = d.take_one(&["and", "or", "xor"]).map(|name| match name {
        "and" => (|a, b| a & b) as Binary,
        "or" => |a, b| a | b,
        _ => |a, b| a ^ b,
    });
    let (to, from, combine): (&str, [Operand; 2], _) = match combination {
        None => {
            let [to, a, b] = d.texts()?;
            (to, [d.operand(a)?, d.operand(b)?], None)
        }
        Some(f) => {
            let [to, a, b, c] = d.texts()?;
            let (operand, negated) = d.names.predicate(c)?;
            (to, [d.operand(a)?, d.operand(b)?], Some((f, operand, negated)))
        }
    };
    let (to, complement) = match to.split_once('|') {
        None => (d.names.destination(to)?, None),
        Some((to, complement)) => (d.names.destination(to.trim())?, d.names.destination(complement.trim())?),
    };
    Ok(Operation::Compare { compare, combine, to, complement, from })
}
