//! GBNF text to rules.

use super::{Node, Rule, syntax};
use crate::error::GrammarError;
use std::collections::HashMap;

/// Parses all rules; the names that they use exist.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, GrammarError> {
    let mut parser = Parser { rest: text, text, depth: 0, names: HashMap::new(), rules: Vec::new() };
    parser.space(true);
    while !parser.rest.is_empty() {
        parser.rule()?;
        parser.space(true);
    }
    let rules = parser.rules.into_iter().map(|(name, body)| match body {
        Some(body) => Ok(Rule { name, body }),
        None => Err(syntax(format!("rule `{name}` is used and not defined"))),
    });
    rules.collect()
}

/// Deepest nesting of groups.
const MOST_DEPTH: usize = 128;

struct Parser<'t> {
    rest: &'t str,
    text: &'t str,
    depth: usize,
    names: HashMap<String, usize>,
    rules: Vec<(String, Option<Node>)>,
}

impl<'t> Parser<'t> {
    fn wrong(&self, reason: impl std::fmt::Display) -> GrammarError {
        let line = self.text[..self.text.len() - self.rest.len()].matches('\n').count() + 1;
        syntax(format!("line {line}: {reason}"))
    }

    /// What comes next, for an error.
    fn found(&self) -> String {
        self.rest.chars().next().map_or("the end".to_string(), |letter| format!("`{letter}`"))
    }

    /// Skips spaces and comments, and line ends where they end no rule.
    fn space(&mut self, lines: bool) {
        loop {
            let plain =
                |letter: char| letter == ' ' || letter == '\t' || lines && matches!(letter, '\n' | '\r');
            self.rest = self.rest.trim_start_matches(plain);
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = &self.rest[self.rest.find(['\n', '\r']).unwrap_or(self.rest.len())..];
        }
    }

    fn eat(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn name(&mut self) -> Option<&'t str> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!name.is_empty()).then_some(name)
    }

    fn index(&mut self, name: &str) -> usize {
        let next = self.rules.len();
        let index = *self.names.entry(name.to_string()).or_insert(next);
        if index == next {
            self.rules.push((name.to_string(), None));
        }
        index
    }

    fn rule(&mut self) -> Result<(), GrammarError> {
        let name =
            self.name().ok_or_else(|| self.wrong(format!("expected a rule, found {}", self.found())))?;
        self.space(false);
        if !self.eat("::=") {
            return Err(self.wrong(format!("expected `::=` after `{name}`, found {}", self.found())));
        }
        let index = self.index(name);
        if self.rules[index].1.is_some() {
            return Err(self.wrong(format!("rule `{name}` is defined twice")));
        }
        self.space(true);
        let body = self.choice(false)?;
        self.rules[index].1 = Some(body);
        if !self.rest.is_empty() && !self.rest.starts_with(['\n', '\r']) {
            return Err(self.wrong(format!("expected the end of the rule, found {}", self.found())));
        }
        Ok(())
    }

    fn choice(&mut self, nested: bool) -> Result<Node, GrammarError> {
        let mut options = vec![self.sequence(nested)?];
        while self.eat("|") {
            self.space(true);
            options.push(self.sequence(nested)?);
        }
        Ok(if options.len() == 1 { options.swap_remove(0) } else { Node::Choice(options) })
    }

    fn sequence(&mut self, nested: bool) -> Result<Node, GrammarError> {
        let mut items = Vec::new();
        while let Some(item) = self.item(nested)? {
            items.push(self.repeated(item)?);
            self.space(nested);
        }
        Ok(match items.len() {
            0 => Node::Text(String::new()),
            1 => items.swap_remove(0),
            _ => Node::Sequence(items),
        })
    }

