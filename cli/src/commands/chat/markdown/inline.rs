//! The elements inside a line of Markdown: emphasis, code and links, a subset of CommonMark.

/// Bytes within which an element has to end. Until then it is held back, because its beginning alone is plain text.
const MAX_ELEMENT: usize = 400;

/// What a line begins with. Lengths are bytes of the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Element<'l> {
    /// Text as it is.
    Text(usize),
    /// A backslash that escapes the next character.
    Escape,
    /// Code between backticks.
    Code { length: usize, text: &'l str },
    /// Text between one, two or three asterisks or underscores.
    Emphasis { length: usize, markers: usize, inner: &'l str },
    /// A text with an address.
    Link { length: usize, text: &'l str, address: &'l str },
}

/// The part of a line that an element may take, and whether more of it may come.
#[derive(Clone, Copy)]
struct Window<'l> {
    line: &'l str,
    complete: bool,
}

/// What is found in a window: perhaps not decided yet.
enum Found<T> {
    Here(T),
    Nowhere,
    /// More of the line decides.
    Later,
}

/// The first element of `line`, which is not empty, behind the character `before`; `None` if more of the line decides. Where
/// `complete`, there is no more of it.
///
/// What is returned for a line holds for all that begin with it.
pub(super) fn first_element(line: &str, before: Option<char>, complete: bool) -> Option<Element<'_>> {
    let special = |c: char| matches!(c, '\\' | '`' | '*' | '_' | '[');
    let at = line.find(special).unwrap_or(line.len());
    if at > 0 {
        return Some(Element::Text(at));
    }
    let end = line.floor_char_boundary(MAX_ELEMENT);
    let window = Window { line: &line[..end], complete: complete || line.len() >= MAX_ELEMENT };
    let marker = line.chars().next()?;
    let found = match marker {
        '\\' => escape(window),
        '`' => code(window),
        '[' => link(window),
        marker => emphasis(window, marker, before),
    };
    match found {
        Found::Here(element) => Some(element),
        Found::Nowhere => Some(Element::Text(run(window.line, marker))),
        Found::Later => None,
    }
}

/// The bytes of `marker`, an ASCII character, at the beginning.
fn run(text: &str, marker: char) -> usize {
    text.len() - text.trim_start_matches(marker).len()
}

