//! Jinja filters that `minijinja` lacks, or that take more arguments in Jinja2.

use super::strings::{Side, capitalized, invalid, padded, split_lines, strip};
use minijinja::value::{Kwargs, Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};
use thimble_runtime::chat::is_python_space;

/// Installs the filters.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_filter("tojson", super::json::tojson);
    environment.add_filter("trim", trim);
    environment.add_filter("string", string);
    // In Python, the items of a mapping are not attributes.
    environment.add_filter("attr", |_: &Value, _: &Value| Value::UNDEFINED);
    environment.add_filter("count", minijinja::filters::length);
    environment.add_filter("capitalize", |value: &Value| capitalized(&value.to_string()));
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_filter("indent", indent);
    environment.add_filter("int", int);
    environment.add_filter("replace", replace);
    environment.add_filter("title", title);
    environment.add_filter("truncate", truncate);
    environment.add_filter("urlencode", urlencode);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("center", |value: &Value, width: Option<usize>| {
        padded(&value.to_string(), width.unwrap_or(80), ' ', Side::Both)
    });
}

/// Jinja's filter `string`: Python's `str`.
fn string(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Map => super::python::repr(value, 0).map(Value::from),
        _ => minijinja::filters::string(state, value),
    }
}

/// Jinja's filter `trim(chars)`.
fn trim(value: &Value, chars: Option<&str>) -> Value {
    match value.as_str() {
        Some(text) => Value::from(strip(text, chars, true, true)),
        None => Value::from(strip(&value.to_string(), chars, true, true)),
    }
}

/// Jinja's filter `int(default=0, base=10)`, which never fails.
fn int(
    state: &State<'_, '_>,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    named: Kwargs,
) -> Result<Value, Error> {
    let fallback = default.clone().or(named.get("default")?).unwrap_or_else(|| Value::from(0));
    let trimmed = value.as_str().map(|text| Value::from(strip(text, None, true, true)));
    match minijinja::filters::int(state, trimmed.as_ref().unwrap_or(value), default, base, named) {
        Err(error) if value.as_str().is_some() && error.kind() == ErrorKind::InvalidOperation => Ok(fallback),
        found => found,
    }
}

/// Jinja's filter `replace(old, new, count)`.
fn replace(value: &Value, old: &str, new: &str, count: Option<usize>) -> String {
    let text = value.to_string();
    count.map_or_else(|| text.replace(old, new), |count| text.replacen(old, new, count))
}

/// Jinja's filter `indent(width=4, first=False, blank=False)`; the width may be a string.
fn indent(
    value: &Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<String, Error> {
    let width = width.or(named.get("width")?).unwrap_or_else(|| Value::from(4));
    let first = first.or(named.get("first")?).unwrap_or(false);
    let blank = blank.or(named.get("blank")?).unwrap_or(false);
    named.assert_all_used()?;
    let indentation = match (width.as_str(), width.as_usize()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(width)) => padded("", width, ' ', Side::Left)?,
        (None, None) => return Err(invalid("indent: the width must be a number or a string")),
    };
    let text = value.to_string() + "\n";
    let mut out = String::with_capacity(text.len());
    for (place, line) in split_lines(&text, false).into_iter().enumerate() {
        if place > 0 {
            out.push('\n');
        }
        if if place == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&indentation);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// Jinja's filter `title`: capitals only after white space, a hyphen or an opening bracket.
fn title(value: &Value) -> String {
    let mut inside = false;
    let mut out = String::new();
    for letter in value.to_string().chars() {
        if is_python_space(letter) || "-({[<".contains(letter) {
            out.push(letter);
            inside = false;
        } else if std::mem::replace(&mut inside, true) {
            out.extend(letter.to_lowercase());
        } else {
            out.extend(letter.to_uppercase());
        }
    }
    out
}

/// Jinja's filter `truncate(length=255, killwords=False, end='...', leeway=5)`.
fn truncate(value: &Value, args: Rest<Value>) -> Result<String, Error> {
    type Arguments<'a> = (Option<usize>, Option<bool>, Option<&'a str>, Option<usize>, Kwargs);
    let (length, cut_words, end, leeway, named): Arguments<'_> = from_args(&args)?;
    let length = length.or(named.get("length")?).unwrap_or(255);
    let cut_words = cut_words.or(named.get("killwords")?).unwrap_or(false);
    let end = end.or(named.get("end")?).unwrap_or("...");
    let leeway = leeway.or(named.get("leeway")?).unwrap_or(5);
    named.assert_all_used()?;
    let text = value.to_string();
    let ending = end.chars().count();
    if length < ending {
        return Err(invalid(format!("truncate: expected a length of at least {ending}, found {length}")));
    }
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept: String = text.chars().take(length - ending).collect();
    let kept = if cut_words { kept.as_str() } else { kept.rsplit_once(' ').map_or(&*kept, |(kept, _)| kept) };
    Ok(format!("{kept}{end}"))
}

/// Jinja's filter `urlencode` for strings.
fn urlencode(value: &Value) -> String {
    use std::fmt::Write;
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(byte.into())
            }
            // Writing to a string cannot fail.
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// Jinja's filter `escape`, with its numeric references for quotes.
fn escape(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let mut out = String::new();
    for letter in value.to_string().chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            letter => out.push(letter),
        }
    }
    Value::from_safe_string(out)
}

/// Jinja's filter `wordcount`.
fn wordcount(value: &Value) -> usize {
    let text = value.to_string();
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
}
