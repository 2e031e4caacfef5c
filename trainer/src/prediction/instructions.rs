//! Counted instructions and occupancy of the attention kernels, and what they cost a multiprocessor.

use super::gpu::{Architecture, DataSheet};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// By kernel and architecture (`kernels/count_instructions.py`).
const INSTRUCTIONS: &str = include_str!("../../kernels/ptx/instructions.json");
/// By kernel and architecture, from ptxas (`kernels/build.sh`).
const RESOURCES: &str = include_str!("../../kernels/ptx/resources.json");

/// FlashAttention 2's main loops for heads of 64 and a causal mask, as `count_instructions.py` counts them in the sm_90 code of
/// PyTorch 2.15's binary; its registers leave room for so many blocks.
const FLASH_ATTENTION_2: &str = include_str!("flash_attention_2.json");
pub(super) const FLASH_FORWARD: &str = "flash_attention_2_forward";
pub(super) const FLASH_BACKWARD: &str = "flash_attention_2_backward";

/// Schedulers of a multiprocessor, each with a quarter of its lanes.
pub(super) const SCHEDULERS: f64 = 4.0;
const LANES: f64 = 32.0;
/// FLOPs of one HMMA, `mma.sync` m16n8k16.
pub(super) const FLOPS_OF_HMMA: f64 = 2.0 * 16.0 * 8.0 * 16.0;

/// Instructions by opcode and width.
type Counts = BTreeMap<String, u32>;

#[derive(Clone, Debug, Deserialize)]
struct Counted {
    /// Of one pass through the inner loop.
    #[serde(rename = "loop")]
    inner: Counts,
    /// Of a warp once.
    outside: Counts,
}

/// What the compiler says of a kernel on an architecture.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Resources {
    /// Resident blocks of a multiprocessor.
    blocks: u32,
}

/// Cycles that a warp occupies each unit of its scheduler's quarter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cycles {
    /// Issue slots: one an instruction.
    pub(super) issue: f64,
    /// By unit, in the order of [`UNITS`].
    pub(super) units: [f64; 5],
}

/// The units, for display.
pub(super) const UNITS: [&str; 5] =
    ["tensor cores", "shared memory", "special functions", "FP32", "integers"];
const TENSOR: usize = 0;
const SHARED: usize = 1;
const SPECIAL: usize = 2;
const FMA: usize = 3;
const ALU: usize = 4;

/// A kernel on a GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelCounts {
    /// Of one pass through the inner loop, and the HMMA among its instructions.
    pub(super) inner: Cycles,
    pub(super) inner_hmma: f64,
    /// Of a warp once, and its HMMA.
    pub(super) outside: Cycles,
    pub(super) outside_hmma: f64,
    /// Warps of a block.
    pub(super) warps: f64,
    /// Resident warps of a scheduler.
    pub(super) resident: f64,
}

impl KernelCounts {
    /// Reads the committed tables.
    pub(super) fn of(kernel: &str, sheet: &DataSheet) -> Result<KernelCounts> {
        let architecture = sheet.architecture;
        let counted: Counted = entry(INSTRUCTIONS, "instructions.json", kernel, architecture.name())?;
        let resources: Resources = entry(RESOURCES, "resources.json", kernel, architecture.name())?;
        let threads: u32 = entry(RESOURCES, "resources.json", kernel, "threads")?;
        let warps = f64::from(threads) / LANES;
        let hmma = |counts: &Counts| counts.get("HMMA").copied().map_or(0.0, f64::from);
        Ok(KernelCounts {
            inner: Cycles::of(&counted.inner, sheet),
            inner_hmma: hmma(&counted.inner),
            outside: Cycles::of(&counted.outside, sheet),
            outside_hmma: hmma(&counted.outside),
            warps,
            resident: f64::from(resources.blocks) * warps / SCHEDULERS,
        })
    }
}

