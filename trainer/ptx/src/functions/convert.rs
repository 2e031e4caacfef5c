//! `cvt`: from one type to another.

use crate::instruction::{Binary, Unary};
use crate::types::Type;

/// How a value between two that the type has is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// The conversion is exact, or truncates an integer.
    None,
    /// To the nearest float, ties to even: `.rn`.
    Nearest,
    /// Towards zero, to a float: `.rz`.
    Zero,
    /// To the nearest integer, ties to even: `.rni`.
    NearestInteger,
    /// `.rzi`
    IntegerTowardsZero,
    /// `.rmi`
    IntegerBelow,
    /// `.rpi`
    IntegerAbove,
}

/// The modifiers of a `cvt`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversion {
    pub(crate) to: Type,
    pub(crate) from: Type,
    pub(crate) rounding: Rounding,
    pub(crate) flushes: bool,
    pub(crate) saturates: bool,
}

fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn f32_flushed(bits: u64) -> f32 {
    let value = f32_of(bits);
    if value.is_subnormal() { 0.0f32.copysign(value) } else { value }
}

/// The nearest bf16, ties to even; every NaN is 0x7fff.
fn bf16_nearest(value: f32) -> u64 {
    if value.is_nan() {
        return 0x7fff;
    }
    let bits = value.to_bits();
    let (kept, dropped) = (bits >> 16, bits & 0xffff);
    let up = dropped > 0x8000 || dropped == 0x8000 && kept & 1 == 1;
    u64::from(kept) + u64::from(up)
}

/// The bf16 towards zero.
fn bf16_truncated(value: f32) -> u64 {
    if value.is_nan() { 0x7fff } else { u64::from(value.to_bits() >> 16) }
}

/// `cvt.rn.bf16x2.f32 d, high, low` and the same with `.rz`.
pub(crate) fn bf16_pair(rounding: Rounding) -> Option<Binary> {
    match rounding {
        Rounding::Nearest => Some(|high, low| bf16_nearest(f32_of(high)) << 16 | bf16_nearest(f32_of(low))),
        Rounding::Zero => Some(|high, low| bf16_truncated(f32_of(high)) << 16 | bf16_truncated(f32_of(low))),
        _ => None,
    }
}

/// The function of a `cvt` with one source.
pub(crate) fn conversion(c: Conversion) -> Option<Unary> {
    let is_float = |t| matches!(t, Type::F32 | Type::F64 | Type::Bf16);
    if c.to == Type::Pred || c.from == Type::Pred || c.to == Type::Bf16x2 || c.from == Type::Bf16x2 {
        return None;
    }
    match (is_float(c.to), is_float(c.from)) {
        (false, false) if c.rounding == Rounding::None && !c.saturates => between_integers(c.to, c.from),
        (true, false) if c.rounding == Rounding::Nearest && !c.saturates => from_integer(c.to, c.from),
        (false, true) => to_integer(c),
        (true, true) => between_floats(c),
        _ => None,
    }
}

/// Sign- or zero-extends the source, then cuts to the destination, whose sign fills a wider register.
fn between_integers(to: Type, from: Type) -> Option<Unary> {
    macro_rules! to {
        ($source:ident) => {
            match to {
                Type::U8 | Type::B8 => Some(|a| a as $source as u8 as u64),
                Type::S8 => Some(|a| a as $source as i8 as u64),
                Type::U16 | Type::B16 => Some(|a| a as $source as u16 as u64),
                Type::S16 => Some(|a| a as $source as i16 as u64),
                Type::U32 | Type::B32 => Some(|a| a as $source as u32 as u64),
                Type::S32 => Some(|a| a as $source as i32 as u64),
                Type::U64 | Type::B64 | Type::S64 => Some(|a| a as $source as u64),
                _ => None,
            }
        };
    }
    match from {
        Type::U8 | Type::B8 => to!(u8),
        Type::S8 => to!(i8),
        Type::U16 | Type::B16 => to!(u16),
        Type::S16 => to!(i16),
        Type::U32 | Type::B32 => to!(u32),
        Type::S32 => to!(i32),
        Type::U64 | Type::B64 => to!(u64),
        Type::S64 => to!(i64),
        _ => None,
    }
}

