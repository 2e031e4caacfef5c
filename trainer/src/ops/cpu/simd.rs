//! Instruction sets of the CPU: plain loops are compiled once for each.
#![allow(unsafe_code)] // calls of functions with target features, proven below

/// An instruction set that this CPU has; only [`Simd::detect`] makes the others than `Plain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Simd {
    /// What the program was compiled for (NEON on 64-bit ARM).
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2(Detected),
    #[cfg(target_arch = "x86_64")]
    Avx512(Detected),
}

/// Proof that the features were detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Detected(());

impl Simd {
    /// The widest set that this CPU has.
    pub(super) fn detect() -> Simd {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma");
            if avx2 && has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") {
                return Simd::Avx512(Detected(()));
            }
            if avx2 {
                return Simd::Avx2(Detected(()));
            }
        }
        Simd::Plain
    }

    /// For a person.
    pub(super) fn name(self) -> &'static str {
        match self {
            Simd::Plain => std::env::consts::ARCH,
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512(_) => "AVX-512",
        }
    }

    /// Runs `work` compiled for the set. The closure must be `#[inline(always)]`, and so must what it calls, or they
    /// are compiled for the plain set after all.
    #[inline(always)]
    pub(super) fn dispatch<T>(self, work: impl FnOnce() -> T) -> T {
        match self {
            Simd::Plain => work(),
            // SAFETY: `Detected` shows that `detect` has seen all features of `with_avx2` on this CPU.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2(Detected(())) => unsafe { with_avx2(work) },
            // SAFETY: `Detected` shows that `detect` has seen all features of `with_avx512` on this CPU.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512(Detected(())) => unsafe { with_avx512(work) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
fn with_avx512<T>(work: impl FnOnce() -> T) -> T {
    work()
}