/// What a table has of a kernel under a key.
fn entry<T: for<'de> Deserialize<'de>>(table: &str, name: &str, kernel: &str, key: &str) -> Result<T> {
    let wrong = |what: String| {
        Error::Invalid(format!(
            "trainer/kernels/ptx/{name}: {what}; make it again with trainer/kernels/build.sh"
        ))
    };
    let table: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_str(table).map_err(|error| wrong(error.to_string()))?;
    let entry = table.get(kernel).and_then(|row| row.get(key));
    let entry = entry.ok_or_else(|| wrong(format!("expected `{key}` of kernel `{kernel}`, found none")))?;
    T::deserialize(entry).map_err(|error| wrong(format!("`{key}` of kernel `{kernel}`: {error}")))
}

/// FLOPs per second of FlashAttention 2's main loops.
pub(super) fn flash_attention_2_speed(kernel: &str, sheet: &DataSheet) -> Result<f64> {
    #[derive(Deserialize)]
    struct Published {
        warps: f64,
        blocks: f64,
        #[serde(rename = "loop")]
        inner: Counts,
    }
    let wrong = |what: String| Error::Invalid(format!("flash_attention_2.json: {what}"));
    let table: BTreeMap<String, Published> =
        serde_json::from_str(FLASH_ATTENTION_2).map_err(|error| wrong(error.to_string()))?;
    let found = table.get(kernel).ok_or_else(|| wrong(format!("expected `{kernel}`, found none")))?;
    let cycles = Cycles::of(&found.inner, sheet).with_warps(found.blocks * found.warps / SCHEDULERS);
    let hmma = found.inner.get("HMMA").copied().map_or(0.0, f64::from);
    Ok(hmma * FLOPS_OF_HMMA * SCHEDULERS * f64::from(sheet.multiprocessors) * sheet.clock / cycles)
}

impl Cycles {
    /// Cycles of instructions, by the throughput of their units: results per cycle and multiprocessor from the CUDA C++
    /// programming guide ("Throughput of native arithmetic instructions"), 128 bytes per cycle of shared memory.
    fn of(counts: &Counts, sheet: &DataSheet) -> Cycles {
        let multiprocessor =
            sheet.tensor_flops * sheet.mma_share / (f64::from(sheet.multiprocessors) * sheet.clock);
        let lanes = |per_multiprocessor: f64| LANES * SCHEDULERS / per_multiprocessor;
        // Every quarter's accesses go through the one memory of the multiprocessor.
        let shared = |cycles: f64| SCHEDULERS * cycles;
        let fma = match sheet.architecture {
            Architecture::Sm80 => lanes(64.0),
            Architecture::Sm89 | Architecture::Sm90a => lanes(128.0),
        };
        let mut found = Cycles::default();
        for (name, &count) in counts {
            let (base, width) = name.split_once('.').unwrap_or((name, ""));
            let bytes = match width {
                "128" => 4.0,
                "64" => 2.0,
                _ => 1.0,
            };
            let (unit, cycles) = match base {
                "HMMA" => (TENSOR, FLOPS_OF_HMMA * SCHEDULERS / multiprocessor),
                "LDSM" => (SHARED, shared(width.parse().unwrap_or(1.0))),
                "LDS" | "STS" | "LDG" | "STG" | "LDGSTS" | "LDL" | "STL" | "REDG" => (SHARED, shared(bytes)),
                "SHFL" => (SHARED, lanes(32.0)),
                "MUFU" | "F2F" | "F2I" | "I2F" => (SPECIAL, lanes(16.0)),
                "FFMA" | "FMUL" | "FADD" | "HFMA2" | "HMUL2" | "HADD2" => (FMA, fma),
                "IMAD" => (FMA, lanes(64.0)),
                _ if control(base) => (ALU, 0.0),
                // Integers, comparisons, minima, selections, conversions to bf16 pairs, moves.
                _ => (ALU, lanes(64.0)),
            };
            found.issue += f64::from(count);
            found.units[unit] += f64::from(count) * cycles;
        }
        found
    }

    /// So many times these cycles, and so many of the others.
    pub(super) fn sum(self, times: f64, other: Cycles, others: f64) -> Cycles {
        let mut units = self.units;
        units.iter_mut().zip(other.units).for_each(|(unit, more)| *unit = times * *unit + others * more);
        Cycles { issue: times * self.issue + others * other.issue, units }
    }