fn from_integer(to: Type, from: Type) -> Option<Unary> {
    macro_rules! from {
        ($float:ident) => {
            match from {
                Type::U8 => Some(|a| u64::from((a as u8 as $float).to_bits())),
                Type::S8 => Some(|a| u64::from((a as i8 as $float).to_bits())),
                Type::U16 => Some(|a| u64::from((a as u16 as $float).to_bits())),
                Type::S16 => Some(|a| u64::from((a as i16 as $float).to_bits())),
                Type::U32 => Some(|a| u64::from((a as u32 as $float).to_bits())),
                Type::S32 => Some(|a| u64::from((a as i32 as $float).to_bits())),
                Type::U64 => Some(|a| u64::from((a as $float).to_bits())),
                Type::S64 => Some(|a| u64::from((a as i64 as $float).to_bits())),
                _ => None,
            }
        };
    }
    match to {
        Type::F32 => from!(f32),
        Type::F64 => from!(f64),
        _ => None,
    }
}

/// Out of range the nearest integer of the type, and 0 for NaN, as Rust's `as`.
fn to_integer(c: Conversion) -> Option<Unary> {
    macro_rules! rounded {
        ($value:expr, $integer:ident) => {
            match c.rounding {
                Rounding::NearestInteger => Some(|a| $value(a).round_ties_even() as $integer as u64),
                Rounding::IntegerTowardsZero => Some(|a| $value(a).trunc() as $integer as u64),
                Rounding::IntegerBelow => Some(|a| $value(a).floor() as $integer as u64),
                Rounding::IntegerAbove => Some(|a| $value(a).ceil() as $integer as u64),
                _ => None,
            }
        };
    }
    macro_rules! to {
        ($value:expr) => {
            match c.to {
                Type::U16 => rounded!($value, u16),
                Type::S16 => rounded!($value, i16),
                Type::U32 => rounded!($value, u32),
                Type::S32 => rounded!($value, i32),
                Type::U64 => rounded!($value, u64),
                Type::S64 => rounded!($value, i64),
                _ => None,
            }
        };
    }
    match (c.from, c.flushes) {
        (Type::F32, false) => to!(f32_of),
        (Type::F32, true) => to!(f32_flushed),
        (Type::F64, false) => to!(f64::from_bits),
        _ => None,
    }
}

fn between_floats(c: Conversion) -> Option<Unary> {
    match (c.to, c.from, c.rounding, c.flushes, c.saturates) {
        (Type::Bf16, Type::F32, Rounding::Nearest, false, false) => Some(|a| bf16_nearest(f32_of(a))),
        (Type::Bf16, Type::F32, Rounding::Zero, false, false) => Some(|a| bf16_truncated(f32_of(a))),
        (Type::F32, Type::Bf16, Rounding::None, false, false) => Some(|a| (a & 0xffff) << 16),
        (Type::F64, Type::F32, Rounding::None, false, false) => Some(|a| f64::from(f32_of(a)).to_bits()),
        (Type::F64, Type::F32, Rounding::None, true, false) => Some(|a| f64::from(f32_flushed(a)).to_bits()),
        (Type::F32, Type::F64, Rounding::Nearest, false, false) => {
            Some(|a| u64::from((f64::from_bits(a) as f32).to_bits()))
        }
        (Type::F32, Type::F32, Rounding::NearestInteger, false, false) => {
            Some(|a| u64::from(f32_of(a).round_ties_even().to_bits()))
        }
        (Type::F32, Type::F32, Rounding::IntegerTowardsZero, false, false) => {
            Some(|a| u64::from(f32_of(a).trunc().to_bits()))
        }
        (Type::F32, Type::F32, Rounding::IntegerBelow, false, false) => {
            Some(|a| u64::from(f32_of(a).floor().to_bits()))
        }
        (Type::F32, Type::F32, Rounding::IntegerAbove, false, false) => {
            Some(|a| u64::from(f32_of(a).ceil().to_bits()))
        }
        // NaN saturates to 0.
        (Type::F32, Type::F32, Rounding::None, false, true) => Some(|a| {
            let value = f32_of(a);
            let kept = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
            u64::from(kept.to_bits())
        }),
        _ => None,
    }
}
