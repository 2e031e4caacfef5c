//! Python's behaviour of values, where `minijinja`'s is missing or different.

use super::source::{FORMAT, SLICE};
use super::strings::{Side, capitalized, invalid, padded, printf, split, split_lines, split_spaces, strip};
use minijinja::value::{Kwargs, Tuple, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, escape_formatter};
use minijinja_contrib::pycompat;
use thimble_runtime::chat::is_python_space;

/// Installs methods and tests.
pub(super) fn install(environment: &mut Environment<'_>) {
    minijinja_contrib::add_to_environment(environment);
    environment.set_unknown_method_callback(method);
    // In Python, strings and mappings have a length and items.
    environment.add_test("sequence", |value: &Value| is_sequence(value));
    environment.add_test("iterable", |value: &Value| value.try_iter().is_ok() || value.as_str().is_some());
}

/// Writes a value as Python's `str` does: `minijinja` writes no exponents.
pub(super) fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let number = match value.kind() {
        ValueKind::Number if !value.is_integer() => f64::try_from(value.clone()).ok(),
        ValueKind::Map => return out.write_str(&repr(value, 0)?).map_err(Error::from),
        _ => None,
    };
    match number.filter(|number| number.is_finite()) {
        Some(number) => out.write_str(&super::json::float(number)).map_err(Error::from),
        None => escape_formatter(out, state, value),
    }
}

/// Deepest nesting of lists and mappings that is written.
const MAX_DEPTH: usize = 100;

/// Python's `repr` of a plain value.
pub(super) fn repr(value: &Value, depth: usize) -> Result<String, Error> {
    if depth > MAX_DEPTH {
        return Err(invalid("lists and mappings are nested too deeply"));
    }
    Ok(match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number if !value.is_integer() => super::json::float(f64::try_from(value.clone())?),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq if !value.is_tuple() => {
            let items: Result<Vec<String>, Error> =
                value.try_iter()?.map(|item| repr(&item, depth + 1)).collect();
            format!("[{}]", items?.join(", "))
        }
        ValueKind::Map => {
            let pair = |key: Value| {
                Ok(format!("{}: {}", repr(&key, depth + 1)?, repr(&value.get_item(&key)?, depth + 1)?))
            };
            let pairs: Result<Vec<String>, Error> = value.try_iter()?.map(pair).collect();
            format!("{{{}}}", pairs?.join(", "))
        }
        _ => value.to_string(),
    })
}

/// Python's `repr` of a string: in single quotes unless only those are in it.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for letter in text.chars() {
        let code = u32::from(letter);
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if letter == quote => out.extend(['\\', quote]),
            _ if letter.is_control() => out.push_str(&format!("\\x{code:02x}")),
            // Python writes other spaces and unassigned characters as numbers; of those, only spaces are known here.
            _ if letter.is_whitespace() && letter != ' ' && code < 0x100 => {
                out.push_str(&format!("\\x{code:02x}"))
            }
            _ if letter.is_whitespace() && letter != ' ' => out.push_str(&format!("\\u{code:04x}")),
            _ => out.push(letter),
        }
    }
    out.push(quote);
    out
}

fn is_sequence(value: &Value) -> bool {
    value.is_undefined() || matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
}

