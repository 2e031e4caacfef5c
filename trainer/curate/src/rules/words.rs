//! Words and sentences of a raw text, nearly as spaCy's blank English pipeline cuts them.
//!
//! Punctuation is cut off at both ends of what stands between spaces, then within it. Where the two differ, it is over
//! rare abbreviations, emoticons and units; the script `tests/golden/against_datatrove_rules.py` counts the documents
//! that are decided otherwise.

use super::characters::{is_space, is_terminal};

/// Abbreviations that keep their full stop, in lower case.
const ABBREVIATIONS: &str = "a.m. adm. apr. aug. bros. co. corp. d.c. dec. dr. e.g. feb. gen. gov. i.e. inc. jan. jr. \
                             jul. jun. ltd. mar. md. messrs. mo. mont. mr. mrs. ms. mt. nov. oct. p.m. ph.d. prof. rep. \
                             rev. sen. sep. sept. sr. st. v. v.s. vs.";
/// Endings that are words of their own, with either apostrophe.
const ENDINGS: [&str; 6] = ["ll", "re", "ve", "m", "d", "s"];
/// Characters that are cut off at both ends.
const EDGES: &str =
    "§%=—–,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧$£€¥฿₽₹₩…";

/// A text's words.
#[derive(Clone, Debug, Default)]
pub(super) struct Words<'t> {
    pub(super) words: Vec<&'t str>,
}

