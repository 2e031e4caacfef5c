//! The kernels' names, parameters and threads, as `trainer/kernels/kernels.def` has them.

use super::launcher::{Argument, Launch, Region};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("../../../kernels/kernels.def");
const ENTRY: &str = "KERNEL_ENTRY(";
/// Blocks of a grid along x, y and z (CUDA C++ programming guide, "Technical specifications per compute capability").
const MOST_BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterType {
    /// Addresses of such numbers.
    Bf16s,
    /// Of f32.
    F32s,
    /// Of f64.
    F64s,
    /// Of u32.
    U32s,
    /// `int32_t`.
    Int32,
    /// `int64_t`.
    Int64,
    /// `float`.
    Float,
}

/// A kernel of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its name.
    pub name: &'static str,
    /// Its parameters in order, with their names.
    pub parameters: Vec<(ParameterType, &'static str)>,
    /// Threads of a block.
    pub threads: u32,
}

/// What the operations give for a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Given {
    Bf16s(Region),
    F32s(Region),
    F64s(Region),
    U32s(Region),
    /// A number of things, `int32_t` or `int64_t` as the kernel has it.
    Count(usize),
    Float(f32),
}

impl Given {
    /// The argument; none if the parameter has another type, or the number does not fit.
    fn argument(self, parameter: ParameterType) -> Option<Argument> {
        match (self, parameter) {
            (Given::Bf16s(region), ParameterType::Bf16s) => Some(Argument::Bf16s(region)),
            (Given::F32s(region), ParameterType::F32s) => Some(Argument::F32s(region)),
            (Given::F64s(region), ParameterType::F64s) => Some(Argument::F64s(region)),
            (Given::U32s(region), ParameterType::U32s) => Some(Argument::U32s(region)),
            (Given::Count(count), ParameterType::Int32) => i32::try_from(count).ok().map(Argument::Int32),
            (Given::Count(count), ParameterType::Int64) => i64::try_from(count).ok().map(Argument::Int64),
            (Given::Float(value), ParameterType::Float) => Some(Argument::Float(value)),
            _ => None,
        }
    }
}

/// Every kernel of `kernels.def`.
///
/// # Errors
/// The line that is not of the table's form.
pub(crate) fn kernels() -> Result<&'static HashMap<&'static str, Kernel>> {
    static TABLE: LazyLock<std::result::Result<HashMap<&'static str, Kernel>, String>> =
        LazyLock::new(|| parse(TEXT));
    TABLE.as_ref().map_err(|problem| Error::Invalid(format!("kernels.def: {problem}")))
}

fn parse(text: &'static str) -> std::result::Result<HashMap<&'static str, Kernel>, String> {
    let mut table = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with(ENTRY)) {
        let kernel = entry(line).ok_or_else(|| {
            format!("expected KERNEL_ENTRY(name, (type name, ...), threads) with types that are known, found {line:?}")
        })?;
        table.insert(kernel.name, kernel);
    }
    if table.is_empty() { Err("expected at least one kernel, found none".into()) } else { Ok(table) }
}

fn entry(line: &'static str) -> Option<Kernel> {
    let (name, rest) = line.strip_prefix(ENTRY)?.split_once(", (")?;
    let (parameters, threads) = rest.strip_suffix(')')?.rsplit_once("), ")?;
    let parameters = parameters.split(", ").map(|parameter| {
        let (kind, name) = parameter.rsplit_once(' ')?;
        let kind = match kind {
            "Global<bf16>" | "Global<const bf16>" => ParameterType::Bf16s,
            "Global<float>" | "Global<const float>" => ParameterType::F32s,
            "Global<double>" | "Global<const double>" => ParameterType::F64s,
            "Global<uint32_t>" | "Global<const uint32_t>" => ParameterType::U32s,
            "int32_t" | "int" => ParameterType::Int32,
            "int64_t" | "long long" => ParameterType::Int64,
            "float" => ParameterType::Float,
            _ => return None,
        };
        Some((kind, name))
    });
    Some(Kernel { name, parameters: parameters.collect::<Option<_>>()?, threads: threads.parse().ok()? })
}

