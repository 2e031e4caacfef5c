//! The threads of an evaluation, each with a session of its own.

use super::data::BenchmarkData;
use super::error::{EvalError, Result};
use super::item::Question;
use super::item_runner::{ItemOutcome, ItemRunner};
use super::schedule::ScheduledItem;
use super::text_runner::TextRunner;
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
    /// The plan of generated answers, several at a time, if there are any and the CPU runs them.
    pub(crate) text_plan: Option<InferencePlan>,
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
        let mut text_memory = self.text_plan.as_ref().map(InferencePlan::allocate).transpose()?;
        let mut text_runner = match (&self.text_plan, &mut text_memory) {
            (Some(plan), Some(memory)) => {
                Some(TextRunner::new(*self.file, plan, memory, self.adapters, self.context)?)
            }
            _ => None,
        };
        let goes_on = || !ended.load(Ordering::Relaxed) && !self.stop.load(Ordering::Relaxed);
        // The next item, if it is one for the text runner or, without `text`, none.
        let claim = |text: bool| {
            let claimed = |place: usize| {
                let todo = self.todo.get(place)?;
                let is_text = self.text_plan.is_some() && self.is_text(todo);
                (is_text == text).then_some(place + 1)
            };
            next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claimed).ok()
        };
        while goes_on() {
            let Some(place) = claim(false) else {
                if next.load(Ordering::Relaxed) >= self.todo.len() {
                    return Ok(());
                }
                if let Some(text_runner) = &mut text_runner {
                    let mut claim = || {
                        let (place, data) = claim(true).map(|place| (place, &self.todo[place]))?;
                        let (data, item) = (&self.data[data.data], data.item);
                        Some((place, data.task, &data.items[item]))
                    };
                    text_runner.run(&mut claim, send, &goes_on)?;
                }
                continue;
            };
            let todo = &self.todo[place];
            let data = &self.data[todo.data];
            let outcome = item_runner.answer(data.task, &data.items[todo.item])?;
            if item_runner.session.sequence().kind() != self.plan.backend() {
                return Err(EvalError::Gpu { begun: true });
            }
            if !send(place, outcome) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_text(&self, todo: &ScheduledItem) -> bool {
        matches!(self.data[todo.data].items[todo.item].question, Question::Text { .. })
    }
}
