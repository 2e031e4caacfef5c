//! Finds the characters of a rendered conversation that come from its messages.
//!
//! A template is rendered twice: with the messages, and with messages in which each character is substituted by another of
//! its kind (`a` by `n`, `3` by `8`), which preserves white space, length and order. Where the outputs differ by that
//! substitution, the text was typed, wherever the template put it and whatever it cut off.
//!
//! A template that searches messages for a text (`'</think>' in content`) must find it in the substituted ones too: such
//! literals of the template are kept if rendering fails otherwise. [`Search::typed_literals`] then finds out which of them were
//! typed by writing them twice into the messages.

use std::ops::Range;
use thimble_runtime::chat::{Message, Role};

/// Renders the conversation with other texts; `None` if the template fails or refuses.
pub(super) type Render<'r> = dyn Fn(&[String]) -> Option<String> + 'r;

/// Byte ranges of text that was typed, in order and disjoint; `None` if the template hides it.
pub type TypedRanges = Option<Vec<Range<usize>>>;

/// The byte ranges of the messages' texts in `real`, in order and disjoint; a range may include white space and marks between
/// two characters of a text. `None` if the template hides them.
///
/// `literals` are the template's string literals; `real` is the output of `render` for the original messages.
/// With `only`, the ranges of that message's text alone.
pub(super) fn typed(
    messages: &[Message<'_>],
    only: Option<usize>,
    literals: &[String],
    real: &str,
    render: &Render<'_>,
) -> TypedRanges {
    let [all, unescaped] = [Substitution::All, Substitution::Unescaped].map(|substitution| Search {
        messages,
        only,
        real,
        render,
        substitution,
    });
    let searches = [all, unescaped];
    let typed = searches.iter().find_map(|search| Some((search.substituted(&[])?, search.substitution)));
    let typed = typed.or_else(|| {
        searches.iter().find_map(|search| Some((search.with_kept(literals)?, search.substitution)))
    });
    typed.map(|(typed, substitution)| ranges(real, &typed, substitution))
}

/// Which characters are substituted.
#[derive(Clone, Copy)]
enum Substitution {
    /// All but white space, control characters, and cased letters outside ASCII.
    All,
    /// Nor those that filters escape: quotes, backslashes, `&`, `<`, `>`, `%` and `/`.
    Unescaped,
}

/// A literal of the template that is kept in the messages of some roles.
#[derive(Clone, Copy)]
struct Kept<'l> {
    literal: &'l str,
    roles: [bool; ROLES.len()],
}

const ROLES: [Role; 4] = [Role::System, Role::User, Role::Assistant, Role::Tool];

impl Kept<'_> {
    fn holds(&self, role: Role) -> bool {
        ROLES.iter().zip(self.roles).any(|(&other, kept)| kept && other == role)
    }
}

struct Search<'s> {
    messages: &'s [Message<'s>],
    only: Option<usize>,
    real: &'s str,
    render: &'s Render<'s>,
    substitution: Substitution,
}

