//! The products of a session's adapters on the CPU.

use super::AdapterSet;
use crate::format::TensorRole;
use crate::kernels::{Input, ParallelKernels, Product, ThreadPool};
use crate::memory::BatchPart;
use core::array;
use core::ops::Range;

/// An output that adapters add to.
pub(crate) struct Adapted<'a> {
    /// The adapted matrix.
    pub(crate) role: TensorRole,
    /// `[tokens, columns]`, and room for more tokens.
    pub(crate) out: &'a mut [f32],
    /// Elements per token.
    pub(crate) columns: usize,
    /// Whether `out` holds numbers to add to. Otherwise the first product overwrites it.
    pub(crate) add: bool,
}

/// The rows of a batch with the adapters of their sequences; neighbours with the same adapters are one run.
pub(crate) fn adapter_runs<'s, 'f: 's>(
    parts: &'s [BatchPart],
    sets: &'s [AdapterSet<'f>],
) -> impl Iterator<Item = (Range<usize>, &'s AdapterSet<'f>)> {
    parts.chunk_by(|a, b| sets[a.slot].id() == sets[b.slot].id()).filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        Some((first.first..last.rows().end, &sets[first.slot]))
    })
}

/// Adds the products of adapters to outputs of products that share an input, and tells which of them then hold numbers.
/// `runs` are the rows of a batch, one after the other, with the adapters of each; `scratch` has room for three rows of the
/// planned rank for each token.
pub(crate) fn apply<'s, 'f: 's, const N: usize, T: ThreadPool>(
    runs: impl Iterator<Item = (Range<usize>, &'s AdapterSet<'f>)>,
    parallel: &ParallelKernels<'_, T>,
    (layer, input): (usize, Input<'_>),
    scratch: &mut [f32],
    mut outputs: [Adapted<'_>; N],
) -> [bool; N] {
    let columns = input.floats.len() / input.tokens;
    let mut hold = outputs.each_ref().map(|output| output.add);
    for (rows, set) in runs {
        let floats = &input.floats[rows.start * columns..rows.end * columns];
        // Float matrices read no groups.
        let of_run = Input { floats, groups: None, tokens: rows.len() };
        let parts = outputs.each_mut().map(|Adapted { role, out, columns, add }| Adapted {
            role: *role,
            out: &mut out[rows.start * *columns..rows.end * *columns],
            columns: *columns,
            add: *add,
        });
        let holds = set.apply(parallel, (layer, of_run), scratch, parts);
        for ((output, hold), holds) in outputs.iter_mut().zip(&mut hold).zip(holds) {
            // Rows without adapters beside rows that have some: the product adds to all of them.
            let empty = match (*hold, holds) {
                (true, false) => rows.clone(),
                (false, true) => 0..rows.start,
                _ => continue,
            };
            output.out[empty.start * output.columns..empty.end * output.columns].fill(NOTHING);
            *hold = true;
        }
    }
    hold
}

/// What added to any number leaves its bits as they are; 0 would change -0.
const NOTHING: f32 = -0.0;

impl AdapterSet<'_> {
    /// Adds `scale * B (A input)` of each adapter to outputs of products that share an input, and tells which of them then
    /// hold numbers.
    fn apply<const N: usize, T: ThreadPool>(
        &self,
        parallel: &ParallelKernels<'_, T>,
        (layer, input): (usize, Input<'_>),
        scratch: &mut [f32],
        mut outputs: [Adapted<'_>; N],
    ) -> [bool; N] {
        for adapter in self.iter() {
            let found = outputs.each_ref().map(|output| adapter.file.find(output.role, layer as u16));
            if found.iter().all(Option::is_none) {
                continue;
            }
            let mut rest = &mut *scratch;
            let mut inner: [&mut [f32]; N] = array::from_fn(|i| {
                let count = found[i].map_or(0, |low_rank| input.tokens * low_rank.a.rows);
                let (part, after) = core::mem::take(&mut rest).split_at_mut(count);
                rest = after;
                part
            });
            let products = found.iter().zip(&mut inner).filter_map(|(low_rank, out)| {
                low_rank.map(|low_rank| Product { matrix: low_rank.a, out, add: false })
            });
            parallel.multiply_narrow(input, collect::<N, _>(products));
            for (low_rank, inner) in found.iter().zip(&mut inner) {
                let scale = low_rank.map_or(1.0, |low_rank| low_rank.scale * adapter.weight);
                inner.iter_mut().for_each(|x| *x *= scale);
            }
            let products =
                found.iter().zip(&inner).zip(&mut outputs).filter_map(|((low_rank, x), output)| {
                    let low_rank = low_rank.as_ref()?;
                    let add = core::mem::replace(&mut output.add, true);
                    let input = Input { floats: x, groups: None, tokens: input.tokens };
                    Some((input, Product { matrix: low_rank.b, out: &mut *output.out, add }))
                });
            parallel.multiply_each(collect::<N, _>(products));
        }
        outputs.map(|output| output.add)
    }
}

/// At most `N` items, without allocation.
fn collect<const N: usize, I>(mut items: impl Iterator<Item = I>) -> [Option<I>; N] {
    array::from_fn(|_| items.next())
}
