//! What a line of Markdown begins with.

/// A code block between fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    /// A backtick or a tilde.
    pub(super) marker: char,
    /// How many there are at its beginning.
    pub(super) length: usize,
    /// Quotes that it is in.
    pub(super) quotes: usize,
}

/// The beginning of a line. Lengths are bytes with the indentation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineStart {
    /// A fence: the line has nothing else, but perhaps the name of a language.
    Fence(Fence),
    /// A row of a table.
    Table,
    /// One to six `#` and the white space behind them.
    Heading { level: usize, length: usize },
    /// The marker of an item, and a space.
    Bullet(usize),
    /// The number of an item, and a space.
    Number(usize),
    /// `>`, and a space if there is one.
    Quote(usize),
    /// A thematic break: three or more of `-`, `*` or `_`, and white space. It is the whole line.
    Rule(usize),
    /// Anything else.
    Text,
}

/// Bytes after which a line is text, whatever follows.
const MAX_START: usize = 120;

/// What `line` begins with, in the code block `fence` if there is one; `None` if more of the line decides. Where `complete`,
/// there is no more of it.
pub(super) fn line_start(line: &str, complete: bool, fence: Option<Fence>) -> Option<LineStart> {
    let complete = complete || line.len() >= MAX_START;
    let line = &line[..line.floor_char_boundary(MAX_START)];
    let rest = line.trim_start_matches([' ', '\t']);
    let indent = line.len() - rest.len();
    let undecided = || complete.then_some(LineStart::Text);
    let Some(first) = rest.chars().next() else { return undecided() };
    let run = rest.len() - rest.trim_start_matches(first).len();
    let after = &rest[run..];
    if let Some(open) = fence {
        let closes = first == open.marker && after.trim().is_empty();
        return match closes {
            false => Some(LineStart::Text),
            true if !complete => None,
            true if run >= open.length => Some(LineStart::Fence(open)),
            true => Some(LineStart::Text),
        };
    }
    let spaced = |marker: usize, start: fn(usize) -> LineStart| match rest[marker..].chars().next() {
        Some(' ' | '\t') => Some(start(indent + marker + 1)),
        Some(_) => Some(LineStart::Text),
        None => undecided(),
    };
    let markers = rest.chars().filter(|&c| c == first).count();
    let only_markers = rest.chars().all(|c| c == first || c == ' ' || c == '\t');
    if matches!(first, '-' | '*' | '_') && only_markers {
        match complete {
            false => return None,
            true if markers >= 3 && line.len() < MAX_START => return Some(LineStart::Rule(line.len())),
            true => {}
        }
    }
    match first {
        '`' | '~' if after.is_empty() && !complete => None,
        // A backtick in the rest of the line makes it a text with code.
        '`' if run >= 3 && after.contains('`') => Some(LineStart::Text),
        '`' if run >= 3 && !complete => None,
        '`' | '~' if run >= 3 => Some(LineStart::Fence(Fence { marker: first, length: run, quotes: 0 })),
        '#' if run <= 6 => {
            let text = after.trim_start();
            match after.starts_with(char::is_whitespace) {
                true if text.is_empty() => undecided(),
                true => Some(LineStart::Heading { level: run, length: line.len() - text.len() }),
                false if after.is_empty() => undecided(),
                false => Some(LineStart::Text),
            }
        }
        '-' | '+' | '*' => spaced(1, LineStart::Bullet),
        '0'..='9' => {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            match rest[digits..].chars().next() {
                Some('.' | ')') if digits <= 9 => spaced(digits + 1, LineStart::Number),
                Some(_) => Some(LineStart::Text),
                None => undecided(),
            }
        }
        '>' => match rest[1..].chars().next() {
            Some(' ') => Some(LineStart::Quote(indent + 2)),
            Some(_) => Some(LineStart::Quote(indent + 1)),
            None if complete => Some(LineStart::Quote(indent + 1)),
            None => None,
        },
        '|' => Some(LineStart::Table),
        _ => Some(LineStart::Text),
    }
}