/// Of backslashes only those before the markers of this module: others are paths and formulas.
fn escape(window: Window<'_>) -> Found<Element<'_>> {
    match window.line[1..].chars().next() {
        Some('*' | '_' | '`') => Found::Here(Element::Escape),
        Some(_) => Found::Here(Element::Text(1)),
        None if window.complete => Found::Nowhere,
        None => Found::Later,
    }
}

/// Where the code that begins the line ends: at as many backticks as it began with.
fn code_length(window: Window<'_>) -> Found<usize> {
    let opening = run(window.line, '`');
    let mut at = opening;
    while let Some(next) = window.line[at..].find('`') {
        at += next;
        let closing = run(&window.line[at..], '`');
        at += closing;
        if closing == opening && (at < window.line.len() || window.complete) {
            return Found::Here(at);
        }
    }
    if window.complete { Found::Nowhere } else { Found::Later }
}

fn code(window: Window<'_>) -> Found<Element<'_>> {
    let opening = run(window.line, '`');
    match code_length(window) {
        Found::Here(length) => {
            let text = &window.line[opening..length - opening];
            // One space on each side makes room for backticks in the code.
            let inner = text.strip_prefix(' ').and_then(|text| text.strip_suffix(' '));
            let text = inner.filter(|inner| !inner.trim().is_empty()).unwrap_or(text);
            Found::Here(Element::Code { length, text })
        }
        Found::Nowhere => Found::Nowhere,
        Found::Later => Found::Later,
    }
}

fn emphasis(window: Window<'_>, marker: char, before: Option<char>) -> Found<Element<'_>> {
    let markers = run(window.line, marker);
    let Some(next) = window.line[markers..].chars().next() else {
        return if window.complete { Found::Nowhere } else { Found::Later };
    };
    let within_word = before.is_some_and(char::is_alphanumeric);
    // `snake_case`, `2*3` and `2 * 3` are no emphasis.
    let opens = markers <= 3 && !next.is_whitespace() && !(within_word && (marker == '_' || markers == 1));
    if !opens {
        return Found::Nowhere;
    }
    let end = match closing_markers(window, marker, markers) {
        Found::Here(end) => end,
        Found::Nowhere => return Found::Nowhere,
        Found::Later => return Found::Later,
    };
    let inner = &window.line[markers..end];
    // `__init__` is a name.
    let name = marker == '_' && markers == 2 && inner.chars().all(|c| c.is_alphanumeric() || c == '_');
    match name {
        true => Found::Here(Element::Text(end + markers)),
        false => Found::Here(Element::Emphasis { length: end + markers, markers, inner }),
    }
}

/// Where the text between markers ends.
fn closing_markers(window: Window<'_>, marker: char, markers: usize) -> Found<usize> {
    let line = window.line;
    let mut at = markers;
    while let Some(c) = line[at..].chars().next() {
        match c {
            '\\' => at += 1 + line[at + 1..].chars().next().map_or(0, char::len_utf8),
            '`' => match code_length(Window { line: &line[at..], ..window }) {
                Found::Here(length) => at += length,
                Found::Nowhere => at += run(&line[at..], '`'),
                Found::Later => return Found::Later,
            },
            c if c == marker => {
                let length = run(&line[at..], marker);
                let (end, after) = (at + length, line[at + length..].chars().next());
                if after.is_none() && !window.complete {
                    return Found::Later;
                }
                let behind_text = !line[..at].ends_with(char::is_whitespace);
                let within_word = marker == '_' && after.is_some_and(char::is_alphanumeric);
                // Three markers may close an element inside, too.
                if (length == markers || length == 3 && markers < 3) && behind_text && !within_word {
                    return Found::Here(end - markers);
                }
                at = end;
            }
            c => at += c.len_utf8(),
        }
    }
    if window.complete { Found::Nowhere } else { Found::Later }
}

fn link(window: Window<'_>) -> Found<Element<'_>> {
    let undecided = || if window.complete { Found::Nowhere } else { Found::Later };
    let line = window.line;
    let Some(bracket) = line.find(']') else { return undecided() };
    match line[bracket + 1..].chars().next() {
        Some('(') => {}
        Some(_) => return Found::Nowhere,
        None => return undecided(),
    }
    let start = bracket + 2;
    let mut depth = 0;
    for (at, c) in line[start..].char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            ')' => {
                // A title in quotes may follow the address.
                let address = line[start..start + at].split_whitespace().next().unwrap_or_default();
                return match address.is_empty() || bracket == 1 {
                    true => Found::Nowhere,
                    false => Found::Here(Element::Link {
                        length: start + at + 1,
                        text: &line[1..bracket],
                        address: address.trim_start_matches('<').trim_end_matches('>'),
                    }),
                };
            }
            _ => {}
        }
    }
    undecided()
}

#[cfg(test)]
mod tests {
    use super::{Element, MAX_ELEMENT, first_element};

    fn emphasis(length: usize, markers: usize, inner: &str) -> Option<Element<'_>> {
        Some(Element::Emphasis { length, markers, inner })
    }

    #[test]
    fn elements_are_told_from_text() {
        let code = |length, text| Some(Element::Code { length, text });
        let link = |length, text, address| Some(Element::Link { length, text, address });
        let text = |length| Some(Element::Text(length));
        let cases = [
            ("plain *it*", text(6)),
            ("*it* x", emphasis(4, 1, "it")),
            ("**bold *in* it** x", emphasis(16, 2, "bold *in* it")),
            ("*in **bold***", emphasis(13, 1, "in **bold**")),
            ("***both***", emphasis(10, 3, "both")),
            ("_a b_", emphasis(5, 1, "a b")),
            ("*a `*` b*", emphasis(9, 1, "a `*` b")),
            ("*a \\* b*", emphasis(8, 1, "a \\* b")),
            ("* x*", text(1)),
            ("*x *", text(1)),
            ("*never", text(1)),
            ("****x****", text(4)),
            ("_a_b", text(1)),
            ("__init__", text(8)),
            ("`a*b`", code(5, "a*b")),
            ("`` `a` ``", code(9, "`a`")),
            ("`never", text(1)),
            ("\\*", Some(Element::Escape)),
            ("\\(x", text(1)),
            ("[a](http://b/(c)) d", link(17, "a", "http://b/(c)")),
            ("[a](<b> \"title\")", link(16, "a", "b")),
            ("[ ] task", text(1)),
            ("[](x)", text(1)),
        ];
        for (line, expected) in cases {
            assert_eq!(first_element(line, None, true), expected, "{line}");
        }
        assert_eq!(first_element("*3*4", Some('2'), true), text(1));
        assert_eq!(first_element("**b** x", Some('a'), true), emphasis(5, 2, "b"));
    }

    #[test]
    fn what_is_decided_stays_so() {
        let lines =
            ["*a* b", "**a** b", "`a` b", "[a](b) c", "_a_ b", "*a `b* c` d* e", "\\* a", "***a** b*"];
        for line in lines {
            let whole = first_element(line, None, true);
            for (end, _) in line.char_indices().skip(1) {
                let early = first_element(&line[..end], None, false);
                assert!(early.is_none() || early == whole, "{line}: {:?}", &line[..end]);
            }
        }
    }

    #[test]
    fn an_element_that_does_not_end_is_text() {
        for marker in ["*", "**", "`", "[", "_"] {
            let long = format!("{marker}{}", "é ".repeat(MAX_ELEMENT));
            assert_eq!(first_element(&long, None, false), Some(Element::Text(marker.len())), "{marker}");
            // The end comes too late.
            let late = format!("{long}{marker}");
            assert_eq!(first_element(&late, None, true), Some(Element::Text(marker.len())), "{marker}");
        }
    }
}
