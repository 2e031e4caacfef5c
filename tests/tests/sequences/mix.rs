//! Requests that join, run beside each other in random parts, and leave.

use super::Subject;
use super::request::{Request, Trace, tokens};
use super::tiny::Random;
use thimble_host::{InferencePlan, InferenceSettings, KernelKind, Slots, SpinPool, slots};
use thimble_runtime::Token;
use thimble_runtime::adapter::WeightedAdapter;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::sampler::{Sampler, TokenMask};
use thimble_runtime::sequences::Part;

/// A request in a slot.
struct Running {
    request: Request,
    sampler: Sampler<'static>,
    /// Tokens that the slot has yet to run.
    pending: Vec<Token>,
    /// Tokens to draw before the rewind, or at all.
    left: usize,
    rewound: bool,
    trace: Trace,
}

/// How often something happened.
type Counts = Vec<(&'static str, usize)>;

/// A plan, and a random order of things.
pub(crate) struct Mix<'a> {
    subject: &'a Subject,
    random: Random,
    settings: InferenceSettings,
    longest: usize,
    label: String,
    counts: Counts,
}

impl<'a> Mix<'a> {
    pub(crate) fn new(number: usize, subject: &'a Subject, kernels: KernelKind) -> Mix<'a> {
        let mut random = Random(number as u64);
        let (kv, exact) =
            [(KvKind::F16, false), (KvKind::Q8, false), (KvKind::F32, true), (KvKind::F32, false)]
                [random.below(4)];
        // Long prompts reach several spans of attention, and move the caches of windows.
        let longest = if number % 10 == 9 { 1700 } else { 90 };
        let settings = InferenceSettings {
            context: Some(longest + 80),
            threads: Some(1 + random.below(3)),
            kernels: Some(kernels),
            kv: Some(kv),
            exact,
            batch: Some(8 + random.below(60)),
            sequences: Some(1 + random.below(7)),
            adapter_rank: 7,
            ..InferenceSettings::default()
        };
        let label = format!("mix {number}: {settings:?}");
        Mix { subject, random, settings, longest, label, counts: Counts::new() }
    }

    fn count(&mut self, what: &'static str, count: usize) {
        self.counts.push((what, count));
    }

    /// Runs the mix, and each of its requests alone.
    pub(crate) fn check(mut self) -> Counts {
        let file = self.subject.model.file().unwrap();
        let vocab = file.config().vocab;
        let plan = InferencePlan::new(file.config(), &self.settings).unwrap();
        let mut memory = plan.allocate().unwrap();
        let pool = SpinPool::new(plan.threads()).unwrap();
        let mut all = slots(&file, &plan, &mut memory, &pool).unwrap();
        let mut running: Vec<Option<Running>> = (0..all.slots()).map(|_| None).collect();
        // Long ones take most of the time.
        let most = if self.longest > 1000 { 2 } else { 6 };
        let (mut to_start, mut done) = (2 + self.random.below(most), Vec::new());
        while to_start > 0 || running.iter().any(Option::is_some) {
            for (slot, place) in running.iter_mut().enumerate() {
                if place.is_none() && to_start > 0 && self.random.below(2) == 0 {
                    to_start -= 1;
                    *place = Some(self.start(&mut all, slot, vocab));
                }
            }
            self.step(&mut all, &mut running);
            for (slot, place) in running.iter_mut().enumerate() {
                let Some(run) = place else { continue };
                if run.pending.is_empty() && self.advance(&mut all, slot, run, vocab) {
                    done.extend(place.take().map(|run| (run.request, run.trace)));
                }
            }
        }
        let sessions =
            InferenceSettings { sequences: None, threads: Some(1), batch: Some(64), ..self.settings };
        let plan = InferencePlan::new(file.config(), &sessions).unwrap();
        for (request, trace) in done {
            let expected = request.alone(self.subject, &plan);
            assert_eq!(expected.len(), trace.len(), "{}: {request:?}", self.label);
            for (i, (expected, found)) in expected.iter().zip(&trace).enumerate() {
                assert!(expected.0 == found.0, "{}: the logits of token {i} differ: {request:?}", self.label);
                assert!(expected.1 == found.1, "{}: token {i} differs: {request:?}", self.label);
            }
            self.count("requests", 1);
            self.count("tokens", trace.len());
            self.count("masked", usize::from(request.mask.is_some()));
            self.count("adapted", usize::from(!request.adapters.is_empty()));
        }
        self.counts
    }

    /// A request joins: some begin like what a slot holds, or with a copy of another slot.
    fn start<'s>(&mut self, all: &mut Slots<'s>, slot: usize, vocab: usize) -> Running
    where
        'a: 's,
    {
        let longest = self.longest;
        let mut request = Request::new(&mut self.random, vocab, longest);
        let from = self.random.below(all.slots());
        let copies = from != slot && all.position(from) > 0 && self.random.below(3) == 0;
        if copies || self.random.below(3) == 0 {
            let held = all.tokens(if copies { from } else { slot });
            let keep = self.random.below(held.len() + 1);
            let mut prompt = held[..keep].to_vec();
            prompt.truncate(longest.saturating_sub(20));
            prompt.extend(tokens(&mut self.random, 1 + keep % 20, vocab));
            // The rewind was chosen for another prompt.
            let back = request.again.as_ref().map_or(0, |again| again.0);
            if prompt.len() + request.first > back {
                request.prompt = prompt;
            }
        }
        let weighted: Vec<WeightedAdapter<'s>> = request
            .adapters
            .iter()
            .map(|&(index, weight)| WeightedAdapter {
                file: self.subject.adapters[index].file().unwrap(),
                weight,
            })
            .collect();
        if copies {
            // All of it, or what is of use.
            let common = all.tokens(from).iter().zip(&request.prompt).take_while(|(a, b)| a == b).count();
            let tokens = if slot.is_multiple_of(2) { all.position(from) } else { common };
            all.copy(from, slot, tokens).unwrap();
            assert!(all.tokens(from)[..tokens] == *all.tokens(slot) && all.logits(slot).is_empty());
            self.count("copied", 1);
        }
        // Drops the copy if it has other adapters.
        all.set_adapters(slot, &weighted).unwrap();
        let kept = all.reuse(slot, &request.prompt);
        assert_eq!(all.position(slot), kept);
        self.count("reused", usize::from(kept > 0));
        let pending = request.prompt[kept..].to_vec();
        let sampler = Sampler::new(request.sampling).unwrap();
        Running { left: request.first, sampler, pending, rewound: false, trace: Trace::new(), request }
    }

