//! Loads, stores and copies.

use super::Decoder;
use crate::instruction::{Operation, Space};

pub(super) fn decode(d: &mut Decoder<'_>, stem: &str) -> Result<Operation, String> {
    match stem {
        "ldmatrix" => load_matrix(d),
        "cp" => copy(d),
        "ld" if d.take("param") => {
            let of = d.take_type()?;
            let [to, from] = d.texts()?;
            let offset = d.names.parameter(from, of.bytes())?;
            Ok(Operation::LoadParameter {
                to: d.names.register(to)?,
                offset,
                bytes: of.bytes(),
                signed: of.is_signed(),
            })
        }
        _ => access(d, stem),
    }
}

fn access(d: &mut Decoder<'_>, stem: &str) -> Result<Operation, String> {
    let of = d.take_type()?;
    let space = match d.take_one(&["global", "shared", "local", "const"]) {
        None => Space::Generic,
        Some("global") => Space::Global,
        Some("shared") => Space::Shared,
        Some(other) => return Err(format!("expected global or shared memory, found `.{other}`")),
    };
    // Hints to caches: what is loaded and stored is the same.
    while d
        .take_one(&[
            "nc",
            "ca",
            "cg",
            "cs",
            "lu",
            "wb",
            "wt",
            "volatile",
            "L1::no_allocate",
            "L1::evict_last",
            "L1::evict_first",
        ])
        .is_some()
    {}
    d.take_one(&["L2::64B", "L2::128B", "L2::256B"]);
    let elements = match d.take_one(&["v2", "v4"]) {
        None => 1,
        Some("v2") => 2,
        Some(_) => 4,
    };
    let [first, second] = d.texts()?;
    let found = |count: usize| {
        if count == elements { Ok(()) } else { Err(format!("expected {elements} values, found {count}")) }
    };
    let bytes = of.bytes();
    if stem == "st" {
        let (address, from) = (d.names.address(first)?, d.names.vector(second)?);
        found(from.len())?;
        return Ok(Operation::Store { space, address, from, bytes });
    }
    let (to, address) = (d.names.destinations(first)?, d.names.address(second)?);
    found(to.len())?;
    Ok(Operation::Load { space, to, address, bytes, signed: of.is_signed() })
}

fn copy(d: &mut Decoder<'_>) -> Result<Operation, String> {
    if !d.take("async") {
        return Err("expected `cp.async`".to_owned());
    }
    if d.take("commit_group") {
        return Ok(Operation::CommitCopies);
    }
    if d.take("wait_all") {
        return Ok(Operation::WaitCopies(None));
    }
    if d.take("wait_group") {
        let [count] = d.texts()?;
        let count = count.parse().map_err(|_| format!("expected a number of groups, found `{count}`"))?;
        return Ok(Operation::WaitCopies(Some(count)));
    }
    let whole_lines = d.take_one(&["ca", "cg"]).ok_or("expected `.ca` or `.cg`")? == "cg";
    if !(d.take("shared") && d.take("global")) {
        return Err("expected `.shared.global`".to_owned());
    }
    d.take_one(&["L2::64B", "L2::128B", "L2::256B"]);
    let (to, from, size, source) = match *d.operands {
        [to, from, size] => (to, from, size, None),
        [to, from, size, source] => (to, from, size, Some(d.operand(source)?)),
        _ => return Err(format!("expected 3 or 4 operands, found {}", d.operands.len())),
    };
    let bytes = match (size, whole_lines) {
        ("4", false) => 4,
        ("8", false) => 8,
        ("16", _) => 16,
        _ => return Err(format!("expected 16 bytes, or 4 or 8 with `.ca`, found {size}")),
    };
    Ok(Operation::Copy {
        to: d.names.address(to)?,
        from: d.names.address(from)?,
        bytes,
        source_bytes: source,
    })
}

fn load_matrix(d: &mut Decoder<'_>) -> Result<Operation, String> {
    for required in ["sync", "aligned", "m8n8", "shared", "b16"] {
        if !d.take(required) {
            return Err(format!("expected `.{required}`"));
        }
    }
    let count = match d.take_one(&["x1", "x2", "x4"]) {
        Some("x1") => 1,
        Some("x2") => 2,
        Some(_) => 4,
        None => return Err("expected `.x1`, `.x2` or `.x4`".to_owned()),
    };
    let transpose = d.take("trans");
    let [to, address] = d.texts()?;
    let to = d.names.destinations(to)?.into_iter().flatten().collect::<Vec<_>>();
    if to.len() != count {
        return Err(format!("expected {count} registers, found {}", to.len()));
    }
    Ok(Operation::LoadMatrix { to, address: d.names.address(address)?, transpose })
}
