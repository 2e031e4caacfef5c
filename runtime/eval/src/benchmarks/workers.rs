//! The threads of an evaluation, each with a session of its own.

use super::data::BenchmarkData;
use super::error::{EvalError, Result};
use super::item_runner::{ItemOutcome, ItemRunner};
use super::schedule::ScheduledItem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use thimble_host::{InferencePlan, generator, set_adapters};
use thimble_runtime::adapter::WeightedAdapter;
use thimble_runtime::format::ModelFile;
use thimble_runtime::kernels::SingleThread;

/// What the threads share.
pub(crate) struct Workers<'a> {
    pub(crate) data: &'a [BenchmarkData],
    pub(crate) todo: &'a [ScheduledItem],
    pub(crate) file: &'a ModelFile<'a>,
    pub(crate) adapters: &'a [WeightedAdapter<'a>],
    pub(crate) plan: &'a InferencePlan,
    pub(crate) context: usize,
    pub(crate) stop: &'a AtomicBool,
}

impl Workers<'_> {
    /// Calls `each` with the index and outcome of every item, on this thread.
    pub(crate) fn run(
        &self,
        threads: usize,
        each: &mut dyn FnMut(usize, ItemOutcome) -> Result<()>,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let ended = AtomicBool::new(false);
        // Bounded, so that no thread runs ahead of the partial results.
        let (sender, receiver) = sync_channel(threads);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let sender = sender.clone();
                let (next, ended) = (&next, &ended);
                scope.spawn(move || {
                    let worked = self
                        .work(next, ended, &mut |place, outcome| sender.send(Ok((place, outcome))).is_ok());
                    if let Err(error) = worked {
                        // The receiver is gone if another error came first.
                        let _ = sender.send(Err(error));
                    }
                });
            }
            drop(sender);
            let mut result = Ok(());
            loop {
                match receiver.recv_timeout(Duration::from_millis(100)) {
                    Ok(received) if result.is_ok() => {
                        result = received.and_then(|(place, outcome)| each(place, outcome));
                        if result.is_err() {
                            ended.store(true, Ordering::Relaxed);
                        }
                    }
                    Ok(_) => {}
                    Err(RecvTimeoutError::Disconnected) => return result,
                    Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => {
                        ended.store(true, Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        })
    }

    /// One thread: evaluates items until none is left.
    fn work(
        &self,
        next: &AtomicUsize,
        ended: &AtomicBool,
        send: &mut dyn FnMut(usize, ItemOutcome) -> bool,
    ) -> Result<()> {
        let mut memory = self.plan.allocate()?;
        let mut session = generator(self.file, self.plan, &mut memory, &SingleThread)?;
        set_adapters(&mut session, self.adapters)?;
        if session.sequence().kind() != self.plan.backend() {
            // The probe ran on the GPU, in a short context.
            return Err(EvalError::Gpu { begun: false });
        }
        let mut item_runner = ItemRunner { file: *self.file, session, context: self.context };
        loop {
            if ended.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(todo) = self.todo.get(place) else { return Ok(()) };
            let data = &self.data[todo.data];
            let outcome = item_runner.answer(data.task, &data.items[todo.item])?;
            if item_runner.session.sequence().kind() != self.plan.backend() {
                return Err(EvalError::Gpu { begun: true });
            }
            if !send(place, outcome) {
                return Ok(());
            }
        }
    }
}