    /// Cycles of the busiest unit or of the issue slots, and which it is.
    pub(super) fn bottleneck(&self) -> (f64, &'static str) {
        let units = self.units.into_iter().zip(UNITS);
        units.fold((self.issue, "issue slots"), |most, unit| if unit.0 > most.0 { unit } else { most })
    }

    /// Cycles a warp takes with `resident` warps on its scheduler: the pessimistic balanced bound of a closed queueing
    /// network, `D_max + (D - D_max) / N` (Lazowska et al. 1984, "Quantitative System Performance", chapter 5).
    ///
    /// `D` is what a warp takes alone, each unit after the other; `D_max` what the busiest unit takes of it. One warp
    /// hides nothing, many warps hide all but the busiest unit.
    pub(super) fn with_warps(&self, resident: f64) -> f64 {
        let alone: f64 = self.units.iter().sum::<f64>().max(self.issue);
        let busiest = self.bottleneck().0;
        busiest + (alone - busiest).max(0.0) / resident
    }
}

/// Whether an opcode takes an issue slot and no unit: control flow, barriers, uniform registers, constants.
fn control(base: &str) -> bool {
    const CONTROL: [&str; 18] = [
        "BRA",
        "BAR",
        "BSSY",
        "BSYNC",
        "BREAK",
        "CALL",
        "CS2R",
        "DEPBAR",
        "EXIT",
        "LDC",
        "LDCU",
        "LDGDEPBAR",
        "NOP",
        "RET",
        "S2R",
        "S2UR",
        "WARPSYNC",
        "YIELD",
    ];
    base.starts_with('U') || CONTROL.contains(&base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::GpuModel;

    fn cycles(counts: &[(&str, u32)], gpu: GpuModel) -> Cycles {
        let counts = counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        Cycles::of(&counts, gpu.sheet())
    }

    #[test]
    fn data_sheets_agree_with_whole_cycles_of_a_product() {
        // 1,024 FLOPs a cycle on an L40S, twice that on an A100, half of it on a 4090, four times it on a Hopper.
        for (gpu, expected) in [
            (GpuModel::L40s, 16.0),
            (GpuModel::A100, 8.0),
            (GpuModel::Rtx4090, 32.0),
            (GpuModel::H100, 4.0 / 0.629),
        ] {
            let found = cycles(&[("HMMA", 1)], gpu).units[TENSOR];
            assert!((found / expected - 1.0).abs() < 0.02, "{gpu:?}: {found} {expected}");
        }
    }

    #[test]
    fn instructions_cost_what_their_units_take() {
        let found =
            cycles(&[("LDSM.4", 2), ("MUFU", 3), ("FFMA", 5), ("IADD3", 7), ("BRA", 1)], GpuModel::L40s);
        assert_eq!(found, Cycles { issue: 18.0, units: [0.0, 32.0, 24.0, 5.0, 14.0] });
        assert_eq!(found.bottleneck(), (32.0, "shared memory"));
        assert_eq!(cycles(&[("FFMA", 5), ("LDS.128", 1)], GpuModel::A100).units, [0.0, 16.0, 0.0, 10.0, 0.0]);
    }

    /// The method against kernels that others measured, the figures of `DataSheet::published_attention`.
    #[test]
    fn flash_attention_2_is_predicted_within_a_tenth() {
        let sheet = GpuModel::H100.sheet();
        let (forward, backward) = sheet.published_attention.unwrap();
        for (name, published) in [(FLASH_FORWARD, forward), (FLASH_BACKWARD, backward)] {
            let found = flash_attention_2_speed(name, sheet).unwrap();
            assert!((found / published - 1.0).abs() < 0.1, "{name}: {found:.3e} for {published:.3e}");
        }
    }

    #[test]
    fn warps_hide_what_is_not_the_bottleneck() {
        let found = Cycles { issue: 50.0, units: [100.0, 60.0, 20.0, 10.0, 10.0] };
        assert_eq!(found.with_warps(1.0), 200.0);
        assert_eq!(found.with_warps(2.0), 150.0);
        assert!((found.with_warps(1e9) - 100.0).abs() < 1e-6);
        assert_eq!(Cycles { issue: 300.0, ..found }.with_warps(4.0), 300.0);
    }
}
