//! GBNF, the grammar notation of llama.cpp, translated to Lark.
//!
//! Rules that do not contain themselves become terminals, which are regular expressions; the others stay rules. Terminals are
//! matched greedily: a text that only a shorter match would allow is not generated.

mod lark;
mod parse;

use crate::error::GrammarError;

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// A literal text, perhaps empty.
    Text(String),
    /// One character of these ranges, or of none of them.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Any character.
    Any,
    /// A rule, by its index.
    Rule(usize),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    /// At least and at most so many times.
    Repeat(Box<Node>, u32, Option<u32>),
}

/// A rule with its name.
#[derive(Clone, Debug)]
struct Rule {
    name: String,
    body: Node,
}

/// The Lark grammar for the GBNF grammar `text`.
pub(crate) fn to_lark(text: &str) -> Result<String, GrammarError> {
    let rules = parse::parse(text)?;
    let root = rules.iter().position(|rule| rule.name == "root");
    let root = root.ok_or_else(|| syntax("expected a rule `root`, where every answer begins".to_string()))?;
    Ok(lark::write(&rules, root))
}

fn syntax(reason: String) -> GrammarError {
    GrammarError::Syntax { language: "GBNF grammar", reason }
}

#[cfg(test)]
mod tests {
    use super::to_lark;

    #[test]
    fn rules_without_recursion_become_terminals() {
        let lark = to_lark("root ::= \"a\" digit+ # a comment\ndigit ::= [0-9]\n").unwrap();
        assert_eq!(lark, "start: T0\nT0: /a/ (T1)+\nT1: /[0-9]/\n");
    }

    #[test]
    fn recursive_rules_stay_rules() {
        let lark = to_lark("root ::= \"(\" root? \")\" | [^)\\x00-\\x1F] .").unwrap();
        assert_eq!(
            lark,
            "start: r0\nr0: X0 (r0)? X1 | X2\nX0: /\\x{28}/\nX1: /\\x{29}/\nX2: /[^\\x{29}\\x{0}-\\x{1F}]/ /(?s:.)/\n"
        );
    }

    #[test]
    fn what_has_no_translation_is_refused_by_name() {
        for (text, expected) in [
            ("root ::= missing", "rule `missing`"),
            ("start ::= \"a\"", "rule `root`"),
            ("root ::= \"a", "line 1"),
            ("root ::= \"a\"\nroot ::= \"b\"", "twice"),
            ("root ::= <[7]>", "token"),
            ("root ::= !<[7]>", "token"),
            ("root ::= [z-a]", "range"),
            ("root ::= \"a\"{3,2}", "{3,2}"),
            ("root ::= (\"a\"", "`)`"),
            ("root = \"a\"", "`::=`"),
            ("root ::= \"\\uD800\"", "character"),
            ("root ::= *", "line 1"),
        ] {
            let error = to_lark(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