/// Methods that `minijinja` lacks, or that take more arguments in Python.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match (name, value.as_str()) {
        (SLICE, _) => slice(value, args),
        (FORMAT, Some(text)) => {
            let [argument] = args else { return Err(Error::from(ErrorKind::UnknownMethod)) };
            let arguments: Vec<Value> =
                if argument.is_tuple() { argument.try_iter()?.collect() } else { vec![argument.clone()] };
            printf(text, &arguments).map(Value::from)
        }
        (_, Some(text)) => match text_method(text, name, args)? {
            Some(value) => Ok(value),
            None => pycompat::unknown_method_callback(state, value, name, args),
        },
        ("index", None) if value.kind() == ValueKind::Seq => {
            let (what,): (&Value,) = from_args(args)?;
            let place = value.try_iter()?.position(|item| item == *what);
            place.map(Value::from).ok_or_else(|| invalid("the value is not in the list"))
        }
        ("copy", None) if matches!(value.kind(), ValueKind::Map | ValueKind::Seq) => Ok(value.clone()),
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn text_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let pieces = |pieces: Vec<&str>| Value::from(pieces.into_iter().map(Value::from).collect::<Vec<_>>());
    let three =
        |a: &str, b: &str, c: &str| Value::from(Tuple::from(vec![Value::from(a), b.into(), c.into()]));
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, chars, name != "rstrip", name != "lstrip"))
        }
        "split" | "rsplit" => {
            let (separator, max_splits, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = separator.or(named.get("sep")?).filter(|separator| !separator.is_none());
            let max_splits =
                max_splits.or(named.get("maxsplit")?).and_then(|max_splits| usize::try_from(max_splits).ok());
            named.assert_all_used()?;
            match separator.as_ref().map(Value::as_str) {
                Some(Some("")) => return Err(invalid("split: the separator is empty")),
                Some(None) => return Err(invalid("split: the separator must be a string")),
                Some(Some(separator)) => pieces(split(text, separator, max_splits, name == "rsplit")),
                None => pieces(split_spaces(text, max_splits, name == "rsplit")),
            }
        }
        "splitlines" => {
            let (keep, named): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(named.get("keepends")?).unwrap_or(false);
            named.assert_all_used()?;
            pieces(split_lines(text, keep))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(invalid(format!("{name}: the separator is empty")));
            }
            match if name == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) } {
                Some((before, after)) => three(before, separator, after),
                None if name == "partition" => three(text, "", ""),
                None => three("", "", text),
            }
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let sign = usize::from(text.starts_with(['+', '-']));
            let digits = padded(&text[sign..], width.saturating_sub(sign), '0', Side::Left)?;
            Value::from(format!("{}{digits}", &text[..sign]))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let side = match name {
                "ljust" => Side::Right,
                "rjust" => Side::Left,
                _ => Side::Both,
            };
            Value::from(padded(text, width, fill.unwrap_or(' '), side)?)
        }
        "casefold" => Value::from(text.to_lowercase().replace('\u{df}', "ss")),
        "swapcase" => {
            let swap = |letter: char| -> String {
                if letter.is_uppercase() {
                    letter.to_lowercase().collect()
                } else {
                    letter.to_uppercase().collect()
                }
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "title" => {
            let mut inside = false;
            let title = text.chars().map(|letter| {
                // Letters without case, such as Chinese ones, end a word.
                let cased = letter.is_lowercase() || letter.is_uppercase();
                let first = !std::mem::replace(&mut inside, cased);
                if first { capitalized(&letter.to_string()) } else { letter.to_lowercase().collect() }
            });
            Value::from(title.collect::<String>())
        }
        "capitalize" => Value::from(capitalized(text)),
        "isdecimal" => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_python_space)),
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let (what, start, stop): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let mut range = places(text.chars().count(), start, stop, 1)?.peekable();
            let first = range.peek().copied().unwrap_or(0);
            let part: String = text.chars().skip(first).take(range.count()).collect();
            if name == "count" {
                // An empty text matches between all characters, as in Python.
                return Ok(Some(Value::from(part.matches(what).count())));
            }
            let place = if name.starts_with('r') { part.rfind(what) } else { part.find(what) };
            match place {
                Some(place) => Value::from(first + part[..place].chars().count()),
                None if name.ends_with("find") => Value::from(-1),
                None => return Err(invalid(format!("{name}: {what:?} is not in the text"))),
            }
        }
        _ => return Ok(None),
    }))
}

/// `value[start:stop:step]`.
fn slice(value: &Value, args: &[Value]) -> Result<Value, Error> {
    let place = |index: usize, name: &str| match args.get(index).filter(|place| !place.is_none()) {
        None => Ok(None),
        Some(place) => {
            let found = place.as_i64().filter(|_| place.is_integer());
            found.map(Some).ok_or_else(|| invalid(format!("a slice's {name} must be a whole number")))
        }
    };
    let (start, stop) = (place(0, "start")?, place(1, "stop")?);
    let step = place(2, "step")?.unwrap_or(1);
    if let Some(text) = value.as_str() {
        let letters: Vec<char> = text.chars().collect();
        let places = places(letters.len(), start, stop, step)?;
        return Ok(Value::from(places.map(|at| letters[at]).collect::<String>()));
    }
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an undefined value cannot be sliced"));
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(invalid(format!("a {} cannot be sliced", value.kind())));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let taken: Vec<Value> = places(items.len(), start, stop, step)?.map(|at| items[at].clone()).collect();
    Ok(if value.is_tuple() { Value::from(Tuple::from(taken)) } else { Value::from(taken) })
}

/// The indices of a slice of `len` items, all below `len`: Python's `slice.indices`.
fn places(
    len: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> Result<impl Iterator<Item = usize>, Error> {
    if step == 0 {
        return Err(invalid("a slice's step must not be zero"));
    }
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let bound = |place: i64| if place < 0 { place.saturating_add(len) } else { place }.clamp(lowest, highest);
    let (first, last) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    let (start, stop) = (start.map_or(first, bound), stop.map_or(last, bound));
    let inside = move |at: &i64| if step > 0 { *at < stop } else { *at > stop };
    let next = move |at: &i64| at.checked_add(step);
    Ok(std::iter::successors(Some(start), next).take_while(inside).filter_map(|at| usize::try_from(at).ok()))
}
