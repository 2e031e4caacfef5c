//! Splits nvcc's text into entries, statements and labels.

use crate::decode::decode;
use crate::entry::{Entry, Module, Parameter};
use crate::error::ParseError;
use crate::instruction::Instruction;
use crate::operands::{Names, split_operands};
use crate::types::Type;
use std::collections::{HashMap, HashSet};

/// A piece of an entry's body.
enum Statement {
    Open,
    Close,
    Label(String),
    Code(String),
}

impl Module {
    /// Reads a text.
    ///
    /// # Errors
    /// The line, and what is not understood there.
    pub fn parse(text: &str) -> Result<Module, ParseError> {
        let text = without_comments(text);
        let mut shared = HashSet::new();
        let mut entries = Vec::new();
        let (mut rest, mut line) = (text.as_str(), 1);
        // A declaration ends at `;`, a function's body at its brace, a directive of the module with its line.
        while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
            line += lines(&rest[..start]);
            rest = &rest[start..];
            let error = |problem: String| ParseError { line, problem };
            let end = if is_directive(rest) {
                rest.find('\n').unwrap_or(rest.len())
            } else {
                rest.find([';', '{']).map_or(rest.len(), |end| end + 1)
            };
            let head = &rest[..end];
            if head.contains(".entry") {
                let body_end = closing_brace(&rest[end..])
                    .ok_or_else(|| error("expected `}` at the end of the entry".into()))?;
                let body = &rest[end..end + body_end];
                entries.push(entry(head, body, line, &shared)?);
                line += lines(&rest[..end + body_end + 1]);
                rest = &rest[end + body_end + 1..];
                continue;
            }
            if !is_directive(rest) {
                let array = dynamic_shared(head);
                shared.insert(array.ok_or_else(|| {
                    error(format!(
                        "expected an entry or `.extern .shared .align N .b8 name[];`, found `{}`",
                        head.trim()
                    ))
                })?);
            }
            line += lines(head);
            rest = &rest[end..];
        }
        Ok(Module { entries })
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

fn is_directive(text: &str) -> bool {
    [".version", ".target", ".address_size", ".file"].iter().any(|name| text.starts_with(name))
}

/// Spaces for comments, so that lines keep their numbers.
fn without_comments(text: &str) -> String {
    let strip = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(strip).collect::<Vec<_>>().join("\n")
}

/// Index of the brace that closes what was opened before the text.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(i, c)| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        (depth == 0).then_some(i)
    })
}

/// The name in `.extern .shared .align 128 .b8 name[];`.
fn dynamic_shared(declaration: &str) -> Option<String> {
    let words: Vec<&str> = declaration.trim_end_matches(';').split_whitespace().collect();
    match words[..] {
        [".extern", ".shared", ".align", _, ".b8", array] => array.strip_suffix("[]").map(str::to_owned),
        _ => None,
    }
}

fn entry(head: &str, body: &str, line: usize, shared: &HashSet<String>) -> Result<Entry, ParseError> {
    let error = |problem: String| ParseError { line, problem };
    let unknown = || error(format!("expected `.entry name(parameters)`, found `{}`", head.trim()));
    let signature = head.split_once(".entry").ok_or_else(unknown)?.1;
    let (name, rest) = signature.split_once('(').ok_or_else(unknown)?;
    let (list, directives) = rest.split_once(')').ok_or_else(unknown)?;
    let parameters = parameters(list).map_err(error)?;
    let (max_threads, body_line) = (max_threads(directives).map_err(error)?, line + lines(head));

    let statements = statements(body, body_line);
    let mut labels = HashMap::new();
    let mut instructions = 0;
    for (_, statement) in &statements {
        match statement {
            Statement::Label(label) => {
                labels.insert(label.clone(), instructions);
            }
            Statement::Code(text) if !text.starts_with('.') => instructions += 1,
            _ => {}
        }
    }

    let mut names = Names {
        parameters: &parameters,
        shared,
        labels: &labels,
        scopes: vec![HashMap::new()],
        masks: Vec::new(),
    };
    let mut code = Vec::with_capacity(instructions);
    for (line, statement) in statements {
        let error = |problem: String| ParseError { line, problem };
        match statement {
            Statement::Open => names.scopes.push(HashMap::new()),
            Statement::Close => {
                names.scopes.pop();
            }
            Statement::Label(_) => {}
            Statement::Code(text) => match text.strip_prefix('.') {
                Some(directive) => self::directive(&mut names, directive).map_err(error)?,
                None => code.push(instruction(&names, text, line).map_err(error)?),
            },
        }
    }
    let masks = names.masks;
    Ok(Entry { name: name.trim().to_owned(), parameters, max_threads, code, masks })
}

