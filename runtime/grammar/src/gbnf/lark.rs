//! Rules of GBNF to Lark text.

use super::{Node, Rule};
use crate::source::{escape, escaped};
use std::fmt::Write;

/// Lark for `rules`: `start` is the rule `root`.
pub(super) fn write(rules: &[Rule], root: usize) -> String {
    let regular = regular(rules);
    let mut writer = Writer { regular, terminals: Vec::new() };
    let mut out = format!("start: {}\n", writer.name(root));
    for (index, rule) in rules.iter().enumerate() {
        let name = writer.name(index);
        let body = if writer.regular[index] { writer.terminal(&rule.body) } else { writer.rule(&rule.body) };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name}: {body}");
    }
    for (index, terminal) in writer.terminals.iter().enumerate() {
        let _ = writeln!(out, "X{index}: {terminal}");
    }
    out
}

/// Which rules are regular: those that do not contain themselves, by way of others either.
fn regular(rules: &[Rule]) -> Vec<bool> {
    let uses: Vec<Vec<usize>> = rules.iter().map(|rule| used(&rule.body)).collect();
    let mut regular = vec![false; rules.len()];
    // Each round finds the rules that use regular ones only.
    loop {
        let next: Vec<usize> = (0..rules.len())
            .filter(|&rule| !regular[rule] && uses[rule].iter().all(|&used| regular[used]))
            .collect();
        if next.is_empty() {
            return regular;
        }
        next.into_iter().for_each(|rule| regular[rule] = true);
    }
}

/// The rules that a node uses.
fn used(node: &Node) -> Vec<usize> {
    match node {
        Node::Rule(index) => vec![*index],
        Node::Sequence(nodes) | Node::Choice(nodes) => nodes.iter().flat_map(used).collect(),
        Node::Repeat(node, ..) => used(node),
        Node::Text(_) | Node::Class { .. } | Node::Any => Vec::new(),
    }
}

struct Writer {
    regular: Vec<bool>,
    /// The terminals that parts of rules became.
    terminals: Vec<String>,
}

impl Writer {
    fn name(&self, rule: usize) -> String {
        format!("{}{rule}", if self.regular[rule] { 'T' } else { 'r' })
    }

    fn is_regular(&self, node: &Node) -> bool {
        used(node).iter().all(|&rule| self.regular[rule])
    }

    /// The body of a terminal.
    fn terminal(&self, node: &Node) -> String {
        match node {
            // Two slashes would begin a comment.
            Node::Text(text) if text.is_empty() => "\"\"".to_string(),
            Node::Text(text) => format!("/{}/", escaped(text)),
            Node::Class { negated, ranges } => {
                let mut class = String::from(if *negated { "/[^" } else { "/[" });
                for &(low, high) in ranges {
                    escape(low, &mut class);
                    if low < high {
                        class.push('-');
                        escape(high, &mut class);
                    }
                }
                class + "]/"
            }
            Node::Any => "/(?s:.)/".to_string(),
            Node::Rule(index) => self.name(*index),
            Node::Sequence(nodes) => join(nodes, " ", |node| self.grouped(node)),
            Node::Choice(nodes) => join(nodes, " | ", |node| self.terminal(node)),
            Node::Repeat(node, low, high) => format!("({}){}", self.terminal(node), count(*low, *high)),
        }
    }

    fn grouped(&self, node: &Node) -> String {
        let body = self.terminal(node);
        if matches!(node, Node::Choice(_)) { format!("({body})") } else { body }
    }

    /// A new terminal for the regular part `node` of a rule.
    fn part(&mut self, node: &Node) -> String {
        if let Node::Rule(index) = node {
            return self.name(*index);
        }
        let body = self.terminal(node);
        let known = self.terminals.iter().position(|terminal| *terminal == body);
        let index = known.unwrap_or_else(|| {
            self.terminals.push(body);
            self.terminals.len() - 1
        });
        format!("X{index}")
    }

    /// The body of a rule; the longest regular parts of its sequences become terminals.
    fn rule(&mut self, node: &Node) -> String {
        if self.is_regular(node) {
            return self.part(node);
        }
        match node {
            Node::Sequence(nodes) => {
                let runs =
                    nodes.chunk_by(|a, b| self.is_regular(a) && self.is_regular(b)).collect::<Vec<_>>();
                let parts: Vec<String> = runs
                    .into_iter()
                    .map(|run| match run {
                        [one] => {
                            let body = self.rule(one);
                            if matches!(one, Node::Choice(_)) { format!("({body})") } else { body }
                        }
                        _ => self.part(&Node::Sequence(run.to_vec())),
                    })
                    .collect();
                parts.join(" ")
            }
            Node::Choice(nodes) => {
                let options: Vec<String> = nodes.iter().map(|node| self.rule(node)).collect();
                options.join(" | ")
            }
            Node::Repeat(node, low, high) => format!("({}){}", self.rule(node), count(*low, *high)),
            Node::Rule(index) => self.name(*index),
            Node::Text(_) | Node::Class { .. } | Node::Any => self.part(node),
        }
    }
}

fn join(nodes: &[Node], separator: &str, write: impl Fn(&Node) -> String) -> String {
    nodes.iter().map(write).collect::<Vec<_>>().join(separator)
}

/// The operator for so many repetitions.
fn count(low: u32, high: Option<u32>) -> String {
    match (low, high) {
        (0, None) => "*".to_string(),
        (1, None) => "+".to_string(),
        (0, Some(1)) => "?".to_string(),
        (low, None) => format!("{{{low},}}"),
        (low, Some(high)) => format!("{{{low},{high}}}"),
    }
}
