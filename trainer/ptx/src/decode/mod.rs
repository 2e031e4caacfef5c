//! From an opcode and its operands to an operation. A modifier that is not known is an error, so nothing is ignored unseen.

mod arithmetic;
mod memory;
mod warp;

use crate::instruction::{Operand, Operation};
use crate::operands::Names;
use crate::types::Type;

/// An opcode and what is left of it and of its operands.
pub(crate) struct Decoder<'a> {
    names: &'a Names<'a>,
    modifiers: Vec<&'a str>,
    operands: &'a [&'a str],
}

/// The operation of an instruction without its guard.
///
/// # Errors
/// What of it is not known.
pub(crate) fn decode(names: &Names<'_>, opcode: &str, operands: &[&str]) -> Result<Operation, String> {
    let mut parts = opcode.split('.');
    let stem = parts.next().unwrap_or_default();
    let mut decoder = Decoder { names, modifiers: parts.collect(), operands };
    let operation = match stem {
        "ld" | "st" | "cp" | "ldmatrix" | "ldu" => memory::decode(&mut decoder, stem),
        "shfl" | "vote" | "redux" | "activemask" | "bar" | "barrier" | "membar" | "fence" | "bra" | "ret"
        | "exit" | "mma" => warp::decode(&mut decoder, stem),
        _ => arithmetic::decode(&mut decoder, stem),
    }?;
    match decoder.modifiers.first() {
        None => Ok(operation),
        Some(modifier) => Err(format!("`.{modifier}` of `{stem}` is unknown")),
    }
}

impl<'a> Decoder<'a> {
    /// Removes the modifier; whether it was there.
    fn take(&mut self, modifier: &str) -> bool {
        let place = self.modifiers.iter().position(|&m| m == modifier);
        place.map(|place| self.modifiers.remove(place)).is_some()
    }

    /// Removes the first modifier that is one of these.
    fn take_one(&mut self, modifiers: &[&str]) -> Option<&'a str> {
        let place = self.modifiers.iter().position(|m| modifiers.contains(m))?;
        Some(self.modifiers.remove(place))
    }

    /// Removes the last modifier, a type.
    fn take_type(&mut self) -> Result<Type, String> {
        let name = self.modifiers.pop().ok_or("expected a type after the opcode, found none")?;
        Type::parse(name).ok_or_else(|| format!("expected a type, found `.{name}`"))
    }

    /// The operand texts, exactly so many.
    fn texts<const N: usize>(&self) -> Result<[&'a str; N], String> {
        let texts = <[&str; N]>::try_from(self.operands);
        texts.map_err(|_| format!("expected {N} operands, found {}", self.operands.len()))
    }

    fn operand(&self, text: &str) -> Result<Operand, String> {
        self.names.operand(text)
    }
}
