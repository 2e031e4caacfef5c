//! Detection of the kernels that this CPU can run.

use std::fmt;
use std::str::FromStr;
#[cfg(target_arch = "x86_64")]
use thimble_runtime::kernels::Amx;
use thimble_runtime::kernels::Kernels;
use thiserror::Error;

/// The kernel sets, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// Plain Rust.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX-512 VNNI.
    Avx512,
    /// The same with AMX for 8-bit integers, if the operating system allows it.
    Amx,
    /// 64-bit ARM with the dot-product extension.
    Neon,
    /// The same with the 8-bit matrix multiplication extension.
    I8mm,
}

/// Why kernels cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KernelsError {
    /// No kernel set has this name.
    #[error("unknown kernels '{0}': expected scalar, avx2, avx-vnni, avx512, amx, neon or i8mm")]
    Unknown(String),
    /// The CPU lacks the instructions.
    #[error("this CPU cannot run the {0} kernels: use the default, or scalar")]
    Unsupported(KernelKind),
}

impl fmt::Display for KernelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KernelKind::Scalar => "scalar",
            KernelKind::Avx2 => "avx2",
            KernelKind::AvxVnni => "avx-vnni",
            KernelKind::Avx512 => "avx512",
            KernelKind::Amx => "amx",
            KernelKind::Neon => "neon",
            KernelKind::I8mm => "i8mm",
        })
    }
}

impl FromStr for KernelKind {
    type Err = KernelsError;

    fn from_str(name: &str) -> Result<KernelKind, KernelsError> {
        let found = KernelKind::ALL.into_iter().find(|kind| kind.to_string() == name);
        found.ok_or_else(|| KernelsError::Unknown(name.to_owned()))
    }
}

impl KernelKind {
    /// All kernel sets; the last one that a CPU can run is its fastest.
    pub const ALL: [KernelKind; 7] = {
        use KernelKind::{Amx, Avx2, Avx512, AvxVnni, I8mm, Neon, Scalar};
        [Scalar, Avx2, AvxVnni, Avx512, Amx, Neon, I8mm]
    };

    /// The kernels, if this CPU can run them.
    pub fn kernels(self) -> Result<Kernels, KernelsError> {
        #[cfg(target_arch = "x86_64")]
        let table = match self {
            KernelKind::Scalar => Some(Kernels::scalar()),
            KernelKind::Avx2 => avx2().map(Kernels::avx2),
            KernelKind::AvxVnni => avx_vnni().map(Kernels::avx_vnni),
            KernelKind::Avx512 => avx512().map(Kernels::avx512),
            KernelKind::Amx => avx512().and_then(Amx::request).map(Kernels::amx),
            KernelKind::Neon | KernelKind::I8mm => None,
        };
        #[cfg(target_arch = "x86_64")]
        let table = table.map(|kernels| if is_amd() { kernels.without_prefetch() } else { kernels });
        #[cfg(target_arch = "aarch64")]
        let table = match self {
            KernelKind::Scalar => Some(Kernels::scalar()),
            KernelKind::Neon => neon().map(Kernels::neon),
            KernelKind::I8mm => i8mm().map(Kernels::i8mm),
            KernelKind::Avx2 | KernelKind::AvxVnni | KernelKind::Avx512 | KernelKind::Amx => None,
        };
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let table = (self == KernelKind::Scalar).then(Kernels::scalar);
        table.ok_or(KernelsError::Unsupported(self))
    }

    /// The kernels that `THIMBLE_KERNELS` names, or else the best that this CPU can run.
    pub fn detect() -> Result<Kernels, KernelsError> {
        if let Some(name) = std::env::var_os("THIMBLE_KERNELS").filter(|name| !name.is_empty()) {
            return name.to_string_lossy().parse::<KernelKind>()?.kernels();
        }
        let best = KernelKind::ALL.into_iter().rev().find_map(|kind| kind.kernels().ok());
        Ok(best.unwrap_or_else(Kernels::scalar))
    }
}

/// Whether the CPU's vendor is AMD (AMD64 Architecture Programmer's Manual, volume 3, appendix E, CPUID function 0).
#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

#[cfg(target_arch = "x86_64")]
fn avx2() -> Option<thimble_runtime::kernels::Avx2> {
    let found = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    // SAFETY: the three features were just found.
    found.then(|| unsafe { thimble_runtime::kernels::Avx2::assume() })
}

#[cfg(target_arch = "x86_64")]
fn avx_vnni() -> Option<thimble_runtime::kernels::AvxVnni> {
    avx2()?;
    let found = is_x86_feature_detected!("avxvnni");
    // SAFETY: the feature was just found, and the others of `avx2`.
    found.then(|| unsafe { thimble_runtime::kernels::AvxVnni::assume() })
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> Option<thimble_runtime::kernels::Avx512Vnni> {
    avx2()?;
    let found = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    // SAFETY: all features were just found.
    found.then(|| unsafe { thimble_runtime::kernels::Avx512Vnni::assume() })
}

#[cfg(target_arch = "aarch64")]
fn neon() -> Option<thimble_runtime::kernels::DotProd> {
    use std::arch::is_aarch64_feature_detected;
    let found = is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod");
    // SAFETY: both features were just found.
    found.then(|| unsafe { thimble_runtime::kernels::DotProd::assume() })
}

#[cfg(target_arch = "aarch64")]
fn i8mm() -> Option<thimble_runtime::kernels::I8mm> {
    neon()?;
    let found = std::arch::is_aarch64_feature_detected!("i8mm");
    // SAFETY: the feature was just found, and the others of `neon`.
    found.then(|| unsafe { thimble_runtime::kernels::I8mm::assume() })
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn weights_are_prefetched_except_on_amd() {
        let described = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let vendor = described.lines().find(|line| line.starts_with("vendor_id")).unwrap();
        let kernels = KernelKind::Scalar.kernels().unwrap();
        assert_eq!(kernels.prefetches(), !vendor.ends_with("AuthenticAMD"), "{vendor}");
    }
}
