//! Faults in inline assembly, which the emulator does not see: each must fail a check, for the stated reason.

use super::Check;
use super::attention;
use super::far;
use super::harness::committed_text;
use super::swiglu;
use thimble_ptx::Module;

struct Fault {
    name: &'static str,
    /// Which lines to change, and what each becomes.
    opcode: &'static str,
    edit: fn(&str) -> String,
    check: Check,
    /// What the check says.
    caught_by: &'static str,
}

/// `line` with its operands in another order, those in braces counted too: `order[i]` is the place that operand i is taken from.
fn reordered(line: &str, order: &[usize]) -> String {
    let (opcode, operands) = line.split_at(line.find(['{', '%']).unwrap());
    let names: Vec<&str> =
        operands.split(['{', '}', ',', ' ', ';', '\t']).filter(|name| !name.is_empty()).collect();
    let mut changed = String::from(opcode);
    let mut rest = operands;
    for (i, name) in names.iter().enumerate() {
        let (before, after) = rest.split_once(name).unwrap();
        changed += before;
        changed += names[order.get(i).copied().unwrap_or(i)];
        rest = after;
    }
    changed + rest
}

const FAULTS: [Fault; 11] = [
    Fault {
        name: "the halves of fragment B of mma swapped",
        opcode: "mma.sync",
        edit: |line| reordered(line, &[0, 1, 2, 3, 4, 5, 6, 7, 9, 8]),
        check: attention::one_head,
        caught_by: "output: relative rms",
    },
    Fault {
        name: "two registers of fragment A of mma swapped",
        opcode: "mma.sync",
        edit: |line| reordered(line, &[0, 1, 2, 3, 4, 6, 5]),
        check: attention::one_head,
        caught_by: "output: relative rms",
    },
    Fault {
        name: "two sums of mma swapped",
        opcode: "mma.sync",
        edit: |line| reordered(line, &[0, 2, 1, 3]),
        check: attention::one_head,
        caught_by: "relative rms",
    },
    Fault {
        name: "the operands of the conversion to bf16 swapped",
        opcode: "cvt.rn.bf16x2.f32",
        edit: |line| reordered(line, &[0, 2, 1]),
        check: swiglu::check,
        caught_by: "product: relative rms",
    },
    Fault {
        name: "truncation in the place of rounding",
        opcode: "cvt.rn.bf16x2.f32",
        edit: |line| line.replace(".rn.", ".rz."),
        check: attention::one_head,
        caught_by: "relative rms",
    },
    Fault {
        name: "ldmatrix without the transpose",
        opcode: "ldmatrix.sync.aligned.m8n8.x4.trans",
        edit: |line| line.replace(".trans", ""),
        check: attention::one_head,
        caught_by: "output: relative rms",
    },
    Fault {
        name: "two matrices of ldmatrix swapped",
        opcode: "ldmatrix.sync.aligned.m8n8.x4.shared",
        edit: |line| reordered(line, &[0, 2, 1]),
        check: attention::one_head,
        caught_by: "relative rms",
    },
    Fault {
        name: "a group of copies that is not waited for",
        opcode: "cp.async.wait_group",
        edit: |line| line.replace('0', "1"),
        check: attention::one_head,
        caught_by: "is read before its copy has been waited for",
    },
    Fault {
        name: "no barrier",
        opcode: "bar.sync",
        edit: |_| String::new(),
        check: attention::one_head,
        caught_by: "of shared memory is read",
    },
    Fault {
        name: "products of indices cut to 32 bits",
        opcode: "mul.lo.s64",
        edit: |line| line.replace(".s64", ".s32"),
        check: far::check,
        caught_by: "expected the address of an allocation",
    },
    Fault {
        name: "rows beyond the matrix copied instead of zeroed",
        opcode: "cp.async.cg",
        edit: |line| format!("{};", line.rsplit_once(',').unwrap().0),
        check: attention::one_head,
        caught_by: "of `query` are accessed, and it has 9600",
    },
];

#[test]
fn faults_in_inline_assembly_are_caught() {
    let text = committed_text();
    let mut missed = Vec::new();
    for Fault { name, opcode, edit, check, caught_by } in &FAULTS {
        let change = |line: &str| if line.contains(opcode) { edit(line) } else { line.to_owned() };
        let changed = text.lines().map(change).collect::<Vec<_>>().join("\n");
        assert_ne!(changed.trim_end(), text.trim_end(), "{name}: nothing has changed");
        let module = Module::parse(&changed).unwrap_or_else(|error| panic!("{name}: {error}"));
        match check(&module) {
            Err(problem) if problem.contains(caught_by) => {}
            other => missed.push(format!("{name}: expected \"{caught_by}\", found {other:?}")),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
