//! Numbers of a JSON Schema: bounds that keep them exact in f64 and finite.

use crate::error::{GrammarError, refusal};
use serde_json::{Map, Number, Value, json};

/// The largest integer up to which f64 is exact, 2^53 - 1: the range that RFC 7493, section 2.2, recommends.
const LARGEST: f64 = 9_007_199_254_740_991.0;

/// Whether `number` is the same as f64.
pub(crate) fn is_exact(number: &Number) -> bool {
    let whole = number.as_i64().map(i64::unsigned_abs).or(number.as_u64());
    whole.is_none_or(|whole| whole <= LARGEST as u64) && number.as_f64().is_some_and(|n| n.abs() <= LARGEST)
}

/// Gives a schema of numbers the bounds of the exact integers, so that digits do not go on for ever; returns its `multipleOf`.
pub(crate) fn bound(schema: &mut Map<String, Value>, pointer: &str) -> Result<Option<f64>, GrammarError> {
    let is_number = |name: &Value| matches!(name.as_str(), Some("number" | "integer"));
    let numbers = match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(is_number),
        Some(name) => is_number(name),
        None => false,
    };
    for (keyword, exclusive, sign) in
        [("minimum", "exclusiveMinimum", -1.0), ("maximum", "exclusiveMaximum", 1.0)]
    {
        let mut bounded = false;
        for keyword in [keyword, exclusive] {
            let Some(value) = schema.get(keyword).and_then(Value::as_f64) else { continue };
            if value * sign < -LARGEST {
                return Err(refusal(keyword, pointer, format!("numbers are at most {LARGEST} in magnitude")));
            }
            bounded |= value * sign <= LARGEST;
            if value * sign > LARGEST {
                schema.remove(keyword);
            }
        }
        if !bounded && numbers {
            schema.insert(keyword.to_string(), Value::from((sign * LARGEST) as i64));
        }
    }
    without_negative_zero(schema);
    let Some(multiple) = schema.get("multipleOf") else { return Ok(None) };
    match multiple.as_f64() {
        Some(value) if value > 0.0 && value <= f64::from(u32::MAX) => Ok(Some(value)),
        _ => {
            let reason = format!("expected a number above 0 and up to {}, found {multiple}", u32::MAX);
            Err(refusal("multipleOf", pointer, reason))
        }
    }
}

/// Splits a range of integers at zero: `-0` would be a float to some parsers.
fn without_negative_zero(schema: &mut Map<String, Value>) {
    let names: Vec<&str> = match schema.get("type") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(name) => name.as_str().into_iter().collect(),
        None => return,
    };
    let others: Vec<&str> = names.iter().copied().filter(|name| *name != "integer").collect();
    let below = |keyword: &str| schema.get(keyword).and_then(Value::as_f64).is_some_and(|bound| bound < 0.0);
    let negative = below("minimum") || below("exclusiveMinimum");
    let positive = !below("maximum") && !below("exclusiveMaximum");
    if others.len() == names.len() || others.contains(&"number") || !negative || !positive {
        return;
    }
    let halves = [json!({"type": "integer", "maximum": -1}), json!({"type": "integer", "minimum": 0})];
    let rest = (!others.is_empty()).then(|| json!({ "type": others }));
    let split = json!({"anyOf": halves.into_iter().chain(rest).collect::<Vec<_>>()});
    if let Value::Array(all) = schema.entry("allOf").or_insert_with(|| json!([])) {
        all.push(split);
    }
}

/// Writes counts such as `2.0` as integers.
pub(crate) fn whole_counts(schema: &mut Map<String, Value>) {
    for keyword in ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"] {
        let Some(value) = schema.get_mut(keyword) else { continue };
        let count = value.as_f64().filter(|count| count.fract() == 0.0 && (0.0..=LARGEST).contains(count));
        if let Some(count) = count {
            *value = Value::from(count as u64);
        }
    }
}

/// Refuses values of `multipleOf` whose common multiple may not fit 32 bits: two of them may meet in one number.
pub(crate) fn check_multiples(multiples: &[(f64, String)]) -> Result<(), GrammarError> {
    let mut decimals = Vec::new();
    for (value, pointer) in multiples {
        let text = value.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = format!("{whole}{fraction}").parse::<u32>();
        let digits = digits.map_err(|_| refusal("multipleOf", pointer, "it has too many digits"))?;
        if !decimals.contains(&(digits, fraction.len())) {
            decimals.push((digits, fraction.len()));
        }
    }
    if decimals.len() < 2 {
        return Ok(());
    }
    let places = decimals.iter().map(|(_, places)| *places).max().unwrap_or(0);
    let mut product = 1_u32;
    for (digits, own) in decimals {
        let scaled = 10_u32.checked_pow((places - own) as u32).and_then(|scale| digits.checked_mul(scale));
        let Some(next) = scaled.and_then(|scaled| product.checked_mul(scaled)) else {
            let reason = "different values together exceed 32 bits: use one";
            return Err(refusal("multipleOf", multiples.first().map_or("", |(_, at)| at), reason));
        };
        product = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{bound, check_multiples};
    use serde_json::{Value, json};

    fn bounded(schema: Value) -> Result<Value, String> {
        let Value::Object(mut schema) = schema else { panic!("an object") };
        bound(&mut schema, "").map_err(|error| error.to_string())?;
        Ok(Value::Object(schema))
    }

    #[test]
    fn numbers_get_the_range_of_exact_integers() {
        let (low, high) = (-9_007_199_254_740_991_i64, 9_007_199_254_740_991_i64);
        let split =
            json!([{"anyOf": [{"type": "integer", "maximum": -1}, {"type": "integer", "minimum": 0}]}]);
        for (schema, expected) in [
            (
                json!({"type": "integer"}),
                json!({"type": "integer", "minimum": low, "maximum": high, "allOf": split}),
            ),
            (
                json!({"type": ["null", "number"], "minimum": 1}),
                json!({"type": ["null", "number"], "minimum": 1, "maximum": high}),
            ),
            (
                json!({"type": "integer", "exclusiveMinimum": 0, "maximum": u64::MAX}),
                json!({"type": "integer", "exclusiveMinimum": 0, "maximum": high}),
            ),
            (json!({"type": "string"}), json!({"type": "string"})),
            (json!({"maximum": 5}), json!({"maximum": 5})),
        ] {
            assert_eq!(bounded(schema.clone()).unwrap(), expected, "{schema}");
        }
        assert!(bounded(json!({"minimum": 1e300})).unwrap_err().contains("`minimum` at #"));
        assert!(bounded(json!({"multipleOf": 0})).unwrap_err().contains("above 0"));
    }

    #[test]
    fn multiples_that_could_overflow_together_are_refused() {
        let at =
            |values: &[f64]| check_multiples(&values.iter().map(|&v| (v, String::new())).collect::<Vec<_>>());
        for fine in [&[3.0][..], &[0.01], &[2.0, 3.0, 0.5], &[65537.0, 65537.0]] {
            assert_eq!(at(fine), Ok(()), "{fine:?}");
        }
        for wrong in [&[65537.0, 65539.0][..], &[1e-12, 7.0]] {
            assert!(at(wrong).is_err(), "{wrong:?}");
        }
    }
}