    fn item(&mut self, nested: bool) -> Result<Option<Node>, GrammarError> {
        Ok(Some(match self.rest.chars().next() {
            None | Some('|' | ')' | '\n' | '\r') => return Ok(None),
            Some('"') => {
                self.eat("\"");
                let mut text = String::new();
                while !self.eat("\"") {
                    text.push(self.letter()?);
                }
                Node::Text(text)
            }
            Some('[') => self.class()?,
            Some('.') => {
                self.eat(".");
                Node::Any
            }
            Some('(') => {
                self.eat("(");
                self.depth += 1;
                if self.depth > MOST_DEPTH {
                    return Err(self.wrong(format!("groups are nested more than {MOST_DEPTH} levels deep")));
                }
                self.space(true);
                let group = self.choice(true)?;
                if !self.eat(")") {
                    return Err(self.wrong(format!("expected `)`, found {}", self.found())));
                }
                self.depth -= 1;
                group
            }
            Some('<' | '!') => {
                let reason = "a token by its id or text has no translation to Lark: write its text in quotes";
                return Err(self.wrong(reason));
            }
            Some(_) => {
                let before = self.rest;
                let Some(name) = self.name() else {
                    return Err(self.wrong(format!("expected a part of a rule, found {}", self.found())));
                };
                if !nested {
                    // The next rule may begin on the same line only after a line end, which ends this one.
                    let mut ahead = Parser {
                        rest: self.rest,
                        text: self.text,
                        depth: 0,
                        names: HashMap::new(),
                        rules: Vec::new(),
                    };
                    ahead.space(false);
                    if ahead.eat("::=") {
                        self.rest = before;
                        return Err(self.wrong(format!("expected a line end before rule `{name}`")));
                    }
                }
                Node::Rule(self.index(name))
            }
        }))
    }

    fn class(&mut self) -> Result<Node, GrammarError> {
        self.eat("[");
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let low = self.letter()?;
            let high = if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.eat("-");
                self.letter()?
            } else {
                low
            };
            if low > high {
                return Err(
                    self.wrong(format!("expected a range from low to high, found {low:?} to {high:?}"))
                );
            }
            ranges.push((low, high));
        }
        if ranges.is_empty() {
            return Err(self.wrong("expected a character between `[` and `]`"));
        }
        Ok(Node::Class { negated, ranges })
    }

    /// A character of a text or a class, perhaps escaped.
    fn letter(&mut self) -> Result<char, GrammarError> {
        let mut letters = self.rest.chars();
        let first = letters.next().filter(|&letter| !matches!(letter, '\n' | '\r'));
        let first = first
            .ok_or_else(|| self.wrong("expected the end of a text or class before the end of the line"))?;
        self.rest = letters.as_str();
        if first != '\\' {
            return Ok(first);
        }
        let kind = letters.next();
        self.rest = letters.as_str();
        let digits = match kind {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(plain @ ('\\' | '"' | '[' | ']' | '-' | '^')) => return Ok(plain),
            _ => return Err(self.wrong("expected one of n r t x u U \\ \" [ ] after a backslash")),
        };
        let code = self.rest.get(..digits).and_then(|code| u32::from_str_radix(code, 16).ok());
        let letter = code.and_then(char::from_u32);
        let letter = letter
            .ok_or_else(|| self.wrong(format!("expected {digits} hexadecimal digits of a character")))?;
        self.rest = &self.rest[digits..];
        Ok(letter)
    }

    fn repeated(&mut self, item: Node) -> Result<Node, GrammarError> {
        let (least, most) = match self.rest.chars().next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counted(item),
            _ => return Ok(item),
        };
        self.rest = &self.rest[1..];
        Ok(Node::Repeat(Box::new(item), least, most))
    }

    /// `{m}`, `{m,}` or `{m,n}` after an item.
    fn counted(&mut self, item: Node) -> Result<Node, GrammarError> {
        let end = self.rest.find('}').ok_or_else(|| self.wrong("expected `}` after `{`"))?;
        let (count, rest) = self.rest.split_at(end + 1);
        let inner = &count[1..end];
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let bounds = match inner.split_once(',') {
            None => number(inner).map(|count| (count, Some(count))),
            Some((low, high)) if high.trim().is_empty() => number(low).map(|low| (low, None)),
            Some((low, high)) => number(low).zip(number(high)).map(|(low, high)| (low, Some(high))),
        };
        let bounds = bounds.filter(|(low, high)| high.is_none_or(|high| *low <= high));
        let (low, high) =
            bounds.ok_or_else(|| self.wrong(format!("expected {{m}}, {{m,}} or {{m,n}}, found {count}")))?;
        self.rest = rest;
        Ok(Node::Repeat(Box::new(item), low, high))
    }
}
