//! Tables of safe function pointers, one for each instruction set.

use super::simd::Simd;
#[cfg(target_arch = "x86_64")]
use super::{Amx, Avx2, Avx512Vnni, AvxVnni, amx};
use super::{
    AttendJob, MatmulJob, Matrix, QuantGroup, Scalar, StoreJob, attention, float_matmul, matmul, rows,
};
#[cfg(target_arch = "aarch64")]
use super::{DotProd, I8mm};

/// The kernels of one instruction set. A value proves that the CPU supports it.
///
/// Not constructible elsewhere: the functions are trusted to stay inside their parts of buffers that threads share.
#[derive(Clone, Copy)]
pub struct Kernels {
    name: &'static str,
    /// Tokens in a full tile of quantized activations.
    pub(crate) tile: usize,
    /// Whether products prefetch weights.
    pub(crate) prefetch: bool,
    /// One shard of a matrix product.
    pub(crate) matmul: fn(&MatmulJob<'_>),
    pub(crate) row: fn(&Matrix<'_>, usize, &mut [f32]),
    /// RMS norm of one row: x, weight, epsilon, out.
    pub(crate) norm: fn(&[f32], &[f32], f32, &mut [f32]),
    /// Rows to one tile of groups: rows, columns, width, out.
    pub(crate) quantize_tile: fn(&[f32], usize, usize, &mut [QuantGroup]),
    pub(crate) swiglu: fn(&mut [f32], &[f32]),
    pub(crate) store: fn(&mut StoreJob<'_>),
    /// Attention of some tokens for one key-value head.
    pub(crate) attend: fn(&AttendJob<'_>),
}

impl Kernels {
    /// The name: `scalar`, `avx2`, `avx-vnni`, `avx512`, `amx`, `neon`, `i8mm`, `simd128`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The same kernels, whose products leave prefetching of weights to the hardware. Results do not depend on it.
    ///
    /// Prefetch instructions make a single token's product faster on Intel's server CPUs and slower on AMD's Zen 4.
    #[must_use]
    pub fn without_prefetch(self) -> Kernels {
        Kernels { prefetch: false, ..self }
    }

    /// Whether products prefetch weights, where the instruction set has an instruction for it.
    pub fn prefetches(&self) -> bool {
        self.prefetch
    }

    /// Decodes row `row` of `matrix` to `out`, `[columns]`.
    pub fn row(&self, matrix: &Matrix<'_>, row: usize, out: &mut [f32]) {
        (self.row)(matrix, row, out);
    }

    /// SwiGLU in place: `gate = gate * sigmoid(gate) * up` (Shazeer 2020).
    pub fn swiglu(&self, gate: &mut [f32], up: &[f32]) {
        (self.swiglu)(gate, up);
    }

    /// Applies RoPE to keys; stores keys and values in the cache.
    pub fn store(&self, job: &mut StoreJob<'_>) {
        (self.store)(job);
    }
}

impl core::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Kernels({})", self.name)
    }
}

/// The proof for the functions of a table.
#[inline(always)]
fn proof<S: Simd>() -> S {
    // SAFETY: the functions below are only called through a table, which `Kernels::of` makes from a proof.
    unsafe { S::assume() }
}

fn product<S: Simd>(job: &MatmulJob<'_>) {
    matmul::matmul(proof::<S>(), job);
}

fn row<S: Simd>(matrix: &Matrix<'_>, row: usize, out: &mut [f32]) {
    float_matmul::row(proof::<S>(), matrix, row, out);
}

fn norm<S: Simd>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    proof::<S>().run(rows::Norm { x, weight, epsilon, out });
}

fn quantize_tile<S: Simd>(rows: &[f32], columns: usize, width: usize, tile: &mut [QuantGroup]) {
    proof::<S>().run(rows::QuantizeTile { rows, columns, width, tile });
}

fn swiglu<S: Simd>(gate: &mut [f32], up: &[f32]) {
    proof::<S>().run(rows::SwiGlu { gate, up });
}

fn store<S: Simd>(job: &mut StoreJob<'_>) {
    attention::store(proof::<S>(), job);
}

fn attend<S: Simd>(job: &AttendJob<'_>) {
    attention::attend(proof::<S>(), job);
}

// Not inlined: a crate that inlines them would compile the kernels again.
impl Kernels {
    /// The kernels for a set, given a proof.
    fn of<S: Simd>(_proof: S, name: &'static str) -> Kernels {
        Kernels {
            name,
            tile: S::TILE,
            prefetch: true,
            matmul: product::<S>,
            row: row::<S>,
            norm: norm::<S>,
            quantize_tile: quantize_tile::<S>,
            swiglu: swiglu::<S>,
            store: store::<S>,
            attend: attend::<S>,
        }
    }

    /// The kernels for any CPU.
    #[inline(never)]
    pub fn scalar() -> Kernels {
        Kernels::of(Scalar, "scalar")
    }
}

#[cfg(target_arch = "x86_64")]
impl Kernels {
    /// The kernels for AVX2.
    #[inline(never)]
    pub fn avx2(proof: Avx2) -> Kernels {
        Kernels::of(proof, "avx2")
    }

    /// The kernels for AVX-VNNI.
    #[inline(never)]
    pub fn avx_vnni(proof: AvxVnni) -> Kernels {
        Kernels::of(proof, "avx-vnni")
    }

    /// The kernels for AVX-512 with VNNI.
    #[inline(never)]
    pub fn avx512(proof: Avx512Vnni) -> Kernels {
        Kernels::of(proof, "avx512")
    }

    /// The kernels for AMX: those for AVX-512, with AMX for prompts.
    #[inline(never)]
    pub fn amx(proof: Amx) -> Kernels {
        fn tiles(job: &MatmulJob<'_>) {
            // SAFETY: this function is only called through the table below, which requires a proof.
            let proof = unsafe { Amx::assume() };
            amx::matmul(proof, job, product::<Avx512Vnni>);
        }
        Kernels { name: "amx", tile: amx::TILE, matmul: tiles, ..Kernels::avx512(proof.avx512()) }
    }
}

#[cfg(target_arch = "aarch64")]
impl Kernels {
    /// The kernels for NEON with dot products.
    #[inline(never)]
    pub fn neon(proof: DotProd) -> Kernels {
        Kernels::of(proof, "neon")
    }

    /// The kernels for NEON with 8-bit matrix products.
    #[inline(never)]
    pub fn i8mm(proof: I8mm) -> Kernels {
        Kernels::of(proof, "i8mm")
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
impl Kernels {
    /// The kernels for WebAssembly's 128-bit vectors, in modules compiled for them.
    #[inline(never)]
    pub fn simd128() -> Kernels {
        Kernels::of(super::simd128::Simd128, "simd128")
    }
}