impl Search<'_> {
    fn concerns(&self, index: usize) -> bool {
        self.only.is_none_or(|only| only == index)
    }

    /// For each character of the text whether it was typed, found by substituting all but the `kept` literals.
    fn substituted(&self, kept: &[Kept<'_>]) -> Option<Vec<bool>> {
        let text = |(index, message): (usize, &Message<'_>)| match self.concerns(index) {
            true => substitute(message, kept, self.substitution),
            false => message.text.to_owned(),
        };
        let texts: Vec<String> = self.messages.iter().enumerate().map(text).collect();
        let other = (self.render)(&texts)?;
        let mut others = other.chars();
        let mut typed = Vec::with_capacity(self.real.len());
        for letter in self.real.chars() {
            let other = others.next()?;
            let substituted = other.eq_ignore_ascii_case(&self.substitution.substitute(letter));
            if other != letter && !substituted {
                return None;
            }
            typed.push(other != letter);
        }
        others.next().is_none().then_some(typed)
    }

    /// The same for a template that searches the messages: keeps as few of its literals as possible.
    fn with_kept(&self, literals: &[String]) -> Option<Vec<bool>> {
        let contains = |role: Role, literal: &str| {
            let mut messages = self.messages.iter().enumerate().filter(|(index, _)| self.concerns(*index));
            messages.any(|(_, message)| message.role == role && message.text.contains(literal))
        };
        let mut kept: Vec<Kept<'_>> = literals
            .iter()
            .filter(|literal| !literal.trim().is_empty())
            .map(|literal| Kept { literal, roles: ROLES.map(|role| contains(role, literal)) })
            .filter(|kept| kept.roles.contains(&true))
            .collect();
        let mut typed = self.substituted(&kept)?;
        for place in 0..kept.len() {
            let all = kept[place].roles;
            let singly = (0..ROLES.len()).filter(|&role| all[role]).map(|role| {
                let mut one = [false; ROLES.len()];
                one[role] = true;
                one
            });
            for gone in std::iter::once(all).chain(singly) {
                let before = kept[place].roles;
                if before.iter().zip(gone).all(|(&before, gone)| !(before && gone)) {
                    continue;
                }
                for (role, gone) in kept[place].roles.iter_mut().zip(gone) {
                    *role &= !gone;
                }
                match self.substituted(&kept) {
                    Some(found) => typed = found,
                    None => kept[place].roles = before,
                }
            }
        }
        for kept in kept.iter().filter(|kept| kept.roles.contains(&true)) {
            let typed_literals = self.typed_literals(kept).unwrap_or_else(|| {
                // Unknown, so it counts as typed: a special token of the template is lost, but none is forged.
                self.real.match_indices(kept.literal).map(|(at, _)| at).collect()
            });
            mark(&mut typed, self.real, &typed_literals, kept.literal.len());
        }
        Some(typed)
    }

    /// Positions in the text of a kept literal that was typed.
    ///
    /// It is written twice into the messages, then with a mark before or after it, which shows where it ends up.
    /// `None` if the template changes all three forms.
    fn typed_literals(&self, kept: &Kept<'_>) -> Option<Vec<usize>> {
        // A private-use character that the text does not contain.
        let mark = ('\u{e000}'..='\u{f8ff}').find(|&mark| !self.real.contains(mark))?;
        let literal = kept.literal;
        let forms = [format!("{literal}{literal}"), format!("{mark}{literal}"), format!("{literal}{mark}")];
        forms.iter().find_map(|form| {
            let write = |(index, message): (usize, &Message<'_>)| match kept.holds(message.role) {
                true if self.concerns(index) => message.text.replace(literal, form),
                _ => message.text.to_owned(),
            };
            let texts: Vec<String> = self.messages.iter().enumerate().map(write).collect();
            let other = (self.render)(&texts)?;
            line_up(self.real, &other, literal, form, mark)
        })
    }
}

/// The positions of `literal` in `real` where `other` has `form`, if all else is equal but for single marks.
fn line_up(real: &str, other: &str, literal: &str, form: &str, mark: char) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    let (mut at, mut there) = (0, 0);
    loop {
        let (here, rest) = (&real[at..], &other[there..]);
        let typed = here.starts_with(literal)
            && rest.starts_with(form)
            // The template's own literal may come before another one.
            && !(form.starts_with(literal) && here[literal.len()..].starts_with(&form[literal.len()..]));
        if typed {
            found.push(at);
            at += literal.len();
            there += form.len();
            continue;
        }
        match (here.chars().next(), rest.chars().next()) {
            (None, None) => return Some(found),
            (Some(letter), Some(other)) if letter == other => {
                at += letter.len_utf8();
                there += letter.len_utf8();
            }
            (_, Some(other)) if other == mark => there += mark.len_utf8(),
            _ => return None,
        }
    }
}

/// Marks the characters of the literals at these byte positions.
fn mark(typed: &mut [bool], real: &str, places: &[usize], len: usize) {
    for ((at, _), typed) in real.char_indices().zip(typed) {
        let before = places.partition_point(|&place| place <= at);
        *typed |= before.checked_sub(1).is_some_and(|index| at < places[index] + len);
    }
}