    /// One step of some of the slots, with some of their tokens.
    fn step(&mut self, all: &mut Slots<'_>, running: &mut [Option<Running>]) {
        let mut room = all.batch();
        let mut parts = Vec::new();
        let first = self.random.below(running.len());
        let order = (first..running.len()).chain(0..first);
        let mut chosen: Vec<(usize, Vec<Token>)> = Vec::new();
        for slot in order {
            let Some(run) = &mut running[slot] else { continue };
            let most = run.pending.len().min(room);
            if most > 0 && self.random.below(4) > 0 {
                let count = if self.random.below(2) == 0 { most } else { 1 + self.random.below(most) };
                chosen.push((slot, run.pending.drain(..count).collect()));
                room -= count;
            }
        }
        parts.extend(chosen.iter().map(|(slot, tokens)| Part { slot: *slot, tokens }));
        if !parts.is_empty() {
            self.count("together", usize::from(parts.len() > 1));
            all.step(&parts).unwrap();
        }
    }

    /// Draws the next token of a slot that has run all that it had. Whether the request is done.
    fn advance(&mut self, all: &mut Slots<'_>, slot: usize, run: &mut Running, vocab: usize) -> bool {
        if all.logits(slot).is_empty() {
            // It ran earlier, and another step came since: it runs its last token again.
            let last = *all.tokens(slot).last().unwrap();
            all.rewind(slot, all.position(slot) - 1).unwrap();
            run.pending.push(last);
            return false;
        }
        if run.left == 0 {
            let Some((back, more, count)) = run.request.again.clone().filter(|_| !run.rewound) else {
                return true;
            };
            let to = all.position(slot) - back;
            all.rewind(slot, to).unwrap();
            assert!(all.logits(slot).is_empty());
            self.count("rewound", 1);
            // The cache of a window has only positions from 512 on, once it has moved.
            let refills = all.plan().config().window > 0 && to + back > 1024 && to < 511;
            self.count("refilled", usize::from(refills));
            (run.pending, run.left, run.rewound) = (more, count, true);
            return false;
        }
        let logits = all.logits(slot).iter().map(|x| x.to_bits()).collect();
        let token = match run.request.mask(run.trace.len(), vocab) {
            Some(words) => all.sample_masked(slot, &mut run.sampler, TokenMask::new(&words)).unwrap(),
            None => all.sample(slot, &mut run.sampler),
        };
        run.trace.push((logits, token));
        run.pending.push(token);
        run.left -= 1;
        false
    }
}
