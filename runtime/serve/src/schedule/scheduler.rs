//! The loop that runs all sequences.

use super::job::{Event, Job, Work};
use super::queue::FairQueue;
use super::running::{ModelTokens, Outcome, Run, Running};
use super::slots::SlotRunner;
use crate::control::Control;
use crate::error::ApiError;
use crate::metrics::Metrics;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use thimble_chat::End;
use thimble_runtime::Token;
use thimble_runtime::sequences::Part;

/// Most prompt tokens of a step in which answers go on: they should not wait long.
const PROMPT_TOKENS: usize = 64;
/// Fewest tokens that are copied from another slot.
const COPIED_TOKENS: usize = 16;
/// How long the scheduler sleeps at most: it looks at deadlines and at the end of the server.
const IDLE: Duration = Duration::from_millis(200);

/// Runs jobs in slots: continuous batching, in which sequences join and leave between tokens.
pub(crate) struct Scheduler<'s> {
    slots: &'s mut dyn SlotRunner,
    tokens: ModelTokens,
    jobs: Receiver<Job>,
    control: Arc<Control>,
    metrics: Arc<Metrics>,
    queue: FairQueue<Job>,
    running: Vec<Option<Running>>,
    /// When each slot was used last, in admissions.
    used: Vec<u64>,
    admitted: u64,
}

