//! Floating point. NVIDIA's approximations are replaced by the correctly rounded value.

use crate::instruction::{Binary, Ternary, Unary};
use crate::types::Type;
use std::cmp::Ordering::{Equal, Greater, Less};

fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn bits_of(value: f32) -> u64 {
    u64::from(value.to_bits())
}

/// Subnormal numbers as zeros of their sign, for `.ftz`.
fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0.0f32.copysign(value) } else { value }
}

/// The function for f32, flushed for `ftz`, or for f64.
macro_rules! of_floats {
    ($type:expr, $flushes:expr, |$($argument:ident),+| $value:expr) => {
        match ($type, $flushes) {
            (Type::F32, false) => Some(|$($argument),+| { $(let $argument = f32_of($argument);)+ bits_of($value) }),
            (Type::F32, true) => {
                Some(|$($argument),+| { $(let $argument = flush(f32_of($argument));)+ bits_of(flush($value)) })
            }
            (Type::F64, false) => Some(|$($argument),+| { $(let $argument = f64::from_bits($argument);)+ ($value).to_bits() }),
            _ => None,
        }
    };
}

/// The function for f32 of one that is computed in f64, so that it is rounded once.
macro_rules! in_double {
    ($type:expr, $flushes:expr, |$argument:ident| $value:expr) => {
        match ($type, $flushes) {
            (Type::F32, false) => Some(|a| {
                let $argument = f64::from(f32_of(a));
                bits_of($value as f32)
            }),
            (Type::F32, true) => Some(|a| {
                let $argument = f64::from(flush(f32_of(a)));
                bits_of(flush($value as f32))
            }),
            _ => None,
        }
    };
}

/// `name` is without roundings: "rcp", "ex2", ...
pub(crate) fn unary(name: &str, of: Type, flushes: bool) -> Option<Unary> {
    match name {
        "neg" => of_floats!(of, flushes, |a| -a),
        "abs" => of_floats!(of, flushes, |a| a.abs()),
        "rcp" => of_floats!(of, flushes, |a| 1.0 / a),
        "sqrt" => of_floats!(of, flushes, |a| a.sqrt()),
        "rsqrt" => in_double!(of, flushes, |a| 1.0 / a.sqrt()),
        "ex2" => in_double!(of, flushes, |a| a.exp2()),
        "lg2" => in_double!(of, flushes, |a| a.log2()),
        "tanh" => in_double!(of, flushes, |a| a.tanh()),
        _ => None,
    }
}

pub(crate) fn binary(name: &str, of: Type, flushes: bool) -> Option<Binary> {
    match name {
        "add" => of_floats!(of, flushes, |a, b| a + b),
        "sub" => of_floats!(of, flushes, |a, b| a - b),
        "mul" => of_floats!(of, flushes, |a, b| a * b),
        "div" => of_floats!(of, flushes, |a, b| a / b),
        // Of a number and a NaN the number.
        "min" => of_floats!(of, flushes, |a, b| a.min(b)),
        "max" => of_floats!(of, flushes, |a, b| a.max(b)),
        "min.NaN" => of_floats!(of, flushes, |a, b| if a.is_nan() || b.is_nan() { a + b } else { a.min(b) }),
        "max.NaN" => of_floats!(of, flushes, |a, b| if a.is_nan() || b.is_nan() { a + b } else { a.max(b) }),
        "copysign" => of_floats!(of, flushes, |a, b| b.copysign(a)),
        _ => None,
    }
}

pub(crate) fn ternary(name: &str, of: Type, flushes: bool) -> Option<Ternary> {
    match name {
        "fma" => of_floats!(of, flushes, |a, b, c| a.mul_add(b, c)),
        _ => None,
    }
}

/// The names that end in u are true for NaN.
pub(crate) fn compare(name: &str, of: Type, flushes: bool) -> Option<Binary> {
    // How the numbers are ordered; none if one is not a number.
    macro_rules! ordered {
        ($($pattern:expr),+) => {
            match (of, flushes) {
                (Type::F32, false) => Some(|a, b| {
                    let order = f32_of(a).partial_cmp(&f32_of(b));
                    [$($pattern),+].contains(&order).into()
                }),
                (Type::F32, true) => Some(|a, b| {
                    let order = flush(f32_of(a)).partial_cmp(&flush(f32_of(b)));
                    [$($pattern),+].contains(&order).into()
                }),
                (Type::F64, false) => Some(|a, b| {
                    let order = f64::from_bits(a).partial_cmp(&f64::from_bits(b));
                    [$($pattern),+].contains(&order).into()
                }),
                _ => None,
            }
        };
    }
    match name {
        "eq" => ordered!(Some(Equal)),
        "ne" => ordered!(Some(Less), Some(Greater)),
        "lt" => ordered!(Some(Less)),
        "le" => ordered!(Some(Less), Some(Equal)),
        "gt" => ordered!(Some(Greater)),
        "ge" => ordered!(Some(Greater), Some(Equal)),
        "equ" => ordered!(None, Some(Equal)),
        "neu" => ordered!(None, Some(Less), Some(Greater)),
        "ltu" => ordered!(None, Some(Less)),
        "leu" => ordered!(None, Some(Less), Some(Equal)),
        "gtu" => ordered!(None, Some(Greater)),
        "geu" => ordered!(None, Some(Greater), Some(Equal)),
        "num" => ordered!(Some(Less), Some(Equal), Some(Greater)),
        "nan" => ordered!(None),
        _ => None,
    }
}