/// A message's text with everything substituted but the kept literals.
fn substitute(message: &Message<'_>, kept: &[Kept<'_>], substitution: Substitution) -> String {
    let mut stays: Vec<Range<usize>> = Vec::new();
    for kept in kept.iter().filter(|kept| kept.holds(message.role)) {
        stays.extend(message.text.match_indices(kept.literal).map(|(at, text)| at..at + text.len()));
    }
    stays.sort_by_key(|range| range.start);
    let mut next = 0;
    let mut until = 0;
    let substituted = message.text.char_indices().map(|(at, letter)| {
        while let Some(range) = stays.get(next).filter(|range| range.start <= at) {
            until = until.max(range.end);
            next += 1;
        }
        if at < until { letter } else { substitution.substitute(letter) }
    });
    substituted.collect()
}

impl Substitution {
    /// Another character of the same kind, whose substitute is `letter` again; `letter` itself if it is not substituted.
    fn substitute(self, letter: char) -> char {
        const PAIRS: &[u8] = b"-_.~!#$@()[]{}*+,;:=?^|`<>\"'\\/&%";
        // Filters escape the characters of the last four pairs.
        const UNESCAPED: usize = PAIRS.len() - 8;
        let rotated = |first: u8, count: u8| {
            let place = (letter as u8 - first + count / 2) % count;
            char::from(first + place)
        };
        let pairs = match self {
            Substitution::All => PAIRS,
            Substitution::Unescaped => &PAIRS[..UNESCAPED],
        };
        match letter {
            'a'..='z' => rotated(b'a', 26),
            'A'..='Z' => rotated(b'A', 26),
            '0'..='9' => rotated(b'0', 10),
            _ if letter.is_ascii() => {
                let place = pairs.iter().position(|&other| char::from(other) == letter);
                place.map_or(letter, |place| char::from(pairs[place ^ 1]))
            }
            _ => {
                let other = char::from_u32(u32::from(letter) ^ 1).unwrap_or(letter);
                if kind(letter).is_some() && kind(letter) == kind(other) { other } else { letter }
            }
        }
    }
}

/// The properties of a non-ASCII character that a template can test; `None` if case conversion changes it, or it is blank.
fn kind(letter: char) -> Option<(bool, bool, usize)> {
    let changes = letter.to_lowercase().ne([letter]) || letter.to_uppercase().ne([letter]);
    let blank = letter.is_whitespace() || letter.is_control();
    (!changes && !blank).then(|| (letter.is_alphabetic(), letter.is_numeric(), letter.len_utf8()))
}

/// The byte ranges of the typed characters. A character that is not substituted counts as typed between two that are.
fn ranges(real: &str, typed: &[bool], substitution: Substitution) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut bridged = false;
    for ((at, letter), &typed) in real.char_indices().zip(typed) {
        let end = at + letter.len_utf8();
        match found.last_mut() {
            Some(last) if typed && bridged => last.end = end,
            _ if typed => found.push(at..end),
            _ => {}
        }
        bridged = typed || (bridged && substitution.substitute(letter) == letter);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Substitution, line_up};

    #[test]
    fn substituting_twice_changes_nothing() {
        for letter in (0..0x3_0000).filter_map(char::from_u32) {
            for substitution in [Substitution::All, Substitution::Unescaped] {
                let other = substitution.substitute(letter);
                assert_eq!(substitution.substitute(other), letter, "{letter:?}");
                assert_eq!(other.len_utf8(), letter.len_utf8());
                assert_eq!(other.is_whitespace(), letter.is_whitespace());
            }
        }
        for letter in "azAZ09<|im_end|>'\"/\\&%中あ한🙂".chars() {
            assert_ne!(Substitution::All.substitute(letter), letter, "{letter}");
        }
    }

    #[test]
    fn typed_literals_are_told_from_the_template_s() {
        assert_eq!(line_up("a[x]b[x]", "a[x][x]b[x]", "[x]", "[x][x]", '#'), Some(vec![1]));
        assert_eq!(line_up("a[x]b[x]", "a[x]b[x]", "[x]", "[x][x]", '#'), Some(vec![]));
        assert_eq!(line_up("a[x]b", "a#[x]b", "[x]", "#[x]", '#'), Some(vec![1]));
        assert_eq!(line_up("a b", "a# b", "[x]", "#[x]", '#'), Some(vec![]));
        assert_eq!(line_up("ab", "ac", "[x]", "#[x]", '#'), None);
    }
}
