//! Integers and bits.
#![allow(clippy::unnecessary_cast, reason = "functions are written once for all types, u64 among them")]

use crate::instruction::{Binary, Quaternary, Ternary, Unary};
use crate::types::Type;

/// The function for the integer type, written once with the type's name.
macro_rules! of_integers {
    ($type:expr, $name:ident => $function:expr) => {
        match $type {
            Type::U16 | Type::B16 => {
                type $name = u16;
                Some($function)
            }
            Type::S16 => {
                type $name = i16;
                Some($function)
            }
            Type::U32 | Type::B32 => {
                type $name = u32;
                Some($function)
            }
            Type::S32 => {
                type $name = i32;
                Some($function)
            }
            Type::U64 | Type::B64 => {
                type $name = u64;
                Some($function)
            }
            Type::S64 => {
                type $name = i64;
                Some($function)
            }
            _ => None,
        }
    };
}

pub(crate) fn unary(name: &str, of: Type) -> Option<Unary> {
    match (name, of) {
        ("not", Type::Pred) => Some(|a| a ^ 1),
        ("not", _) => Some(|a| !a),
        ("neg", _) => of_integers!(of, T => |a| (a as T).wrapping_neg() as u64),
        ("abs", Type::S16) => Some(|a| (a as i16).wrapping_abs() as u64),
        ("abs", Type::S32) => Some(|a| (a as i32).wrapping_abs() as u64),
        ("abs", Type::S64) => Some(|a| (a as i64).wrapping_abs() as u64),
        ("popc", Type::B32) => Some(|a| u64::from((a as u32).count_ones())),
        ("popc", Type::B64) => Some(|a| u64::from(a.count_ones())),
        ("clz", Type::B32) => Some(|a| u64::from((a as u32).leading_zeros())),
        ("clz", Type::B64) => Some(|a| u64::from(a.leading_zeros())),
        ("brev", Type::B32) => Some(|a| u64::from((a as u32).reverse_bits())),
        ("brev", Type::B64) => Some(|a| a.reverse_bits()),
        _ => None,
    }
}

pub(crate) fn binary(name: &str, of: Type) -> Option<Binary> {
    match name {
        "and" => Some(|a, b| a & b),
        "or" => Some(|a, b| a | b),
        "xor" => Some(|a, b| a ^ b),
        "add" => of_integers!(of, T => |a, b| (a as T).wrapping_add(b as T) as u64),
        "sub" => of_integers!(of, T => |a, b| (a as T).wrapping_sub(b as T) as u64),
        "mul.lo" => of_integers!(of, T => |a, b| (a as T).wrapping_mul(b as T) as u64),
        "mul.hi" => of_integers!(of, T => |a, b| ((a as T as i128 * b as T as i128) >> T::BITS) as u64),
        "min" => of_integers!(of, T => |a, b| (a as T).min(b as T) as u64),
        "max" => of_integers!(of, T => |a, b| (a as T).max(b as T) as u64),
        // Divided by zero the result is unspecified.
        "div" => of_integers!(of, T => |a, b| (a as T).checked_div(b as T).map_or(u64::MAX, |x| x as u64)),
        "rem" => of_integers!(of, T => |a, b| (a as T).checked_rem(b as T).map_or(u64::MAX, |x| x as u64)),
        // Shifts by the width or more leave nothing, or copies of the sign.
        "shl" => of_integers!(of, T => |a, b| (a as T).checked_shl(b as u32).unwrap_or(0) as u64),
        "shr" => of_integers!(of, T => |a, b| ((a as T as i128) >> (b as u32).min(127)) as u64),
        _ => None,
    }
}

/// `mul.wide`: the type is the factors'.
pub(crate) fn multiply_wide(of: Type) -> Option<Binary> {
    match of {
        Type::U16 => Some(|a, b| u64::from(a as u16) * u64::from(b as u16)),
        Type::S16 => Some(|a, b| (i64::from(a as i16) * i64::from(b as i16)) as u64),
        Type::U32 => Some(|a, b| u64::from(a as u32) * u64::from(b as u32)),
        Type::S32 => Some(|a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64),
        _ => None,
    }
}

/// `mad.wide`: the type is the factors'.
pub(crate) fn add_wide(of: Type) -> Option<Ternary> {
    match of {
        Type::U16 => Some(|a, b, c| (u64::from(a as u16) * u64::from(b as u16)).wrapping_add(c)),
        Type::S16 => Some(|a, b, c| ((i64::from(a as i16) * i64::from(b as i16)) as u64).wrapping_add(c)),
        Type::U32 => Some(|a, b, c| (u64::from(a as u32) * u64::from(b as u32)).wrapping_add(c)),
        Type::S32 => Some(|a, b, c| ((i64::from(a as i32) * i64::from(b as i32)) as u64).wrapping_add(c)),
        _ => None,
    }
}

