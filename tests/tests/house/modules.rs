//! Imports between the files of a crate, as far as `use` declarations and paths from `crate` or `super` show them.

use crate::Source;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// A module that has a file: the crate's folder, then the module's path.
type Module = Vec<String>;

fn path(text: &str) -> Vec<String> {
    text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The module that a file is; nothing for files outside `src`.
fn module(source: &Source) -> Option<Module> {
    let (folder, file) = source.path.split_once("/src/")?;
    let mut path = path(&file.strip_suffix(".rs")?.replace('/', "::"));
    path.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
    path.insert(0, folder.to_owned());
    Some(path)
}

/// The paths of a use tree behind `before`.
fn tree(before: &[String], text: &str, paths: &mut Vec<Vec<String>>) {
    let Some((front, group)) = text.split_once('{') else {
        let name = text.split(" as ").next().unwrap_or_default();
        let mut whole = [before, &path(name.trim())].concat();
        // `a::{self}` is `a`.
        whole.pop_if(|last| *last == "self");
        paths.push(whole);
        return;
    };
    let before = [before, &path(front.trim())].concat();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    tree(&before, &group[start..at], paths);
                }
                start = at + 1;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// What a file imports, and what it names by a path, without its tests.
fn imports(text: &str) -> Vec<Vec<String>> {
    let text = Regex::new(r"//[^\n]*").unwrap().replace_all(text, "");
    let tests = Regex::new(r"#\[cfg\(test\)\]\s*mod \w+ \{").unwrap();
    let text = tests.split(&text).next().unwrap_or_default();
    let uses = Regex::new(r"\buse\s+([^;]+);").unwrap();
    let mut paths = Vec::new();
    uses.captures_iter(text).for_each(|found| tree(&[], &found[1], &mut paths));
    let named = Regex::new(r"\b(?:crate|super)(?:::\w+)+").unwrap();
    paths.extend(named.find_iter(&uses.replace_all(text, "")).map(|found| path(found.as_str())));
    paths
}

/// The files of all crates with their imports.
struct Modules(BTreeMap<Module, Vec<Vec<String>>>);

impl Modules {
    /// The module in which `path` lies, as `from` writes it, and the name behind that.
    fn locate<'a>(&self, from: &Module, path: &'a [String]) -> Option<(Module, Option<&'a String>)> {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (from[..1].to_vec(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from[..from.len().saturating_sub(supers).max(1)].to_vec(), &path[supers..]),
            first if self.0.contains_key(&[from, &[first.to_owned()][..]].concat()) => (from.clone(), path),
            _ => return None,
        };
        while let Some((next, behind)) = rest.split_first() {
            at.push(next.clone());
            if !self.0.contains_key(&at) {
                at.pop();
                break;
            }
            rest = behind;
        }
        Some((at, rest.first()))
    }

    /// The modules that `from` imports; a name that another module only re-exports counts where it comes from.
    fn imported(&self, from: &Module) -> BTreeSet<Module> {
        let written = self.0[from]
            .iter()
            .filter(|path| path.first().is_some_and(|first| matches!(&**first, "crate" | "super" | "self")));
        let modules = written.filter_map(|path| {
            let (module, name) = self.locate(from, path)?;
            let exported = self.0.get(&module)?.iter().find(|path| path.last() == name);
            let origin = exported.and_then(|path| self.locate(&module, path)).map(|(origin, _)| origin);
            Some(origin.unwrap_or(module))
        });
        modules.filter(|module| module != from).collect()
    }
}

/// Groups of files that import each other in a circle, each with the imports within the group.
pub(crate) fn cycles(sources: &[Source]) -> Vec<String> {
    let tests = Regex::new(r"tests?(\.rs|/)|_tests\.rs").unwrap();
    let files = sources.iter().filter(|source| source.path.ends_with(".rs"));
    let with_imports = |source: &Source| {
        let imports = if tests.is_match(&source.path) { Vec::new() } else { imports(&source.text) };
        Some((module(source)?, imports))
    };
    let modules = Modules(files.filter_map(with_imports).collect());
    let edges: BTreeMap<&Module, BTreeSet<Module>> =
        modules.0.keys().map(|module| (module, modules.imported(module))).collect();
    let mut reached: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (from, imported) in &edges {
        let behind = reached.entry(from).or_default();
        let mut open: Vec<&Module> = imported.iter().collect();
        while let Some(module) = open.pop() {
            if behind.insert(module) {
                open.extend(&edges[module]);
            }
        }
    }
    let mut groups = BTreeSet::new();
    for (module, behind) in &reached {
        if behind.contains(module) {
            groups.insert(behind.iter().filter(|next| reached[*next].contains(module)).collect::<Vec<_>>());
        }
    }
    let line = |group: &[&&Module], module: &Module| {
        let targets = edges[module].iter().filter(|target| group.iter().any(|other| **other == *target));
        let targets: Vec<String> = targets.map(|target| target[1..].join("::")).collect();
        format!("    {} imports {}\n", module[1..].join("::"), targets.join(", "))
    };
    let show = |group: Vec<&&Module>| {
        let lines: String = group.iter().map(|module| line(&group, module)).collect();
        format!("{}/src:\n{lines}", group[0][0])
    };
    groups.into_iter().map(show).collect()
}
