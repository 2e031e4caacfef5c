//! Launches, random numbers and comparisons.

use half::bf16;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};
use thimble_ptx::{Grid, LaunchArgument, Memory, Module, Pointer};

/// What a check found wrong.
pub(crate) type Checked = Result<(), String>;

/// Relative root mean square of what is stored as bf16 and as f32.
pub(crate) const BF16_BOUND: f64 = 0.005;
pub(crate) const F32_BOUND: f64 = 1e-5;

/// Kernels that were launched, and the shared memory that those used that had as much as the table of resources says.
pub(crate) static LAUNCHED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

fn committed(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../kernels/ptx").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn committed_text() -> String {
    committed("kernels.ptx")
}

static RESOURCES: LazyLock<serde_json::Value> =
    LazyLock::new(|| serde_json::from_str(&committed("resources.json")).unwrap());

/// A number of the table of resources.
pub(crate) fn resource(kernel: &str, name: &str) -> u32 {
    let value = &RESOURCES[kernel][name];
    value.as_u64().unwrap_or_else(|| panic!("the table of resources has no {name} of {kernel}")) as u32
}

/// A module and the memory that its kernels work on.
pub(crate) struct Device<'a> {
    module: &'a Module,
    pub(crate) memory: Memory,
}

impl<'a> Device<'a> {
    pub(crate) fn new(module: &'a Module) -> Device<'a> {
        Device { module, memory: Memory::new() }
    }

    /// Launches with the threads and the shared memory of the table of resources.
    pub(crate) fn launch(
        &mut self,
        kernel: &str,
        blocks: [usize; 3],
        arguments: &[LaunchArgument],
    ) -> Checked {
        let used = self.run(kernel, blocks, resource(kernel, "dynamic_shared"), arguments)?;
        let mut launched = LAUNCHED.lock().unwrap();
        let most = launched.entry(kernel.to_owned()).or_default();
        *most = used.max(*most);
        Ok(())
    }

    /// Launches at other sizes than those of the table, which need other shared memory.
    pub(crate) fn launch_with(
        &mut self,
        kernel: &str,
        blocks: [usize; 3],
        shared_bytes: u32,
        arguments: &[LaunchArgument],
    ) -> Checked {
        self.run(kernel, blocks, shared_bytes, arguments).map(|_| ())
    }

    fn run(
        &mut self,
        kernel: &str,
        blocks: [usize; 3],
        shared_bytes: u32,
        arguments: &[LaunchArgument],
    ) -> Result<usize, String> {
        let entry = self.module.entry(kernel).ok_or_else(|| format!("there is no kernel {kernel}"))?;
        let grid =
            Grid { blocks: blocks.map(|n| n as u32), threads: resource(kernel, "threads"), shared_bytes };
        let counts = entry.launch(grid, arguments, &mut self.memory).map_err(|error| error.to_string())?;
        Ok(counts.shared_bytes)
    }

    pub(crate) fn bf16(&mut self, name: &str, values: &[bf16]) -> Pointer {
        self.memory.input(name, &bits(values))
    }

    pub(crate) fn bf16_in_place(&mut self, name: &str, values: &[bf16]) -> Pointer {
        self.memory.in_place(name, &bits(values))
    }

    /// The values of an allocation of bf16.
    pub(crate) fn read_bf16(&self, pointer: Pointer) -> Result<Vec<f64>, String> {
        Ok(self.memory.read::<u16>(pointer)?.into_iter().map(|bits| bf16::from_bits(bits).to_f64()).collect())
    }

    /// The values of an allocation of f32.
    pub(crate) fn read_f32(&self, pointer: Pointer) -> Result<Vec<f64>, String> {
        Ok(self.memory.read::<f32>(pointer)?.into_iter().map(f64::from).collect())
    }
}

fn bits(values: &[bf16]) -> Vec<u16> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub(crate) fn pointer(of: Pointer) -> LaunchArgument {
    LaunchArgument::Pointer(of)
}

pub(crate) fn int(value: usize) -> LaunchArgument {
    LaunchArgument::I32(value as i32)
}

pub(crate) fn long(value: usize) -> LaunchArgument {
    LaunchArgument::I64(value as i64)
}

pub(crate) fn float(value: f64) -> LaunchArgument {
    LaunchArgument::F32(value as f32)
}

/// Random numbers (Steele, Lea and Flood 2014, SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Of the normal distribution (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let mut uniform = || (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let (radius, angle) = ((-2.0 * (1.0 - uniform()).ln()).sqrt(), std::f64::consts::TAU * uniform());
        radius * angle.cos()
    }

    pub(crate) fn bf16s(&mut self, count: usize, scale: f64) -> Vec<bf16> {
        (0..count).map(|_| bf16::from_f64(scale * self.normal())).collect()
    }

    pub(crate) fn f32s(&mut self, count: usize, mean: f64, scale: f64) -> Vec<f32> {
        (0..count).map(|_| (mean + scale * self.normal()) as f32).collect()
    }
}

pub(crate) fn values(of: &[bf16]) -> Vec<f64> {
    of.iter().map(|value| value.to_f64()).collect()
}

pub(crate) fn doubles(of: &[f32]) -> Vec<f64> {
    of.iter().copied().map(f64::from).collect()
}

/// Fails beyond a relative root mean square. A hundredth is added to the mean of the wanted squares' root, for
/// gradients that vanish.
pub(crate) fn close(name: &str, found: &[f64], wanted: &[f64], bound: f64) -> Checked {
    assert_eq!(found.len(), wanted.len(), "{name}");
    let count = wanted.len() as f64;
    let square: f64 = wanted.iter().map(|x| x * x).sum::<f64>() + 1e-4 * count;
    let error: f64 = found.iter().zip(wanted).map(|(x, y)| (x - y) * (x - y)).sum();
    let relative = (error / square).sqrt();
    println!("  {name}: relative rms {relative:.2e}");
    // Not a number fails too.
    if relative <= bound {
        Ok(())
    } else {
        Err(format!("{name}: relative rms {relative:.3e}, expected at most {bound:.1e}"))
    }
}

/// The values rounded to bf16, as a kernel keeps what it reads again.
pub(crate) fn exactly(name: &str, found: &[f64], wanted: &[f64]) -> Checked {
    match found.iter().zip(wanted).position(|(x, y)| x != y) {
        None if found.len() == wanted.len() => Ok(()),
        None => Err(format!("{name}: expected {} values, found {}", wanted.len(), found.len())),
        Some(i) => Err(format!("{name}: expected {} at {i}, found {}", wanted[i], found[i])),
    }
}