fn directive(names: &mut Names<'_>, directive: &str) -> Result<(), String> {
    if let Some(registers) = directive.strip_prefix("reg ") {
        return names.declare(registers);
    }
    // Hints to ptxas.
    if directive.starts_with("pragma ") {
        return Ok(());
    }
    Err(format!("expected `.reg` or `.pragma`, found `.{directive}`"))
}

fn instruction(names: &Names<'_>, text: String, line: usize) -> Result<Instruction, String> {
    let mut code = text.as_str();
    let mut guard = None;
    if let Some(guarded) = code.strip_prefix('@') {
        let (predicate, rest) =
            guarded.split_once(' ').ok_or_else(|| format!("expected an instruction, found `{text}`"))?;
        let (name, negated) = predicate.strip_prefix('!').map_or((predicate, false), |name| (name, true));
        guard = Some((names.register(name)?, negated));
        code = rest.trim_start();
    }
    let (opcode, operands) = code.split_once(' ').unwrap_or((code, ""));
    let operation =
        decode(names, opcode, &split_operands(operands)).map_err(|problem| format!("`{text}`: {problem}"))?;
    let opcode = opcode.to_owned();
    Ok(Instruction { operation, guard, line, text, opcode })
}

/// Aligned to their sizes, one after the other.
fn parameters(list: &str) -> Result<Vec<Parameter>, String> {
    let mut end = 0;
    let mut parameters = Vec::new();
    for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let words: Vec<&str> = text.split_whitespace().collect();
        // `.ptr .global .align 1` may stand between type and name.
        let (of, name) = match words[..] {
            [".param", of, name] => (of, name),
            [".param", of, ".ptr", .., name] => (of, name),
            _ => return Err(format!("expected `.param .type name`, found `{text}`")),
        };
        let of = of
            .strip_prefix('.')
            .and_then(Type::parse)
            .ok_or_else(|| format!("expected a scalar type, found `{text}`"))?;
        let (offset, bytes) = (usize::next_multiple_of(end, of.bytes()), of.bytes());
        end = offset + bytes;
        parameters.push(Parameter { name: name.to_owned(), offset, bytes });
    }
    Ok(parameters)
}

/// The product of `.maxntid`'s or `.reqntid`'s dimensions.
fn max_threads(directives: &str) -> Result<Option<u32>, String> {
    let found = [".maxntid", ".reqntid"].iter().find_map(|name| Some(directives.split_once(name)?.1));
    let Some(rest) = found else { return Ok(None) };
    let sizes = rest
        .trim_start()
        .split(|c: char| !(c.is_ascii_digit() || c == ',' || c == ' '))
        .next()
        .unwrap_or_default();
    let sizes = sizes.split(',').map(|size| {
        size.trim().parse::<u32>().map_err(|_| format!("expected sizes of a block, found `{sizes}`"))
    });
    sizes.collect::<Result<Vec<_>, _>>().map(|sizes| Some(sizes.iter().product()))
}

/// The statements with their lines. A brace at the start of one opens or closes a scope.
fn statements(body: &str, first_line: usize) -> Vec<(usize, Statement)> {
    let mut found = Vec::new();
    let (mut text, mut start, mut line) = (String::new(), first_line, first_line);
    for c in body.chars() {
        if text.is_empty() {
            start = line;
        }
        line += usize::from(c == '\n');
        match c {
            '{' if text.is_empty() => found.push((line, Statement::Open)),
            '}' if text.is_empty() => found.push((line, Statement::Close)),
            ';' => {
                if !text.is_empty() {
                    found.push((start, Statement::Code(std::mem::take(&mut text).trim().to_owned())));
                }
            }
            ':' => found.push((start, Statement::Label(std::mem::take(&mut text).trim().to_owned()))),
            c if c.is_whitespace() => {
                // One space for any number of them.
                if !text.is_empty() && !text.ends_with(' ') {
                    text.push(' ');
                }
            }
            c => text.push(c),
        }
    }
    found
}