impl<'t> Words<'t> {
    pub(super) fn of(text: &'t str) -> Words<'t> {
        let mut words = Words::default();
        text.split(is_space).filter(|chunk| !chunk.is_empty()).for_each(|chunk| words.cut(chunk));
        words
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// The number of sentences: a word that is nothing but the end of one, and quotes and brackets behind it.
    pub(super) fn sentences(&self) -> usize {
        let is_end = |word: &str| word.chars().all(is_terminal);
        let closes = |word: &str| word.chars().all(|c| is_terminal(c) || EDGES.contains(c));
        let (mut count, mut ended) = (0, true);
        for word in &self.words {
            if ended && (count == 0 || !closes(word)) {
                count += 1;
                ended = false;
            }
            ended |= is_end(word);
        }
        count
    }

    fn cut(&mut self, chunk: &'t str) {
        if chunk.bytes().all(|byte| byte.is_ascii_lowercase()) && chunk != "cannot" {
            return self.words.push(chunk);
        }
        let mut rest = chunk;
        let mut behind = Vec::new();
        while !rest.is_empty() && !is_abbreviation(rest) {
            let prefix = prefix(rest);
            if prefix > 0 && prefix < rest.len() {
                self.words.push(&rest[..prefix]);
                rest = &rest[prefix..];
                continue;
            }
            let suffix = suffix(rest);
            if suffix > 0 && suffix < rest.len() {
                behind.push(&rest[rest.len() - suffix..]);
                rest = &rest[..rest.len() - suffix];
                continue;
            }
            break;
        }
        self.within(rest);
        self.words.extend(behind.into_iter().rev());
    }

    /// Cuts a word at the signs within it.
    fn within(&mut self, word: &'t str) {
        if is_abbreviation(word) || is_address(word) {
            return self.words.push(word);
        }
        let mut start = 0;
        let mut previous: Option<char> = None;
        let mut characters = word.char_indices().peekable();
        while let Some((at, c)) = characters.next() {
            let mut end = at + c.len_utf8();
            // Several full stops or hyphens are one sign.
            if matches!(c, '.' | '-') {
                while let Some(&(next_at, next)) = characters.peek().filter(|(_, next)| *next == c) {
                    end = next_at + next.len_utf8();
                    characters.next();
                }
            }
            let next = characters.peek().map(|&(_, next)| next);
            if at > start && is_infix(&word[at..end], previous, next) {
                self.words.push(&word[start..at]);
                self.words.push(&word[at..end]);
                start = end;
            }
            previous = Some(c);
        }
        if start < word.len() {
            self.words.push(&word[start..]);
        }
    }
}

fn is_abbreviation(word: &str) -> bool {
    word.len() <= 7 && word.ends_with('.') && {
        let lower = word.to_lowercase();
        ABBREVIATIONS.split_ascii_whitespace().any(|other| other == lower)
    }
}

/// Whether a word is the address of a page.
fn is_address(word: &str) -> bool {
    let host =
        word.split_once("://").map(|(_, rest)| rest).or_else(|| word.starts_with("www.").then_some(word));
    let host = host.and_then(|rest| rest.split(['/', '?', '#', ':']).next()).unwrap_or_default();
    let top = host.rsplit_once('.').map_or("", |(_, top)| top);
    top.len() >= 2 && top.chars().all(char::is_alphabetic)
}

/// Bytes of the sign that a word begins with.
fn prefix(word: &str) -> usize {
    let dots = word.bytes().take_while(|&byte| byte == b'.').count();
    if dots > 1 {
        return dots;
    }
    match word.chars().next() {
        Some(c) if EDGES.contains(c) || is_symbol(c) => c.len_utf8(),
        Some('+') if !word[1..].starts_with(|c: char| c.is_ascii_digit()) => 1,
        _ => 0,
    }
}

/// Bytes of the sign or the ending that a word ends with.
fn suffix(word: &str) -> usize {
    let dots = word.bytes().rev().take_while(|&byte| byte == b'.').count();
    if dots > 1 {
        return dots;
    }
    let mut backwards = word.chars().rev();
    let (Some(last), before, second) = (backwards.next(), backwards.next(), backwards.next()) else {
        return 0;
    };
    if EDGES.contains(last) || is_symbol(last) {
        return last.len_utf8();
    }
    if last == '.' {
        let is_upper = |c: Option<char>| c.is_some_and(char::is_uppercase);
        let ends = before.is_some_and(|c| {
            (c.is_alphanumeric() && !c.is_uppercase()) || "%²-+".contains(c) || EDGES.contains(c)
        });
        return usize::from(ends || (is_upper(before) && is_upper(second)));
    }
    if last == '+' && before.is_some_and(|c| c.is_ascii_digit()) {
        return 1;
    }
    contraction(word)
}

/// Bytes of the contraction that a word ends with: `n't`, `'ll`, `not` of `cannot`.
fn contraction(word: &str) -> usize {
    if word.eq_ignore_ascii_case("cannot") {
        return 3;
    }
    for apostrophe in ['\'', '’'] {
        let Some((before, ending)) = word.rsplit_once(apostrophe) else { continue };
        if before.is_empty() {
            continue;
        }
        if ending.eq_ignore_ascii_case("t") && before.ends_with(['n', 'N']) && before.len() > 1 {
            return word.len() - before.len() + 1;
        }
        if ENDINGS.iter().any(|other| ending.eq_ignore_ascii_case(other)) {
            return word.len() - before.len();
        }
    }
    0
}

/// Pictures and signs that stand alone.
fn is_symbol(c: char) -> bool {
    matches!(c, '¦' | '©' | '®' | '°' | '℗' | '™' | '\u{2190}'..='\u{23FF}' | '\u{2500}'..='\u{27BF}' | '\u{1F000}'..='\u{1FAFF}')
}

/// Whether a sign between two characters is a word of its own.
fn is_infix(sign: &str, before: Option<char>, after: Option<char>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    let letter = |c: char| c.is_alphabetic();
    let word = |c: char| c.is_alphanumeric();
    match sign {
        "." => {
            (letter(before) && !before.is_uppercase() || "'\"”’)".contains(before)) && after.is_uppercase()
        }
        "," => letter(before) && letter(after),
        "-" | "--" | "---" | "–" | "—" | "~" => {
            word(before) && letter(after) || sign == "-" && before.is_ascii_digit() && after.is_ascii_digit()
        }
        ":" | "<" | ">" | "=" | "/" => word(before) && letter(after),
        "+" | "*" | "^" => before.is_ascii_digit() && (after.is_ascii_digit() || after == '-'),
        "…" => true,
        _ => sign.starts_with("..") || sign.chars().next().is_some_and(is_symbol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> String {
        Words::of(text).words.join(" ")
    }

    #[test]
    fn punctuation_and_contractions_are_words() {
        let table = [
            ("Hello, world!", "Hello , world !"),
            ("I can't; it's \"fine\" (we'll see).", "I ca n't ; it 's \" fine \" ( we 'll see ) ."),
            ("cannot Don’t", "can not Do n’t"),
            ("Dr. Who met the U.S. at 5 p.m. today.", "Dr. Who met the U.S. at 5 p.m. today ."),
            ("wait...what? end-of-line a/b 3-4 x=y", "wait ... what ? end - of - line a / b 3 - 4 x = y"),
            (
                "see https://example.org/a?b=c, or www.a-b.com",
                "see https://example.org/a?b=c , or www.a-b.com",
            ),
            ("", ""),
            (" \u{2003}\t\n", ""),
            ("...", "..."),
            ("中文。日本", "中文。日本"),
            ("'", "'"),
        ];
        for (text, words) in table {
            assert_eq!(cut(text), words, "{text:?}");
        }
    }

    #[test]
    fn sentences_end_behind_their_full_stop() {
        let table = [
            ("", 0),
            ("no end", 1),
            ("One. Two! Three?", 3),
            ("Mr. Smith (a friend) left.) And more", 2),
            ("She said \"no.\" Then left.", 2),
            ("What?! Really...", 2),
            ("中文。", 1),
        ];
        for (text, count) in table {
            assert_eq!(Words::of(text).sentences(), count, "{text:?}");
        }
    }
}