pub(crate) fn ternary(name: &str, of: Type) -> Option<Ternary> {
    match name {
        "mad.lo" => {
            of_integers!(of, T => |a, b, c| (a as T).wrapping_mul(b as T).wrapping_add(c as T) as u64)
        }
        "mad.hi" => of_integers!(of, T => |a, b, c| {
            (((a as T as i128 * b as T as i128) >> T::BITS) as T).wrapping_add(c as T) as u64
        }),
        _ => None,
    }
}

/// `bfe a, position, length`.
pub(crate) fn bit_field_extract(of: Type) -> Option<Ternary> {
    // The sign of a field is its last bit, or the value's where the field reaches beyond.
    fn extract(value: u64, position: u64, length: u64, width: u32, signed: bool) -> u64 {
        let (position, length) = (position as u8 as u32, length as u8 as u32);
        if length == 0 {
            return 0;
        }
        let last = (position + length - 1).min(width - 1);
        let sign = if signed && value >> last & 1 == 1 { u64::MAX } else { 0 };
        let field = if position < 64 { value >> position } else { 0 };
        let kept = (width.saturating_sub(position)).min(length);
        let mask = if kept == 0 { 0 } else { u64::MAX >> (64 - kept) };
        field & mask | sign & !mask
    }
    match of {
        Type::U32 => Some(|a, b, c| extract(a & 0xffff_ffff, b, c, 32, false)),
        Type::S32 => Some(|a, b, c| extract(a & 0xffff_ffff, b, c, 32, true)),
        Type::U64 => Some(|a, b, c| extract(a, b, c, 64, false)),
        Type::S64 => Some(|a, b, c| extract(a, b, c, 64, true)),
        _ => None,
    }
}

/// `bfi a, into, position, length`.
pub(crate) fn bit_field_insert(of: Type) -> Option<Quaternary> {
    match of {
        Type::B32 | Type::B64 => Some(|a, into, position, length| {
            let (position, length) = (position as u8 as u32, length as u8 as u32);
            let field = 1u64.checked_shl(length).map_or(u64::MAX, |bit| bit - 1);
            let mask = field.checked_shl(position).unwrap_or(0);
            into & !mask | a.checked_shl(position).unwrap_or(0) & mask
        }),
        _ => None,
    }
}

/// `lop3 a, b, c, table`: each bit from the table.
pub(crate) fn lookup() -> Quaternary {
    |a, b, c, table| {
        (0..8).filter(|row| table >> row & 1 == 1).fold(0, |sum, row| {
            let pick = |value: u64, bit: u32| if row >> bit & 1 == 1 { value } else { !value };
            sum | pick(a, 2) & pick(b, 1) & pick(c, 0)
        })
    }
}

/// `prmt a, b, selector`: four bytes of eight, or copies of their signs.
pub(crate) fn permute() -> Ternary {
    |a, b, selector| {
        let bytes = a & 0xffff_ffff | b << 32;
        (0..4).fold(0, |sum, i| {
            let choice = selector >> (4 * i) & 15;
            let byte = bytes >> (8 * (choice & 7)) & 0xff;
            let byte = if choice & 8 == 0 { byte } else { (byte >> 7) * 0xff };
            sum | byte << (8 * i)
        })
    }
}

/// `shf.{l,r}.{wrap,clamp} low, high, by`: 32 bits of the shifted pair.
pub(crate) fn funnel(left: bool, clamp: bool) -> Ternary {
    fn shifted(low: u64, high: u64, by: u32, left: bool) -> u64 {
        let pair = low & 0xffff_ffff | high << 32;
        if left { (u128::from(pair) << by >> 32) as u64 } else { pair.checked_shr(by).unwrap_or(0) }
    }
    match (left, clamp) {
        (true, false) => |low, high, by| shifted(low, high, by as u32 & 31, true),
        (true, true) => |low, high, by| shifted(low, high, (by as u32).min(32), true),
        (false, false) => |low, high, by| shifted(low, high, by as u32 & 31, false),
        (false, true) => |low, high, by| shifted(low, high, (by as u32).min(32), false),
    }
}

pub(crate) fn compare(name: &str, of: Type) -> Option<Binary> {
    match name {
        "eq" => of_integers!(of, T => |a, b| u64::from(a as T == b as T)),
        "ne" => of_integers!(of, T => |a, b| u64::from(a as T != b as T)),
        "lt" | "lo" => of_integers!(of, T => |a, b| u64::from((a as T) < b as T)),
        "le" | "ls" => of_integers!(of, T => |a, b| u64::from(a as T <= b as T)),
        "gt" | "hi" => of_integers!(of, T => |a, b| u64::from(a as T > b as T)),
        "ge" | "hs" => of_integers!(of, T => |a, b| u64::from(a as T >= b as T)),
        _ => None,
    }
}

/// `redux.sync`.
pub(crate) fn reduction(name: &str, of: Type) -> Option<Binary> {
    match (name, of) {
        ("add" | "min" | "max", Type::U32 | Type::S32) => binary(name, of),
        ("and" | "or" | "xor", Type::B32) => binary(name, of),
        _ => None,
    }
}
