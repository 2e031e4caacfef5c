//! The residual stream of the last batch, wherever it ran.

use super::Hybrid;
use super::state::{Cached, LastBatch, Logits, Requested, Shared, State};
use std::ops::Range;
use thimble_runtime::kernels::ThreadPool;
use thimble_runtime::model::{Batch, forward};
use thimble_runtime::sequence::Sequence;

impl<T: ThreadPool> Hybrid<'_, T> {
    /// Gives the CPU the residual stream of `rows` of the last batch: copies the accelerator's, or computes it if the
    /// accelerator failed.
    pub(super) fn bring_residual(&mut self, rows: Range<usize>) {
        if let State::Shared(Shared { accelerator, last: LastBatch::Accelerator(batch, logits), .. }) =
            &mut self.state
        {
            if matches!(logits, Logits::Sampled | Logits::Skipped) {
                // The accelerator is past the batch.
                let position = batch.positions.start;
                let tokens = &self.cpu.history()[batch.positions.clone()];
                forward(&mut **accelerator, &Batch { tokens, position });
                accelerator.head(batch.rows.clone());
                *logits = Logits::Pending;
            }
            let residual = self.cpu.residual(rows.clone());
            accelerator.read_residual(rows, residual);
            let finite = residual.iter().all(|x| x.is_finite());
            let not_finite = || "the GPU returned hidden states that are not finite".into();
            match accelerator.failure().or_else(|| (!finite).then(not_finite)) {
                Some(reason) => self.give_up(&reason),
                None => return,
            }
        }
        self.recompute_lost();
    }

    /// Runs the last batch on the CPU, with its requested logits, if the accelerator ran it and failed.
    pub(super) fn recompute_lost(&mut self) {
        let State::Lost { cpu_cached, batch } = &self.state else { return };
        let (cached, Requested { positions, rows }) = (*cpu_cached, batch.clone());
        let Cached { lowest, .. } = self.complete(cached, positions.start);
        self.compute(positions);
        self.state = State::CpuOnly { lowest };
        Sequence::head(&mut self.cpu, rows);
    }
}