impl<'s> Scheduler<'s> {
    /// A scheduler of `slots`, which run a model with these tokens.
    pub(crate) fn new(
        slots: &'s mut dyn SlotRunner,
        tokens: ModelTokens,
        jobs: Receiver<Job>,
        control: Arc<Control>,
        metrics: Arc<Metrics>,
    ) -> Scheduler<'s> {
        let count = slots.slots();
        let running = (0..count).map(|_| None).collect();
        let (queue, used) = (FairQueue::default(), vec![0; count]);
        Scheduler { slots, tokens, jobs, control, metrics, queue, running, used, admitted: 0 }
    }

    /// Runs until nobody can send jobs any more.
    pub(crate) fn run(mut self) {
        while self.receive() {
            // A panic is a bug, and must not end the answers of others for good.
            if catch_unwind(AssertUnwindSafe(|| self.turn())).is_err() {
                self.metrics.panics.fetch_add(1, Ordering::Relaxed);
                self.fail_all();
            }
        }
    }

    /// Takes new jobs; waits for one if there is nothing else to do. False if there will be none.
    fn receive(&mut self) -> bool {
        if self.is_idle() {
            match self.jobs.recv_timeout(IDLE) {
                Ok(job) => self.queue.push(job.client, job),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.queue.push(job.client, job),
                Err(TryRecvError::Empty) => return true,
                // What was begun is finished.
                Err(TryRecvError::Disconnected) => return !self.is_idle(),
            }
        }
    }

    /// Whether there is nothing to do.
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.iter().all(Option::is_none)
    }

    /// One step of all sequences.
    fn turn(&mut self) {
        self.end_over();
        self.admit();
        self.step();
        for slot in 0..self.running.len() {
            let Some(running) = &mut self.running[slot] else { continue };
            if !running.waiting().is_empty() || matches!(running.job.work, Work::Embed(_)) {
                continue;
            }
            let outcome = running.draw(self.slots, slot, &self.tokens);
            self.settle(slot, outcome);
        }
        let busy = self.running.iter().flatten().count();
        self.metrics.busy_slots.store(busy as u64, Ordering::Relaxed);
        self.metrics.waiting_jobs.store(self.queue.len() as u64, Ordering::Relaxed);
    }

    /// Ends jobs whose client is gone or whose time is up.
    fn end_over(&mut self) {
        let (now, finishes) = (Instant::now(), self.control.finishes());
        let left = |job: &Job| job.cancelled.load(Ordering::Relaxed) || job.events.is_closed();
        for job in self.queue.remove_over(|job| left(job) || finishes || now >= job.deadline) {
            let error = if finishes { ApiError::stopping() } else { ApiError::waited_too_long() };
            let _ = job.events.try_send(Event::Failed(error));
        }
        for slot in 0..self.running.len() {
            let Some(running) = &self.running[slot] else { continue };
            let job = &running.job;
            if left(job) {
                // A flag means that the answer is complete, for instance at a stop sequence.
                let gone = !job.cancelled.load(Ordering::Relaxed);
                self.metrics.cancelled.fetch_add(u64::from(gone), Ordering::Relaxed);
                self.running[slot] = None;
            } else if finishes || now >= job.deadline {
                let event = match &job.work {
                    Work::Generate(_) => Event::Ended { index: job.index, end: End::Interrupted },
                    Work::Embed(_) if finishes => Event::Failed(ApiError::stopping()),
                    Work::Embed(_) => Event::Failed(ApiError::waited_too_long()),
                };
                self.settle(slot, Outcome::Over(event));
            }
        }
    }

    /// Gives free slots to waiting jobs.
    fn admit(&mut self) {
        // They go on from a prompt that another slot is about to compute.
        let mut waiting = Vec::new();
        while self.running.iter().any(Option::is_none) {
            let Some(mut job) = self.queue.pop() else { break };
            if self.slots.copies() && self.running.iter().flatten().any(|running| running.prepares(&job)) {
                waiting.push(job);
                continue;
            }
            job.place = None;
            let Some(slot) = self.choose(&job) else { break };
            let cached = match job.reuses() {
                true => {
                    self.copy_prefix(&job, slot);
                    self.slots.reuse(slot, &job.prompt)
                }
                false => {
                    self.slots.clear(slot);
                    0
                }
            };
            self.admitted += 1;
            self.used[slot] = self.admitted;
            self.metrics.cached_tokens.fetch_add(cached as u64, Ordering::Relaxed);
            let begun = job.events.try_send(Event::Begun { index: job.index, cached });
            let (running, made) = Running::new(job, (self.admitted, cached), self.slots, self.tokens.vocab);
            self.running[slot] = begun.is_ok().then_some(running);
            if let Err(error) = made {
                self.settle(slot, Outcome::Over(Event::Failed(error)));
            }
        }
        waiting.into_iter().for_each(|job| self.queue.push(job.client, job));
    }

    /// The free slot for a job: the one that holds most of its prompt, if that is at least half of what the slot holds, and
    /// otherwise the one that was not used for longest. So a conversation finds its own tokens again, and a new one that
    /// shares a system message does not take the place of another.
    fn choose(&mut self, job: &Job) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        let mut oldest: Option<usize> = None;
        for slot in 0..self.running.len() {
            if self.running[slot].is_some() {
                continue;
            }
            if oldest.is_none_or(|oldest| self.used[slot] < self.used[oldest]) {
                oldest = Some(slot);
            }
            let common = self.common(slot, job);
            let held = self.slots.tokens(slot).len();
            if common > 0 && 2 * common >= held && best.is_none_or(|(most, _)| common > most) {
                best = Some((common, slot));
            }
        }
        best.map(|(_, slot)| slot).or(oldest)
    }

    /// Copies the beginning of a prompt from another slot, if that saves enough.
    fn copy_prefix(&mut self, job: &Job, slot: usize) {
        if !self.slots.copies() {
            return;
        }
        let own = self.common(slot, job);
        let others = (0..self.running.len()).filter(|&other| other != slot);
        let others: Vec<(usize, usize)> = others.map(|other| (self.common(other, job), other)).collect();
        if let Some(&(common, other)) = others.iter().max()
            && common >= own + COPIED_TOKENS
        {
            // Without the copy, the prompt is computed.
            let _ = self.slots.copy(other, slot, common);
        }
    }

    /// Tokens at the beginning that a slot and a prompt have in common.
    fn common(&mut self, slot: usize, job: &Job) -> usize {
        let held = self.slots.tokens(slot);
        held.iter().zip(job.prompt.iter()).take_while(|(a, b)| a == b).count()
    }

    /// Runs the tokens that wait: those of answers first, then those of prompts, the oldest first.
    fn step(&mut self) {
        let answering = self.running.iter().flatten().any(Running::answers);
        let mut order: Vec<usize> = (0..self.running.len()).filter(|&s| self.running[s].is_some()).collect();
        order.sort_by_key(|&slot| {
            self.running[slot].as_ref().map(|running| (!running.answers(), running.number))
        });
        let mut room = self.slots.batch();
        let mut prompt_room = if answering { room.min(PROMPT_TOKENS) } else { room };
        let (mut parts, mut texts) = (Vec::with_capacity(order.len()), Vec::new());
        for slot in order {
            let Some(running) = &mut self.running[slot] else { continue };
            let most = if running.answers() { room } else { room.min(prompt_room) };
            let run = running.next_run();
            let count = match run {
                Run::Step | Run::States => running.waiting().len().min(most),
                Run::Score(wanted) => wanted.min(most),
            };
            if count == 0 {
                continue;
            }
            room -= count;
            if !running.answers() {
                prompt_room -= count;
            }
            match run {
                Run::Step => parts.push((slot, count)),
                Run::States => texts.push((slot, count)),
                Run::Score(_) => {
                    let outcome = running.score(self.slots, slot, count);
                    self.metrics.prompt_tokens.fetch_add(count as u64, Ordering::Relaxed);
                    self.settle(slot, outcome);
                }
            }
        }
        self.embed_together(&texts);
        self.step_together(&parts);
    }

    /// Runs the next tokens of several texts in one pass, and adds up their hidden states.
    fn embed_together(&mut self, texts: &[(usize, usize)]) {
        if texts.is_empty() {
            return;
        }
        let mut sums: Vec<(usize, Vec<f32>, usize)> = Vec::with_capacity(texts.len());
        for &(slot, count) in texts {
            if let Some(running) = &mut self.running[slot] {
                let (sum, from) = running.sum_of_states(count);
                sums.push((slot, sum, from));
            }
        }
        let tokens = parts(&self.running, texts);
        let ran = self.slots.hidden_states(&tokens, &mut |part, index, state| {
            if let Some((_, sum, _)) = sums.get_mut(part).filter(|(.., from)| index >= *from) {
                sum.iter_mut().zip(state).for_each(|(sum, x)| *sum += x);
            }
        });
        for ((slot, sum, _), &(_, count)) in sums.into_iter().zip(texts) {
            let Some(running) = &mut self.running[slot] else { continue };
            let outcome = match &ran {
                Ok(()) => running.add_states(sum, count),
                Err(error) => Outcome::Over(Event::Failed(ApiError::internal(error))),
            };
            self.metrics.prompt_tokens.fetch_add(count as u64, Ordering::Relaxed);
            self.settle(slot, outcome);
        }
    }

    /// Runs the next tokens of several slots in one step.
    fn step_together(&mut self, counts: &[(usize, usize)]) {
        if counts.is_empty() {
            return;
        }
        let tokens = parts(&self.running, counts);
        let ran = self.slots.step(&tokens);
        self.metrics.steps.fetch_add(1, Ordering::Relaxed);
        for &(slot, count) in counts {
            match (&ran, &mut self.running[slot]) {
                (Ok(()), Some(running)) => {
                    let counter = match running.answers() {
                        true => &self.metrics.answer_tokens,
                        false => &self.metrics.prompt_tokens,
                    };
                    counter.fetch_add(count as u64, Ordering::Relaxed);
                    running.advance(count);
                }
                (Err(error), Some(_)) => {
                    let failed = Outcome::Over(Event::Failed(ApiError::internal(error)));
                    self.settle(slot, failed);
                    self.slots.clear(slot);
                }
                (_, None) => {}
            }
        }
    }

    /// Frees the slot of a job that is over.
    fn settle(&mut self, slot: usize, outcome: Outcome) {
        if let Outcome::Over(event) = outcome
            && let Some(running) = self.running[slot].take()
            && running.job.events.try_send(event).is_err()
        {
            self.metrics.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// After a panic: nothing is known about the sequences.
    fn fail_all(&mut self) {
        for slot in 0..self.running.len() {
            let failed = Event::Failed(ApiError::internal(&"the scheduler panicked, which is a bug"));
            self.settle(slot, Outcome::Over(failed));
            self.slots.clear(slot);
        }
    }
}

/// The next tokens of slots, so many of each.
fn parts<'r>(running: &'r [Option<Running>], counts: &[(usize, usize)]) -> Vec<Part<'r>> {
    let part = |&(slot, count): &(usize, usize)| {
        let tokens: &[Token] = running[slot].as_ref()?.waiting().get(..count)?;
        Some(Part { slot, tokens })
    };
    counts.iter().filter_map(part).collect()
}
