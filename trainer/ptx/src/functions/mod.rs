//! The functions that instructions compute lane by lane: bits to bits. What a result has beyond its register is cut off.

mod convert;
mod float;
mod integer;

pub(crate) use convert::{Conversion, Rounding, bf16_pair, conversion};
pub(crate) use float::{
    binary as float_binary, compare as float_compare, ternary as float_ternary, unary as float_unary,
};
pub(crate) use integer::{
    add_wide, binary as integer_binary, bit_field_extract, bit_field_insert, compare as integer_compare,
    funnel, lookup, multiply_wide, permute, reduction, ternary as integer_ternary, unary as integer_unary,
};