/// The launch of a kernel with `grid` blocks of `shared` bytes.
///
/// # Errors
/// The kernel has other parameters, or a number is beyond its type.
pub(super) fn launch(
    kernel: &'static str,
    grid: [usize; 3],
    shared: usize,
    given: &[Given],
) -> Result<Launch> {
    let wrong = |what: String| Error::Invalid(format!("a launch of the kernel {kernel}: {what}"));
    let found =
        kernels()?.get(kernel).ok_or_else(|| wrong("expected it in kernels.def, found none".into()))?;
    if found.parameters.len() != given.len() {
        let (expected, found) = (found.parameters.len(), given.len());
        return Err(wrong(format!("expected {expected} arguments, found {found}")));
    }
    let mut arguments = Vec::with_capacity(given.len());
    for (given, &(kind, name)) in given.iter().zip(&found.parameters) {
        let argument = given.argument(kind);
        arguments
            .push(argument.ok_or_else(|| wrong(format!("expected {kind:?} for {name}, found {given:?}")))?);
    }
    let mut blocks = [0; 3];
    for ((blocks, count), most) in blocks.iter_mut().zip(grid).zip(MOST_BLOCKS) {
        let fitting = u32::try_from(count).ok().filter(|count| (1..=most).contains(count));
        *blocks = fitting.ok_or_else(|| {
            wrong(format!("expected a grid of 1 to {MOST_BLOCKS:?} blocks, found {grid:?}"))
        })?;
    }
    let shared = u32::try_from(shared).map_err(|_| wrong(format!("{shared} bytes of shared memory")))?;
    Ok(Launch { kernel: found.name, grid: blocks, threads: found.threads, shared, arguments })
}

#[cfg(test)]
mod tests {
    use super::super::launcher::Address;
    use super::*;

    #[test]
    fn the_table_is_read_and_arguments_are_checked() {
        let table = kernels().unwrap();
        let norm = &table["rms_norm"];
        assert_eq!(norm.threads, 256);
        assert_eq!(norm.parameters[0], (ParameterType::Bf16s, "input"));
        assert_eq!(norm.parameters[6], (ParameterType::Float, "epsilon"));
        let region = Region { address: Address(64), bytes: 8 };
        let good = [Given::F32s(Region::NULL), Given::Bf16s(region), Given::Count(3)];
        let launch = |given: &[Given]| launch("round_to_bf16", [1, 1, 1], 0, given);
        let refused = |given: &[Given]| launch(given).unwrap_err().to_string();
        let made = launch(&good).unwrap();
        assert_eq!(
            made.arguments,
            [Argument::F32s(Region::NULL), Argument::Bf16s(region), Argument::Int64(3)]
        );
        assert_eq!(made.threads, 256);
        assert!(refused(&[good[1], good[0], good[2]]).contains("expected F32s for values, found Bf16s"));
        assert!(refused(&good[..2]).contains("expected 3 arguments, found 2"));
        for grid in [[0, 1, 1], [1, 65_536, 1], [1, 1, 65_536], [1 << 31, 1, 1], [1 << 40, 1, 1]] {
            let error = super::launch("round_to_bf16", grid, 0, &good).unwrap_err().to_string();
            assert!(error.contains("[2147483647, 65535, 65535] blocks, found"), "{error}");
        }
        assert!(super::launch("round_to_bf16", [i32::MAX as usize, 65_535, 65_535], 0, &good).is_ok());
        let error = super::launch("none", [1, 1, 1], 0, &[]).unwrap_err().to_string();
        assert!(error.contains("the kernel none: expected it in kernels.def"), "{error}");
        let far = Given::Count(1 << 40);
        let norm = [good[1], good[0], good[0], good[1], far, far, Given::Float(1.0)];
        let error = super::launch("rms_norm", [1, 1, 1], 0, &norm).unwrap_err().to_string();
        assert!(error.contains("expected Int32 for rows, found Count(1099511627776)"), "{error}");
    }

    #[test]
    fn other_lines_are_refused() {
        for line in
            ["KERNEL_ENTRY(a, (short x), 1)", "KERNEL_ENTRY(a, (float), 1)", "KERNEL_ENTRY(a, (float x), y)"]
        {
            assert!(parse(line).unwrap_err().contains("found \"KERNEL_ENTRY(a"), "{line}");
        }
        assert!(parse("").is_err());
    }
}
