//! AMX: multiplies sixteen tokens with one block of a panel per instruction, for prompts. Everything else is
//! [`Avx512Vnni`]'s, and results are identical.
//!
//! The second operand of `tdpbssd` is a block's codes, 8 steps of 16 rows x 4 columns; the first is the groups of a tile of
//! tokens, which are contiguous in memory.

use super::avx512::Avx512Vnni;
use super::block_product::{add_dots, scaled};
use super::blocks::QuantGroup;
use super::matmul_job::{Input, MatmulJob, Output, put, tile_width};
use super::quant_block::with_block;
use super::simd::{Block, Compile, Simd, Work};
use crate::format::{Encoding, GROUP};
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::marker::PhantomData;

/// Tokens in a tile: the rows of a tile register.
pub(super) const TILE: usize = 16;

/// Blocks of a panel that are converted to signed codes at a time.
const BATCH: usize = 16;
/// Tiles that share the signed codes.
const RUN: usize = 4;

/// Proof that the CPU supports AMX for bytes and AVX-512, and that the system lets this process use AMX.
#[derive(Clone, Copy, Debug)]
pub struct Amx(Avx512Vnni);

impl Amx {
    /// A proof, without a check.
    ///
    /// # Safety
    /// [`Amx::request`] has returned a proof in this process.
    pub(super) unsafe fn assume() -> Amx {
        // SAFETY: the caller's word includes it.
        Amx(unsafe { Avx512Vnni::assume() })
    }

    /// The proof for AVX-512.
    pub(super) fn avx512(self) -> Avx512Vnni {
        self.0
    }

    /// Requests the tile registers from the system; `None` if the CPU or the system does not support them.
    pub fn request(avx512: Avx512Vnni) -> Option<Amx> {
        let features = __cpuid_count(7, 0).edx;
        let (tiles, bytes) = (features >> 24 & 1, features >> 25 & 1);
        (tiles & bytes == 1 && permitted()).then_some(Amx(avx512))
    }
}

/// Whether Linux grants the process the tile registers: `arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn permitted() -> bool {
    let mut result: i64 = 158;
    // SAFETY: the call takes two numbers and writes no memory of the process; a kernel that does not know it, or
    // does not grant it, returns an error. A system call overwrites rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") 0x1023,
            in("rsi") 18,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn permitted() -> bool {
    false
}

