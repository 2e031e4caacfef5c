//! Names of an entry and what operands mean by them.

use crate::entry::Parameter;
use crate::instruction::{Address, Destination, Operand, Register, Special};
use crate::types::Type;
use std::collections::{HashMap, HashSet};

/// What a name can stand for while an entry is decoded.
pub(crate) struct Names<'a> {
    pub(crate) parameters: &'a [Parameter],
    /// Arrays of dynamic shared memory, all of which begin at its start.
    pub(crate) shared: &'a HashSet<String>,
    pub(crate) labels: &'a HashMap<String, usize>,
    /// Registers by scope, the innermost last.
    pub(crate) scopes: Vec<HashMap<String, Register>>,
    /// The bits of each register.
    pub(crate) masks: Vec<u64>,
}

/// Splits at commas outside brackets and braces.
pub(crate) fn split_operands(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}

/// What is between a pair of brackets or braces.
pub(crate) fn between(text: &str, open: char, close: char) -> Option<&str> {
    text.strip_prefix(open)?.strip_suffix(close).map(str::trim)
}

impl Names<'_> {
    /// Adds the registers of a `.reg` directive: `.b32 %r<10>` or `.pred p, q`.
    pub(crate) fn declare(&mut self, directive: &str) -> Result<(), String> {
        let unknown = || format!("expected `.reg .type names`, found `.reg {directive}`");
        let (of, names) = directive.trim().split_once(char::is_whitespace).ok_or_else(unknown)?;
        let of = of.strip_prefix('.').and_then(Type::parse).ok_or_else(unknown)?;
        for name in names.split(',').map(str::trim) {
            let Some((prefix, count)) = name.split_once('<') else {
                self.add(name.to_owned(), of);
                continue;
            };
            let count: usize = count.strip_suffix('>').and_then(|n| n.parse().ok()).ok_or_else(unknown)?;
            (0..count).for_each(|i| self.add(format!("{prefix}{i}"), of));
        }
        Ok(())
    }

    fn add(&mut self, name: String, of: Type) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, self.masks.len());
            self.masks.push(of.mask());
        }
    }

    pub(crate) fn register(&self, text: &str) -> Result<Register, String> {
        let found = self.scopes.iter().rev().find_map(|scope| scope.get(text));
        found.copied().ok_or_else(|| format!("expected a register, found `{text}`"))
    }

    /// A register, or `_` for none.
    pub(crate) fn destination(&self, text: &str) -> Result<Destination, String> {
        if text == "_" { Ok(None) } else { self.register(text).map(Some) }
    }

    /// Register, number, special register or shared array.
    pub(crate) fn operand(&self, text: &str) -> Result<Operand, String> {
        if let Ok(register) = self.register(text) {
            return Ok(Operand::Register(register));
        }
        if self.shared.contains(text) {
            return Ok(Operand::Immediate(0));
        }
        if let Some(special) = special(text) {
            return Ok(Operand::Special(special));
        }
        number(text).map(Operand::Immediate).ok_or_else(|| format!("expected an operand, found `{text}`"))
    }

    /// A predicate, and whether `!` negates it.
    pub(crate) fn predicate(&self, text: &str) -> Result<(Operand, bool), String> {
        let (name, negated) = text.strip_prefix('!').map_or((text, false), |name| (name, true));
        let register = self.register(name)?;
        if self.masks[register] != 1 {
            return Err(format!("expected a predicate, found `{text}`"));
        }
        Ok((Operand::Register(register), negated))
    }

    /// `{a, b}`, or a single register as a vector of one.
    pub(crate) fn destinations(&self, text: &str) -> Result<Vec<Destination>, String> {
        let parts = between(text, '{', '}').unwrap_or(text);
        parts.split(',').map(|part| self.destination(part.trim())).collect()
    }

    /// `{a, b}`, or a single operand as a vector of one.
    pub(crate) fn vector(&self, text: &str) -> Result<Vec<Operand>, String> {
        let parts = between(text, '{', '}').unwrap_or(text);
        parts.split(',').map(|part| self.operand(part.trim())).collect()
    }

    /// A vector of a fixed number of operands.
    pub(crate) fn array<const N: usize>(&self, text: &str) -> Result<[Operand; N], String> {
        self.vector(text)?.try_into().map_err(|_| format!("expected {N} operands, found `{text}`"))
    }

    /// A vector of a fixed number of registers.
    pub(crate) fn registers<const N: usize>(&self, text: &str) -> Result<[Register; N], String> {
        let parts = between(text, '{', '}').unwrap_or(text).split(',');
        let registers = parts.map(|part| self.register(part.trim())).collect::<Result<Vec<_>, _>>()?;
        registers.try_into().map_err(|_| format!("expected {N} registers, found `{text}`"))
    }

    /// `[base]` or `[base+offset]`.
    pub(crate) fn address(&self, text: &str) -> Result<Address, String> {
        let (base, offset) = bracketed(text)?;
        Ok(Address { base: self.operand(base)?, offset })
    }

    /// Offset of `[parameter+offset]` among the parameters.
    pub(crate) fn parameter(&self, text: &str, bytes: usize) -> Result<usize, String> {
        let (name, offset) = bracketed(text)?;
        let unknown = || format!("expected {bytes} bytes of a parameter, found `{text}`");
        let parameter = self.parameters.iter().find(|p| p.name == name).ok_or_else(unknown)?;
        let offset = usize::try_from(offset).map_err(|_| unknown())?;
        if offset + bytes > parameter.bytes { Err(unknown()) } else { Ok(parameter.offset + offset) }
    }

    pub(crate) fn label(&self, text: &str) -> Result<usize, String> {
        self.labels.get(text).copied().ok_or_else(|| format!("expected a label, found `{text}`"))
    }
}

fn bracketed(text: &str) -> Result<(&str, i64), String> {
    let unknown = || format!("expected `[base+offset]`, found `{text}`");
    let inner = between(text, '[', ']').ok_or_else(unknown)?;
    let Some((base, offset)) = inner.split_once('+') else { return Ok((inner, 0)) };
    let offset = number(offset.trim()).ok_or_else(unknown)?;
    Ok((base.trim(), offset as i64))
}

/// The bits of a number; of a single-precision one (`0f`) the low 32.
fn number(text: &str) -> Option<u64> {
    let (digits, negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
    let hexadecimal = |prefixes: [&str; 2]| prefixes.iter().find_map(|prefix| digits.strip_prefix(prefix));
    let floating = hexadecimal(["0f", "0F"]).or_else(|| hexadecimal(["0d", "0D"]));
    if let Some(bits) = floating {
        return if negative { None } else { u64::from_str_radix(bits, 16).ok() };
    }
    let digits = digits.trim_end_matches('U');
    let magnitude = match hexadecimal(["0x", "0X"]) {
        Some(bits) => u64::from_str_radix(bits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if negative { magnitude.wrapping_neg() } else { magnitude })
}

fn special(text: &str) -> Option<Special> {
    Some(match text {
        "%tid.x" => Special::Thread,
        "%ntid.x" => Special::Threads,
        "%laneid" => Special::Lane,
        "%ctaid.x" => Special::Block(0),
        "%ctaid.y" => Special::Block(1),
        "%ctaid.z" => Special::Block(2),
        "%nctaid.x" => Special::Grid(0),
        "%nctaid.y" => Special::Grid(1),
        "%nctaid.z" => Special::Grid(2),
        _ => return None,
    })
}
