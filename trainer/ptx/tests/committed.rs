//! What the script with nvcc committed is fresh, spills nothing, and agrees with the table of kernels. No toolkit is needed.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use thimble_ptx::Module;

const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_89", "sm_90a"];

fn kernels() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../kernels")
}

fn read(name: &str) -> String {
    let path = kernels().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table(name: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(&read(name)).unwrap()
}

fn module() -> Module {
    Module::parse(&read("ptx/kernels.ptx")).unwrap()
}

#[test]
fn hashes_are_fresh() {
    let listed: BTreeMap<String, String> = read("ptx/sources.sha256")
        .lines()
        .map(|line| line.split_once("  ").map(|(hash, name)| (name.to_owned(), hash.to_owned())).unwrap())
        .collect();
    let script = read("build.sh");
    let names = |folder: &str, prefix: &str| -> Vec<String> {
        let files = fs::read_dir(kernels().join(folder)).unwrap();
        files.map(|entry| format!("{prefix}{}", entry.unwrap().file_name().into_string().unwrap())).collect()
    };
    // The sources, the script and those that it calls, and what they write.
    let called = |name: &str| name.ends_with(".py") && script.contains(&format!("/{name}\""));
    let is_source = |name: &String| name.ends_with(".cu") || name.ends_with(".cuh") || called(name);
    let sources = names(".", "").into_iter().filter(is_source);
    let written = names("ptx", "ptx/").into_iter().filter(|name| name != "ptx/sources.sha256");
    let expected: BTreeSet<String> = sources.chain(written).chain(["build.sh".to_owned()]).collect();
    let stale: Vec<&String> = expected
        .iter()
        .filter(|name| {
            let hash = Sha256::digest(fs::read(kernels().join(name)).unwrap());
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            listed.get(*name) != Some(&hash)
        })
        .collect();
    let gone: Vec<&String> = listed.keys().filter(|name| !expected.contains(*name)).collect();
    assert!(
        stale.is_empty() && gone.is_empty(),
        "the committed PTX was not made of these sources (changed: {stale:?}, gone: {gone:?}): run trainer/kernels/build.sh"
    );
}

#[test]
fn no_kernel_spills_and_all_fit() {
    let resources = table("ptx/resources.json");
    let names: BTreeSet<String> = module().entries().iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(
        resources.keys().cloned().collect::<BTreeSet<_>>(),
        names,
        "the table has the kernels of the PTX"
    );
    for (name, row) in &resources {
        for architecture in ARCHITECTURES {
            let number = |of: &str| {
                row[architecture][of].as_u64().unwrap_or_else(|| panic!("{name}, {architecture}: no {of}"))
            };
            assert_eq!(
                number("spill_stores") + number("spill_loads") + number("stack"),
                0,
                "{name} spills on {architecture}"
            );
            assert!(number("blocks") >= 1, "{name} does not fit {architecture}");
            assert!(number("registers") <= 255, "{name}, {architecture}");
        }
    }
    // The kernel that takes most shared memory and registers: more than one block on each architecture.
    for architecture in ARCHITECTURES {
        let blocks = resources["attention_backward_key"][architecture]["blocks"].as_u64().unwrap();
        assert!(
            blocks >= 2,
            "attention_backward_key has {blocks} blocks per multiprocessor of {architecture}"
        );
    }
}

#[test]
fn drivers_and_architectures_take_the_ptx() {
    let text = read("ptx/kernels.ptx");
    let after = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    let (major, minor) = after(".version").split_once('.').unwrap();
    let version: (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
    assert!(
        version <= (9, 0),
        "driver 580 takes PTX up to 9.0, found {version:?}: build with the toolkit of toolkit.sh"
    );
    assert_eq!(after(".target"), "sm_80", "the oldest architecture's PTX is compiled for all");
}

/// A line of kernels.def: name, types of the parameters and threads.
struct Listed {
    name: String,
    types: Vec<String>,
    threads: u32,
}

fn listed() -> Vec<Listed> {
    let text = read("kernels.def");
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
    let mut found = Vec::new();
    for entry in code.join(" ").split("KERNEL_ENTRY(").skip(1) {
        let (name, rest) = entry.split_once(',').unwrap();
        let (_, rest) = rest.split_once('(').unwrap();
        let (list, rest) = rest.split_once(')').unwrap();
        let threads = rest.trim_start_matches([',', ' ']).split(')').next().unwrap().trim();
        let types = list
            .split(',')
            .map(|parameter| parameter.trim().rsplit_once(' ').unwrap().0.to_owned())
            .collect();
        found.push(Listed { name: name.trim().to_owned(), types, threads: threads.parse().unwrap() });
    }
    found
}

/// Bytes that a parameter of the type takes, as the ABI of a 64-bit GPU has it.
fn bytes(of: &str) -> usize {
    match of {
        "int" | "int32_t" | "uint32_t" | "float" => 4,
        "long long" | "int64_t" | "double" => 8,
        _ if of.starts_with("Global<") => 8,
        _ => panic!(
            "kernels.def: expected Global<...>, int32_t, uint32_t, float, double or long long, found `{of}`"
        ),
    }
}

#[test]
fn parameters_agree() {
    let module = module();
    let listed = listed();
    let cubins = table("ptx/parameters.json");
    assert_eq!(listed.len(), module.entries().len(), "kernels.def has as many kernels as the PTX");
    for Listed { name, types, threads } in listed {
        let entry = module.entry(&name).unwrap_or_else(|| panic!("kernels.def: the PTX has no {name}"));
        assert_eq!(entry.max_threads, Some(threads), "{name}: threads");
        let mut end = 0;
        let expected: Vec<(usize, usize)> = types
            .iter()
            .map(|of| {
                let offset = usize::next_multiple_of(end, bytes(of));
                end = offset + bytes(of);
                (offset, bytes(of))
            })
            .collect();
        let in_text: Vec<(usize, usize)> = entry.parameters.iter().map(|p| (p.offset, p.bytes)).collect();
        assert_eq!(in_text, expected, "{name}: parameters of the PTX and of kernels.def");
        let number = |value: &Value| value.as_u64().unwrap() as usize;
        let in_cubin =
            cubins[&name].as_array().unwrap().iter().map(|p| (number(&p["offset"]), number(&p["size"])));
        assert_eq!(
            in_cubin.collect::<Vec<_>>(),
            expected,
            "{name}: parameters of the cubins and of kernels.def"
        );
    }
}