/// The operand of `ldtilecfg`: rows and bytes per row of each tile register.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Registers 0 and 1 are sums (16 tokens x 16 rows), 2 the codes of a block (8 steps x 64 bytes), 3 a plane of 16 groups;
/// 4 to 7 are a second set, so that two blocks are in flight.
static CONFIG: TileConfig = {
    let mut config =
        TileConfig { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    config.row_bytes = [64, 64, 64, 32, 64, 64, 64, 32, 0, 0, 0, 0, 0, 0, 0, 0];
    config.rows = [16, 16, 8, 16, 16, 16, 8, 16, 0, 0, 0, 0, 0, 0, 0, 0];
    config
};

const _: () = assert!(size_of::<TileConfig>() == 64);
// The offsets of the planes in a group, which the loads below rely on.
const _: () = assert!(core::mem::offset_of!(QuantGroup, codes) == 0);
const _: () = assert!(core::mem::offset_of!(QuantGroup, fine) == GROUP);

/// Configured tile registers; released on drop, so that context switches need not save them.
struct Tiles(());

impl Tiles {
    #[inline(always)]
    fn configure(_proof: Amx) -> Tiles {
        // SAFETY: the CPU has AMX and the process may use it; the configuration is valid and 64 bytes long.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(readonly, nostack)) };
        Tiles(())
    }

    /// Both planes of a tile's groups times a block's signed codes: `products[plane][token][row]`. `turn` alternates between
    /// the two sets of registers.
    #[inline(always)]
    fn multiply(
        &self,
        turn: usize,
        codes: &[[i8; 64]; GROUP / 4],
        x: &[QuantGroup; TILE],
        products: &mut [[[i32; 16]; TILE]; 2],
    ) {
        macro_rules! multiply {
            ($coarse:tt, $fine:tt, $codes:tt, $x:tt) => {
                // SAFETY: `self` shows that the registers are configured; loads read 8 rows of 64 bytes from the codes
                // and 16 rows of 32 bytes, one in each group, at 0 and at 32; stores write 16 rows of 64 bytes twice
                // into the products.
                unsafe {
                    asm!(
                        concat!("tileloadd ", $codes, ", [{codes} + {line}]"),
                        concat!("tileloadd ", $x, ", [{x} + {group}]"),
                        concat!("tilezero ", $coarse),
                        concat!("tdpbssd ", $coarse, ", ", $x, ", ", $codes),
                        concat!("tileloadd ", $x, ", [{x} + {group} + 32]"),
                        concat!("tilezero ", $fine),
                        concat!("tdpbssd ", $fine, ", ", $x, ", ", $codes),
                        concat!("tilestored [{products} + {line}], ", $coarse),
                        concat!("tilestored [{products} + {line} + 1024], ", $fine),
                        codes = in(reg) codes.as_ptr(),
                        x = in(reg) x.as_ptr(),
                        products = in(reg) products.as_mut_ptr(),
                        line = in(reg) 64usize,
                        group = in(reg) size_of::<QuantGroup>(),
                        out($coarse) _, out($fine) _, out($codes) _, out($x) _,
                        options(nostack, preserves_flags)
                    )
                }
            };
        }
        if turn.is_multiple_of(2) {
            multiply!("tmm0", "tmm1", "tmm2", "tmm3");
        } else {
            multiply!("tmm4", "tmm5", "tmm6", "tmm7");
        }
    }
}

impl Drop for Tiles {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the registers were configured by this thread.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// Computes `job.panels` of `matrix x input`: full tiles with AMX, remaining tokens with `rest`.
pub(super) fn matmul(s: Amx, job: &MatmulJob<'_>, rest: fn(&MatmulJob<'_>)) {
    let Input { floats, groups, tokens } = job.input;
    let last = tokens % TILE;
    let tiles = tokens / TILE + usize::from(last > 0 && tile_width(last, TILE) == TILE);
    let Some(groups) = groups.filter(|_| tiles > 0) else {
        return rest(job);
    };
    with_block!(job.matrix.encoding, B => s.0.run(Panels::<B>::new(s, job, groups, tiles)), T => return rest(job));
    let done = tiles * TILE;
    if done >= tokens {
        return;
    }
    let columns = job.matrix.columns;
    let Output { data, stride, add } = job.output;
    rest(&MatmulJob {
        matrix: job.matrix,
        panels: job.panels.clone(),
        input: Input {
            floats: floats.get(done * columns..).unwrap_or(&[]),
            groups: groups.get(done * columns.div_ceil(GROUP)..),
            tokens: tokens - done,
        },
        output: Output { data: data.after(done * stride), stride, add },
        prefetch: job.prefetch,
    });
}

/// The first `count` tiles, a few at a time, so that their groups stay in a near cache for all panels.
struct Panels<'j, 'a, B> {
    proof: Amx,
    job: &'j MatmulJob<'a>,
    groups: &'j [QuantGroup],
    count: usize,
    block: PhantomData<B>,
}

impl<'j, 'a, B> Panels<'j, 'a, B> {
    fn new(proof: Amx, job: &'j MatmulJob<'a>, groups: &'j [QuantGroup], count: usize) -> Self {
        Panels { proof, job, groups, count, block: PhantomData }
    }
}

impl<B: Block> Work for Panels<'_, '_, B> {
    type Output = ();
    /// Compiled for AVX-512, whose proof is in the one for AMX.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Panels { proof, job, groups, count, .. } = self;
        let registers = Tiles::configure(proof);
        let s = proof.0;
        let per_tile = job.matrix.columns.div_ceil(GROUP);
        let (groups, _) = groups.as_chunks::<TILE>();
        let groups = &groups[..count * per_tile];
        let zero = s.splat_i32(i32::from_ne_bytes([B::ZERO; 4]));
        let mut codes = [[[0i8; 64]; GROUP / 4]; BATCH];
        let mut products = [[[[0i32; 16]; TILE]; 2]; 2];
        for (run, groups) in groups.chunks(RUN * per_tile).enumerate() {
            for panel in job.panels.clone() {
                let (header, blocks) = job.matrix.header_and_blocks::<B>(panel);
                let mut sums = [[s.zero(); TILE]; RUN];
                for (batch, blocks) in blocks.chunks(BATCH).enumerate() {
                    for (codes, block) in codes.iter_mut().zip(blocks) {
                        for step in 0..GROUP / 4 {
                            s.store_difference(block.codes(s, step), zero, &mut codes[step]);
                        }
                    }
                    for (sums, x) in sums.iter_mut().zip(groups.chunks(per_tile)) {
                        let x = &x[batch * BATCH..][..blocks.len()];
                        let mut tile_sums = *sums;
                        let mut multiply = 0;
                        for (i, block) in blocks.iter().enumerate() {
                            // One block ahead of the sums: tile and vector units work in parallel.
                            while multiply <= (i + 1).min(x.len() - 1) {
                                let products = &mut products[multiply % 2];
                                if let Some(next) = x.get(multiply + 2) {
                                    s.prefetch(next, 0, size_of::<[QuantGroup; TILE]>());
                                }
                                registers.multiply(multiply, &codes[multiply], &x[multiply], products);
                                multiply += 1;
                            }
                            let [coarse, fine] = &products[i % 2];
                            let scales = (block.scales(s), block.minimums(s));
                            for t in 0..TILE {
                                let dots =
                                    s.add_i32(s.times_256(s.load_i32(&coarse[t])), s.load_i32(&fine[t]));
                                tile_sums[t] = add_dots(s, dots, scales, &x[i][t], tile_sums[t]);
                            }
                        }
                        *sums = tile_sums;
                    }
                }
                for (tile, sums) in sums.iter().take(groups.len() / per_tile).enumerate() {
                    let first = (run * RUN + tile) * TILE;
                    for (t, &sum) in sums.iter().enumerate().take(job.input.tokens - first) {
                        put(s, job, panel, first + t, scaled(s, sum, header));
                    }
                }
            }
        }
    }
}
