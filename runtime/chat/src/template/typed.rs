//! Which characters of a rendered conversation come from its messages.
//!
//! A template is rendered twice: with the messages, and with messages in which characters are exchanged for others of
//! their kind (`a` for `n`, `3` for `8`), so that white space, length and order stay. Where the two texts differ, and
//! differ by that exchange, stands what somebody typed, wherever the template put it and whatever it cut off.
//!
//! A template that looks for a text in messages (`'</think>' in content`) must find it in the exchanged ones too: its own
//! literals are left alone where it cannot do without. Of such a text in the outcome, [`Search::survivors`] finds out
//! whose it is by writing it twice into the messages.

use std::ops::Range;
use thimble_runtime::chat::{Message, Speaker};

/// What renders the conversation with other texts; `None` where the template fails or refuses.
pub(super) type Render<'r> = dyn Fn(&[String]) -> Option<String> + 'r;

/// The byte ranges of `real` that the messages' texts are in, in order and apart from each other; a range may hold white
/// space and marks between two characters of a text. `None` where the template hides which they are.
///
/// `literals` are the template's, `real` is what `render` makes of the messages as they are.
pub(super) fn typed(
    messages: &[Message<'_>],
    literals: &[String],
    real: &str,
    render: &Render<'_>,
) -> Option<Vec<Range<usize>>> {
    let [all, careful] =
        [Letters::All, Letters::Careful].map(|letters| Search { messages, real, render, letters });
    let searches = [all, careful];
    let typed = searches.iter().find_map(|search| Some((search.exchanged(&[])?, search.letters)));
    let typed = typed
        .or_else(|| searches.iter().find_map(|search| Some((search.with_kept(literals)?, search.letters))));
    typed.map(|(typed, letters)| ranges(real, &typed, letters))
}

/// Which characters are exchanged.
#[derive(Clone, Copy)]
enum Letters {
    /// All but white space, control characters, and letters with two cases outside of ASCII.
    All,
    /// Nor what filters write in another way: quotes, backslashes, `&`, `<`, `>`, `%` and `/`.
    Careful,
}

/// A literal of the template's that stays what it is in the messages of some speakers.
#[derive(Clone, Copy)]
struct Kept<'l> {
    literal: &'l str,
    speakers: [bool; 3],
}

const SPEAKERS: [Speaker; 3] = [Speaker::System, Speaker::User, Speaker::Assistant];

impl Kept<'_> {
    fn holds(&self, speaker: Speaker) -> bool {
        SPEAKERS.iter().zip(self.speakers).any(|(&other, kept)| kept && other == speaker)
    }
}

struct Search<'s> {
    messages: &'s [Message<'s>],
    real: &'s str,
    render: &'s Render<'s>,
    letters: Letters,
}

impl Search<'_> {
    /// For each character of the text whether it was typed, found by exchanging all but what is `kept`.
    fn exchanged(&self, kept: &[Kept<'_>]) -> Option<Vec<bool>> {
        let texts: Vec<String> =
            self.messages.iter().map(|message| exchange(message, kept, self.letters)).collect();
        let other = (self.render)(&texts)?;
        let mut others = other.chars();
        let mut typed = Vec::with_capacity(self.real.len());
        for letter in self.real.chars() {
            let other = others.next()?;
            let exchanged = other.eq_ignore_ascii_case(&self.letters.exchange(letter));
            if other != letter && !exchanged {
                return None;
            }
            typed.push(other != letter);
        }
        others.next().is_none().then_some(typed)
    }

    /// The same for a template that looks at what the messages say: as few of its literals are kept as possible.
    fn with_kept(&self, literals: &[String]) -> Option<Vec<bool>> {
        let says = |speaker: Speaker, literal: &str| {
            self.messages.iter().any(|message| message.speaker == speaker && message.text.contains(literal))
        };
        let mut kept: Vec<Kept<'_>> = literals
            .iter()
            .filter(|literal| !literal.trim().is_empty())
            .map(|literal| Kept { literal, speakers: SPEAKERS.map(|speaker| says(speaker, literal)) })
            .filter(|kept| kept.speakers.contains(&true))
            .collect();
        let mut typed = self.exchanged(&kept)?;
        for place in 0..kept.len() {
            let all = kept[place].speakers;
            let singly = (0..3).filter(|&speaker| all[speaker]).map(|speaker| {
                let mut one = [false; 3];
                one[speaker] = true;
                one
            });
            for gone in std::iter::once(all).chain(singly) {
                let before = kept[place].speakers;
                if before.iter().zip(gone).all(|(&before, gone)| !(before && gone)) {
                    continue;
                }
                for (speaker, gone) in kept[place].speakers.iter_mut().zip(gone) {
                    *speaker &= !gone;
                }
                match self.exchanged(&kept) {
                    Some(found) => typed = found,
                    None => kept[place].speakers = before,
                }
            }
        }
        for kept in kept.iter().filter(|kept| kept.speakers.contains(&true)) {
            let survivors = self.survivors(kept).unwrap_or_else(|| {
                // Nobody can tell: then it is text. A control token of the template's is lost, none is forged.
                self.real.match_indices(kept.literal).map(|(at, _)| at).collect()
            });
            mark(&mut typed, self.real, &survivors, kept.literal.len());
        }
        Some(typed)
    }

    /// Where in the text a kept literal stands that was typed.
    ///
    /// It is written twice into the messages, then with a mark in front or behind: what comes out of a message shows it.
    /// `None` where the template makes something else of all three.
    fn survivors(&self, kept: &Kept<'_>) -> Option<Vec<usize>> {
        // No text has it: it stands for nothing.
        let mark = ('\u{e000}'..='\u{f8ff}').find(|&mark| !self.real.contains(mark))?;
        let literal = kept.literal;
        let forms = [format!("{literal}{literal}"), format!("{mark}{literal}"), format!("{literal}{mark}")];
        forms.iter().find_map(|form| {
            let write = |message: &Message<'_>| match kept.holds(message.speaker) {
                true => message.text.replace(literal, form),
                false => message.text.to_owned(),
            };
            let texts: Vec<String> = self.messages.iter().map(write).collect();
            let other = (self.render)(&texts)?;
            line_up(self.real, &other, literal, form, mark)
        })
    }
}

