//! Generates the answers of several items at a time on one thread: each pass over the weights continues all of them.

use super::answer::{MAX_TOKENS, STOPS, ends_answer};
use super::error::{EvalError, Result};
use super::item::Item;
use super::item_runner::{ItemOutcome, TokenizedItem};
use super::passes::Work;
use super::task::Task;
use std::time::Instant;
use thimble_host::{InferenceMemory, InferencePlan};
use thimble_host::{Slots, slots};
use thimble_runtime::Token;
use thimble_runtime::adapter::WeightedAdapter;
use thimble_runtime::format::ModelFile;
use thimble_runtime::kernels::SingleThread;
use thimble_runtime::sampler::greedy;
use thimble_runtime::sequences::Part;
use thimble_runtime::stop::StopMatcher;

/// Most answers at a time. From a few rows on, arithmetic limits a pass, and more only take memory.
const MOST_SLOTS: usize = 8;
/// Most bytes that the caches of these answers take on all threads.
const MOST_BYTES: usize = 1 << 30;
/// A copy of another slot's cache has to save more tokens than this.
const COPY_PAYS: usize = 16;

/// Answers at a time on each of `threads`, for a plan of one sequence.
pub(crate) fn slots_per_thread(plan: &InferencePlan, threads: usize) -> usize {
    let each = plan.memory().sequence_bytes().unwrap_or(usize::MAX).max(1);
    (MOST_BYTES / threads.max(1) / each).clamp(1, MOST_SLOTS)
}

/// The item at a place of the schedule.
pub(crate) type PlacedItem<'i> = (usize, Task, &'i Item);

/// An answer that is being generated.
struct Answer {
    place: usize,
    outcome: ItemOutcome,
    text: Vec<u8>,
    /// The token to run next.
    next: Token,
}

/// Slots of one thread and their model.
pub(crate) struct TextRunner<'a> {
    file: ModelFile<'a>,
    slots: Slots<'a, SingleThread>,
    /// The context to which prompts are truncated.
    context: usize,
}

impl<'a> TextRunner<'a> {
    pub(crate) fn new(
        file: ModelFile<'a>,
        plan: &InferencePlan,
        memory: &'a mut InferenceMemory,
        adapters: &[WeightedAdapter<'a>],
        context: usize,
    ) -> Result<TextRunner<'a>> {
        let mut slots = slots(&file, plan, memory, &SingleThread)?;
        for slot in 0..slots.slots() {
            slots.set_adapters(slot, adapters)?;
        }
        Ok(TextRunner { file, slots, context })
    }

    /// Answers the items that `claim` hands out until it has no more, and passes each outcome to `send` when it is done. Ends
    /// early, without the answers in progress, if `send` or `goes_on` returns false.
    pub(crate) fn run<'i>(
        &mut self,
        claim: &mut dyn FnMut() -> Option<PlacedItem<'i>>,
        send: &mut dyn FnMut(usize, ItemOutcome) -> bool,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<()> {
        let stops = STOPS.map(str::as_bytes);
        let mut buffers = vec![[0; 16]; self.slots.slots()];
        // The buffers are longer than the longest stop, and no stop is empty.
        let mut matchers: Vec<StopMatcher<'_>> =
            buffers.iter_mut().filter_map(|buffer| StopMatcher::new(&stops, buffer).ok()).collect();
        let mut answers: Vec<Option<Answer>> = matchers.iter().map(|_| None).collect();
        while goes_on() {
            for slot in 0..answers.len() {
                while answers[slot].is_none()
                    && let Some(item) = claim()
                {
                    let (answer, token) = self.begin(slot, item)?;
                    matchers[slot].reset();
                    let place = answers[slot].insert(answer);
                    if self.take(place, token, &mut matchers[slot]) && !finish(&mut answers[slot], send) {
                        return Ok(());
                    }
                }
            }
            let begin = Instant::now();
            let active = answers.iter().flatten().count();
            if active == 0 {
                return Ok(());
            }
            let parts: Vec<(usize, [Token; 1])> = (0..)
                .zip(&answers)
                .filter_map(|(slot, answer)| Some((slot, [answer.as_ref()?.next])))
                .collect();
            let parts: Vec<Part<'_>> =
                parts.iter().map(|(slot, tokens)| Part { slot: *slot, tokens }).collect();
            self.slots.step(&parts)?;
            let mut ended = Vec::new();
            for Part { slot, .. } in parts {
                let token = greedy(self.slots.logits(slot));
                let Some(answer) = &mut answers[slot] else { continue };
                if self.take(answer, token, &mut matchers[slot]) {
                    ended.push(slot);
                }
            }
            // Each answer has its share of the thread.
            let seconds = begin.elapsed().as_secs_f64() / active as f64;
            answers.iter_mut().flatten().for_each(|answer| answer.outcome.decode_seconds += seconds);
            for slot in ended {
                if !finish(&mut answers[slot], send) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Runs an item's prompt in a slot. Returns its answer and the first token of it.
    fn begin(&mut self, slot: usize, (place, task, item): PlacedItem<'_>) -> Result<(Answer, Token)> {
        let begin = Instant::now();
        let wrong = |reason| EvalError::Row { file: task.name().into(), line: item.line, reason };
        let prompt = match TokenizedItem::new(&self.file, item, self.context)?.map_err(wrong)? {
            TokenizedItem::Text(prompt) => prompt,
            TokenizedItem::Choices(_) => return Err(wrong("expected a question for a text".to_owned())),
        };
        let common = |slots: &Slots<'_, SingleThread>, slot: usize| {
            slots.tokens(slot).iter().zip(&prompt).take_while(|(a, b)| a == b).count()
        };
        let best = (0..self.slots.slots()).max_by_key(|slot| common(&self.slots, *slot)).unwrap_or(slot);
        let shared = common(&self.slots, best);
        if shared > common(&self.slots, slot) + COPY_PAYS {
            self.slots.copy(best, slot, shared)?;
        }
        let keep = self.slots.reuse(slot, &prompt);
        for tokens in prompt[keep..].chunks(self.slots.batch()) {
            self.slots.step(&[Part { slot, tokens }])?;
        }
        let token = greedy(self.slots.logits(slot));
        let mut outcome = ItemOutcome::empty(task, item.index);
        outcome.work = Work::of(&(keep..prompt.len()), prompt.len() - 1);
        outcome.seconds = begin.elapsed().as_secs_f64();
        Ok((Answer { place, outcome, text: Vec::new(), next: token }, token))
    }

    /// Takes the next token of an answer. Whether the answer is complete.
    fn take(&self, answer: &mut Answer, token: Token, matcher: &mut StopMatcher<'_>) -> bool {
        answer.outcome.work.decoded += 1;
        answer.next = token;
        let ends = ends_answer(&self.file, token, matcher, &mut answer.text)
            || answer.outcome.work.decoded == MAX_TOKENS as u64;
        if ends {
            matcher.finish(&mut |bytes| answer.text.extend_from_slice(bytes));
        }
        ends
    }
}

/// Sends a complete answer. False if nobody wants more.
fn finish(answer: &mut Option<Answer>, send: &mut dyn FnMut(usize, ItemOutcome) -> bool) -> bool {
    let Some(Answer { place, mut outcome, text, .. }) = answer.take() else { return true };
    outcome.text = Some(String::from_utf8_lossy(&text).into_owned());
    send(place, outcome)
}
