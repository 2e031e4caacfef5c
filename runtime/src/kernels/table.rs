//! One table of safe function pointers for each instruction set.

use super::simd::Simd;
use super::{AttendJob, MatmulJob, Matrix, QuantGroup, Scalar, StoreJob, attention, matmul, rows};

/// The kernels of one instruction set. Holding one is proof that the CPU can run it.
#[derive(Clone, Copy)]
pub struct Kernels {
    /// Name for people: `scalar`, `avx2`, `avx-vnni`, `avx512`, `amx`, `neon`, `i8mm`.
    pub name: &'static str,
    /// Tokens in a full tile of quantized activations.
    pub tile: usize,
    /// Part of a matrix product.
    pub matmul: fn(&MatmulJob<'_>),
    /// One row of a matrix as f32: matrix, row, out.
    pub row: fn(&Matrix<'_>, usize, &mut [f32]),
    /// RMS norm of one row: x, weight, epsilon, out.
    pub norm: fn(&[f32], &[f32], f32, &mut [f32]),
    /// Rows to one tile of groups: rows, columns, width, out.
    pub quantize_tile: fn(&[f32], usize, usize, &mut [QuantGroup]),
    /// SwiGLU in place: gate, up.
    pub swiglu: fn(&mut [f32], &[f32]),
    /// Rotates and stores keys and values.
    pub store: fn(&mut StoreJob<'_>),
    /// Attention of some tokens for one key-value head.
    pub attend: fn(&AttendJob<'_>),
}

impl core::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Kernels({})", self.name)
    }
}

impl Kernels {
    /// Plain Rust, on any CPU.
    pub fn scalar() -> Kernels {
        Kernels {
            name: "scalar",
            tile: Scalar::TILE,
            matmul: |job| matmul::matmul(Scalar, job),
            row: |matrix, row, out| matmul::row(Scalar, matrix, row, out),
            norm: |x, weight, epsilon, out| rows::norm(Scalar, x, weight, epsilon, out),
            quantize_tile: |x, columns, width, out| rows::quantize_tile(Scalar, x, columns, width, out),
            swiglu: |gate, up| rows::swiglu(Scalar, gate, up),
            store: |job| attention::store(Scalar, job),
            attend: |job| attention::attend(Scalar, job),
        }
    }
}

/// A safe function that runs `$body` compiled for `$features`.
macro_rules! entry {
    ($set:ident, $features:literal, $name:ident($($arg:ident: $type:ty),*), $body:path) => {
        fn $name($($arg: $type),*) {
            #[target_feature(enable = $features)]
            fn compiled($($arg: $type),*) {
                // SAFETY: this function runs only where the CPU has the features that it is compiled for.
                let proof = unsafe { $set::assume() };
                $body(proof, $($arg),*)
            }
            // SAFETY: the table that holds this function is made only from a proof that the CPU has the features.
            unsafe { compiled($($arg),*) }
        }
    };
}

macro_rules! table {
    ($set:ident, $module:ident, $name:literal, $features:literal) => {
        mod $module {
            use super::super::{AttendJob, MatmulJob, Matrix, QuantGroup, StoreJob, attention, matmul, rows};
            use super::super::$set;
            entry!($set, $features, product(job: &MatmulJob<'_>), matmul::matmul);
            entry!($set, $features, row(matrix: &Matrix<'_>, row: usize, out: &mut [f32]), matmul::row);
            entry!($set, $features, norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]), rows::norm);
            entry!(
                $set, $features,
                quantize_tile(x: &[f32], columns: usize, width: usize, out: &mut [QuantGroup]),
                rows::quantize_tile
            );
            entry!($set, $features, swiglu(gate: &mut [f32], up: &[f32]), rows::swiglu);
            entry!($set, $features, store(job: &mut StoreJob<'_>), attention::store);
            entry!($set, $features, attend(job: &AttendJob<'_>), attention::attend);
            pub(super) const TABLE: super::Kernels = super::Kernels {
                name: $name,
                tile: <$set as super::Simd>::TILE,
                matmul: product,
                row,
                norm,
                quantize_tile,
                swiglu,
                store,
                attend,
            };
        }
        impl Kernels {
            #[doc = concat!("The kernels for ", $name, ".")]
            pub fn $module(_proof: super::$set) -> Kernels {
                $module::TABLE
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
table!(Avx2, avx2, "avx2", "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
table!(AvxVnni, avx_vnni, "avx-vnni", "avx2,fma,f16c,avxvnni");
#[cfg(target_arch = "x86_64")]
table!(Avx512Vnni, avx512, "avx512", "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
mod amx {
    use super::super::{Amx, MatmulJob, amx};
    use super::{Kernels, avx512};

    fn product(job: &MatmulJob<'_>) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn compiled(job: &MatmulJob<'_>) {
            // SAFETY: as for `entry`.
            let proof = unsafe { Amx::assume() };
            amx::matmul(proof, job, avx512::TABLE.matmul);
        }
        // SAFETY: as for `entry`.
        unsafe { compiled(job) }
    }

    impl Kernels {
        /// The kernels for AMX: those for AVX-512, with prompts in tile registers.
        pub fn amx(_proof: Amx) -> Kernels {
            Kernels { name: "amx", tile: amx::TILE, matmul: product, ..avx512::TABLE }
        }
    }
}
#[cfg(target_arch = "aarch64")]
table!(DotProd, neon, "neon", "neon,dotprod");
#[cfg(target_arch = "aarch64")]
table!(I8mm, i8mm, "i8mm", "neon,dotprod,i8mm");