/// The places of `literal` in `real` where `other` has `form`, if all else is the same but for lone marks.
fn line_up(real: &str, other: &str, literal: &str, form: &str, mark: char) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    let (mut at, mut there) = (0, 0);
    loop {
        let (here, rest) = (&real[at..], &other[there..]);
        let typed = here.starts_with(literal)
            && rest.starts_with(form)
            // The template's own literal may stand in front of another one.
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

/// Marks the characters of the literals that begin at these bytes.
fn mark(typed: &mut [bool], real: &str, places: &[usize], len: usize) {
    for ((at, _), typed) in real.char_indices().zip(typed) {
        let before = places.partition_point(|&place| place <= at);
        *typed |= before.checked_sub(1).is_some_and(|index| at < places[index] + len);
    }
}

/// A message's text, all of it exchanged but what is kept.
fn exchange(message: &Message<'_>, kept: &[Kept<'_>], exchanged: Letters) -> String {
    let mut stays: Vec<Range<usize>> = Vec::new();
    for kept in kept.iter().filter(|kept| kept.holds(message.speaker)) {
        stays.extend(message.text.match_indices(kept.literal).map(|(at, text)| at..at + text.len()));
    }
    stays.sort_by_key(|range| range.start);
    let mut next = 0;
    let mut until = 0;
    let letters = message.text.char_indices().map(|(at, letter)| {
        while let Some(range) = stays.get(next).filter(|range| range.start <= at) {
            until = until.max(range.end);
            next += 1;
        }
        if at < until { letter } else { exchanged.exchange(letter) }
    });
    letters.collect()
}

impl Letters {
    /// Another character of the same kind; that one's is the first. What is not exchanged is itself.
    fn exchange(self, letter: char) -> char {
        const PAIRS: [[char; 2]; 12] = [
            ['-', '_'],
            ['.', '~'],
            ['!', '#'],
            ['$', '@'],
            ['(', ')'],
            ['[', ']'],
            ['{', '}'],
            ['*', '+'],
            [',', ';'],
            [':', '='],
            ['?', '^'],
            ['|', '`'],
        ];
        const DELICATE: [[char; 2]; 4] = [['<', '>'], ['"', '\''], ['\\', '/'], ['&', '%']];
        let turned = |first: u8, count: u8| {
            let place = (letter as u8 - first + count / 2) % count;
            char::from(first + place)
        };
        let delicate: &[[char; 2]] = match self {
            Letters::All => &DELICATE,
            Letters::Careful => &[],
        };
        match letter {
            'a'..='z' => turned(b'a', 26),
            'A'..='Z' => turned(b'A', 26),
            '0'..='9' => turned(b'0', 10),
            _ if letter.is_ascii() => {
                let pair = PAIRS.iter().chain(delicate).find(|pair| pair.contains(&letter));
                pair.map_or(letter, |&[a, b]| if letter == a { b } else { a })
            }
            _ => {
                let other = char::from_u32(u32::from(letter) ^ 1).unwrap_or(letter);
                if kind(letter).is_some() && kind(letter) == kind(other) { other } else { letter }
            }
        }
    }
}

/// What a template can see of a character that is not ASCII; `None` for one that changes under it.
fn kind(letter: char) -> Option<(bool, bool, usize)> {
    let changes = letter.to_lowercase().ne([letter]) || letter.to_uppercase().ne([letter]);
    let blank = letter.is_whitespace() || letter.is_control();
    (!changes && !blank).then(|| (letter.is_alphabetic(), letter.is_numeric(), letter.len_utf8()))
}

/// The byte ranges of the typed characters. What cannot be exchanged counts as typed between two that are.
fn ranges(real: &str, typed: &[bool], letters: Letters) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut bridged = false;
    for ((at, letter), &typed) in real.char_indices().zip(typed) {
        let end = at + letter.len_utf8();
        match found.last_mut() {
            Some(last) if typed && bridged => last.end = end,
            _ if typed => found.push(at..end),
            _ => {}
        }
        bridged = typed || (bridged && letters.exchange(letter) == letter);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Letters, line_up};

    #[test]
    fn exchanging_twice_is_nothing() {
        for letter in (0..0x3_0000).filter_map(char::from_u32) {
            for letters in [Letters::All, Letters::Careful] {
                let other = letters.exchange(letter);
                assert_eq!(letters.exchange(other), letter, "{letter:?}");
                assert_eq!(other.len_utf8(), letter.len_utf8());
                assert_eq!(other.is_whitespace(), letter.is_whitespace());
            }
        }
        for letter in "azAZ09<|im_end|>'\"/\\&%中あ한🙂".chars() {
            assert_ne!(Letters::All.exchange(letter), letter, "{letter}");
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
