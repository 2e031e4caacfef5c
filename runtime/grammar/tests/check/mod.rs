//! JSON values against the grammar of a schema, byte by byte.
#![allow(dead_code, unreachable_pub, reason = "each program uses a part")]

pub(crate) mod monkey;

use serde_json::Value;
use thimble_chat::{ConstraintError, TokenConstraint};
use thimble_grammar::Grammar;
use thimble_runtime::Token;

/// Whether `grammar`, of a vocabulary of bytes, allows `text` as a whole answer.
pub fn accepts(grammar: &Grammar, text: &str) -> Result<bool, ConstraintError> {
    let mut constraint = grammar.constraint()?;
    for byte in text.bytes() {
        match constraint.accept(Token(byte.into())) {
            Ok(()) => {}
            Err(ConstraintError::Refused { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(constraint.is_complete())
}

/// What a grammar says about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, with properties in this order.
    Accepted,
    /// Allowed, with properties in another order.
    OtherOrder,
    /// Not allowed.
    Rejected,
}

/// What `grammar` says about `value`, written without spaces.
pub fn verdict(grammar: &Grammar, value: &Value) -> Result<Verdict, ConstraintError> {
    for (index, text) in orders(value).iter().enumerate() {
        if accepts(grammar, text)? {
            return Ok(if index == 0 { Verdict::Accepted } else { Verdict::OtherOrder });
        }
    }
    Ok(Verdict::Rejected)
}

/// Most orders of one value that are tried.
const MOST_ORDERS: usize = 120;

/// `value` as JSON text, with its properties in their own order and then in every other one.
fn orders(value: &Value) -> Vec<String> {
    let parts: Vec<(String, Vec<String>)> = match value {
        Value::Array(items) => items.iter().map(|item| (String::new(), orders(item))).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (format!("{}:", Value::from(name.as_str())), orders(value)))
            .collect(),
        plain => return vec![plain.to_string()],
    };
    let array = value.is_array();
    let mut out = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(taken) = open.pop() {
        if taken.len() < parts.len() {
            // The lowest next part comes off the stack first.
            let next = |part: &usize| !taken.contains(part) && (!array || *part == taken.len());
            let more: Vec<usize> = (0..parts.len()).filter(next).collect();
            open.extend(more.into_iter().rev().map(|part| [taken.as_slice(), &[part]].concat()));
            continue;
        }
        let mut texts = vec![String::new()];
        for (place, &part) in taken.iter().enumerate() {
            let (name, values) = &parts[part];
            let comma = if place > 0 { "," } else { "" };
            let longer = texts
                .iter()
                .flat_map(|text| values.iter().map(move |value| format!("{text}{comma}{name}{value}")));
            texts = longer.take(MOST_ORDERS).collect();
        }
        let around = |text: String| if array { format!("[{text}]") } else { format!("{{{text}}}") };
        out.extend(texts.into_iter().map(around));
        if out.len() >= MOST_ORDERS {
            break;
        }
    }
    out
}

/// Why a grammar that writes one spelling of each value rejects a valid one; `None` if nothing explains it.
pub fn narrowing(schema: &Value, value: &Value) -> Option<&'static str> {
    if any(value, &|value| matches!(value, Value::Number(n) if is_other_spelling(n))) {
        return Some("numbers are written in one way, up to 2^53 - 1");
    }
    let control = |text: &str| text.chars().any(|letter| letter.is_control());
    let has_control = |value: &Value| match value {
        Value::String(text) => control(text),
        Value::Object(map) => map.keys().any(|name| control(name)),
        _ => false,
    };
    if any(value, &has_control) {
        return Some("control characters are not written");
    }
    any(schema, &|value| value.get("format").is_some()).then_some("formats are enforced")
}

/// Integers with a fraction of zero, exponents, and numbers that are not exact.
fn is_other_spelling(number: &serde_json::Number) -> bool {
    let text = number.to_string();
    text.contains(['e', 'E'])
        || text.ends_with(".0")
        || number.as_f64().is_some_and(|n| n.abs() > 9_007_199_254_740_991.0)
}

fn any(value: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
    holds(value)
        || match value {
            Value::Array(items) => items.iter().any(|item| any(item, holds)),
            Value::Object(map) => map.values().any(|item| any(item, holds)),
            _ => false,
        }
}
