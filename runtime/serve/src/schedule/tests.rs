//! Which sequence runs when, with a model that counts.

use super::job::{Event, Generation, Job, QueueCount, Work};
use super::running::ModelTokens;
use super::scheduler::Scheduler;
use super::slots::SlotRunner;
use crate::control::Control;
use crate::metrics::Metrics;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use thimble_chat::End;
use thimble_runtime::Token;
use thimble_runtime::sampler::{Sampler, Sampling, TokenMask};
use thimble_runtime::sequences::Part;
use thimble_runtime::session::SessionError;
use tokio::sync::mpsc;

const VOCAB: usize = 1000;
const BATCH: usize = 100;

/// Token n is followed by n + 1; 999 panics.
struct Counting {
    slots: Vec<Vec<Token>>,
    /// The slot and the number of tokens of each part, step by step.
    steps: Vec<Vec<(usize, usize)>>,
    logits: Vec<f32>,
}

impl Counting {
    fn new(slots: usize) -> Counting {
        Counting { slots: vec![Vec::new(); slots], steps: Vec::new(), logits: vec![0.0; VOCAB] }
    }
}

impl SlotRunner for Counting {
    fn slots(&self) -> usize {
        self.slots.len()
    }
    fn context(&self) -> usize {
        2000
    }
    fn hidden(&self) -> usize {
        1
    }
    fn batch(&self) -> usize {
        BATCH
    }
    fn tokens(&mut self, slot: usize) -> &[Token] {
        &self.slots[slot]
    }
    fn reuse(&mut self, slot: usize, tokens: &[Token]) -> usize {
        let held = &mut self.slots[slot];
        let common = held.iter().zip(tokens).take_while(|(a, b)| a == b).count().min(tokens.len() - 1);
        held.truncate(common);
        common
    }
    fn clear(&mut self, slot: usize) {
        self.slots[slot].clear();
    }
    fn step(&mut self, parts: &[Part<'_>]) -> Result<(), SessionError> {
        for part in parts {
            assert!(!part.tokens.contains(&Token(999)), "this token panics");
            self.slots[part.slot].extend_from_slice(part.tokens);
        }
        self.steps.push(parts.iter().map(|part| (part.slot, part.tokens.len())).collect());
        Ok(())
    }
    fn logits(&mut self, _slot: usize) -> &mut [f32] {
        &mut self.logits
    }
    fn sample(&mut self, slot: usize, _sampler: &mut Sampler<'_>) -> Token {
        Token((self.slots[slot].last().unwrap().0 + 1) % VOCAB as u32)
    }
    fn sample_masked(&mut self, _: usize, _: &mut Sampler<'_>, _: TokenMask<'_>) -> Option<Token> {
        None
    }
    fn append(
        &mut self,
        _: usize,
        _: &[Token],
        _: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), SessionError> {
        Err(SessionError::Empty)
    }
    fn hidden_states(
        &mut self,
        _: &[Part<'_>],
        _: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), SessionError> {
        Err(SessionError::Empty)
    }
}

/// What asks the scheduler.
struct Asker {
    jobs: Sender<Job>,
    queue: Arc<QueueCount>,
}

impl Asker {
    fn ask(&self, client: u64, prompt: Vec<u32>, max_tokens: usize) -> mpsc::Receiver<Event> {
        self.ask_with(client, prompt, max_tokens, 5000, Duration::from_secs(600))
    }

    fn ask_with(
        &self,
        client: u64,
        prompt: Vec<u32>,
        max_tokens: usize,
        room: usize,
        time: Duration,
    ) -> mpsc::Receiver<Event> {
        let (sender, events) = mpsc::channel(room);
        let generation = Generation {
            sampler: Sampler::new(Sampling::GREEDY).unwrap(),
            biases: Arc::new([]),
            grammar: None,
            max_tokens,
            stops: true,
            log_probabilities: None,
            scores_prompt: false,
        };
        let prompt: Arc<[Token]> = prompt.into_iter().map(Token).collect();
        let job = Job {
            client,
            index: 0,
            prompt: Arc::clone(&prompt),
            work: Work::Generate(Box::new(generation)),
            events: sender,
            cancelled: Arc::new(AtomicBool::new(false)),
            deadline: Instant::now() + time,
            place: self.queue.enter(prompt.len()),
        };
        self.jobs.send(job).unwrap();
        events
    }
}

/// Runs a scheduler over `slots` with what `ask` asks, to the end; `control` is its own.
fn run<T>(slots: &mut Counting, ask: impl FnOnce(&Asker, &Control) -> T) -> T {
    let (jobs, to_schedule) = channel();
    let control = Arc::new(Control::default());
    let tokens = ModelTokens { vocab: VOCAB, stop: vec![Token(500)] };
    let scheduler =
        Scheduler::new(slots, tokens, to_schedule, Arc::clone(&control), Arc::new(Metrics::default()));
    let asker = Asker { jobs, queue: QueueCount::new(100, 2000) };
    let asked = ask(&asker, &control);
    drop(asker);
    scheduler.run();
    asked
}

/// What a job reported: cached tokens, tokens of the answer, and how it ended.
fn report(events: &mut mpsc::Receiver<Event>) -> (usize, Vec<u32>, Option<End>) {
    let (mut cached, mut answer, mut ended) = (0, Vec::new(), None);
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Begun { cached: found, .. } => cached = found,
            Event::Tokens { tokens, .. } => answer.extend(tokens.iter().map(|token| token.token.0)),
            Event::Ended { end, .. } => ended = Some(end),
            _ => return (cached, answer, None),
        }
    }
    (cached, answer, ended)
}

#[test]
fn answers_end_at_a_stop_token_or_at_their_limit() {
    let mut slots = Counting::new(2);
    let (mut limited, mut stopped, mut none) = run(&mut slots, |asker, _| {
        (asker.ask(1, vec![7, 8], 3), asker.ask(1, vec![497], 9), asker.ask(1, vec![3], 0))
    });
    assert_eq!(report(&mut limited), (0, vec![9, 10, 11], Some(End::Length)));
    assert_eq!(report(&mut stopped), (0, vec![498, 499], Some(End::Stop)));
    assert_eq!(report(&mut none), (0, vec![], Some(End::Length)));
}

#[test]
fn a_long_prompt_runs_beside_answers_in_pieces() {
    let mut slots = Counting::new(2);
    let long: Vec<u32> = (0..900).map(|n| n % 400).collect();
    let (mut short, mut long) =
        run(&mut slots, |asker, _| (asker.ask(1, vec![1], 40), asker.ask(2, long, 2)));
    assert_eq!(report(&mut short).1, (2..42).collect::<Vec<_>>());
    assert_eq!(report(&mut long).1, [100, 101]);
    let steps = &slots.steps;
    // The short answer gets a token in every step until it ends.
    assert!(steps[1..40].iter().all(|step| step[0] == (0, 1)), "{steps:?}");
    assert!(steps.iter().all(|step| step.iter().map(|part| part.1).sum::<usize>() <= BATCH), "{steps:?}");
    assert!(steps[1..10].iter().all(|step| step[1].1 <= 64), "{steps:?}");
    assert_eq!(steps.iter().flatten().filter(|part| part.0 == 1).map(|part| part.1).sum::<usize>(), 901);
}

#[test]
fn clients_take_turns() {
    let mut slots = Counting::new(1);
    let asked = run(&mut slots, |asker, _| {
        let jobs = [(1, 10), (1, 20), (1, 30), (2, 40), (3, 50), (2, 60)];
        jobs.map(|(client, first)| asker.ask(client, vec![first; first as usize], 1))
    });
    assert_eq!(asked.len(), 6);
    // The number of tokens tells the prompts apart.
    let order: Vec<usize> = slots.steps.iter().map(|step| step[0].1).collect();
    assert_eq!(order, [10, 40, 50, 20, 60, 30]);
}

#[test]
fn a_prompt_goes_where_most_of_it_is() {
    let mut slots = Counting::new(2);
    let head = |tail: u32| (100..150).chain([tail]).collect::<Vec<u32>>();
    let other: Vec<u32> = (300..340).collect();
    let mut asked = run(&mut slots, |asker, _| {
        [
            asker.ask(1, head(7), 1),
            asker.ask(1, other.clone(), 1),
            asker.ask(1, head(8), 1),
            asker.ask(1, other, 1),
        ]
    });
    let cached: Vec<usize> = asked.iter_mut().map(|events| report(events).0).collect();
    assert_eq!(cached, [0, 0, 50, 39]);
    // A new prompt that shares little takes the slot that was not used for longest.
    let mut asked = run(&mut slots, |asker, _| {
        [asker.ask(1, head(8), 1), asker.ask(1, (300..305).chain(700..720).collect(), 1)]
    });
    assert_eq!(asked.each_mut().map(|events| report(events).0), [50, 5]);
}

#[test]
fn what_nobody_waits_for_ends() {
    let mut slots = Counting::new(1);
    let (mut full, mut late) = run(&mut slots, |asker, _| {
        drop(asker.ask(1, vec![1], 1000));
        let full = asker.ask_with(2, vec![2], 450, 8, Duration::from_secs(600));
        (full, asker.ask_with(3, vec![3], 9, 8, Duration::ZERO))
    });
    let (_, answer, ended) = report(&mut full);
    // One event is that it began.
    assert_eq!((answer.len(), ended), (7, None));
    assert!(matches!(late.try_recv(), Ok(Event::Failed(_))));
    assert!(slots.steps.len() < 20);
    let mut told = run(&mut slots, |asker, control| {
        control.finish();
        asker.ask(1, vec![1], 10)
    });
    assert!(matches!(told.try_recv(), Ok(Event::Failed(_))));
}

#[test]
fn a_panic_ends_only_what_runs() {
    let mut slots = Counting::new(1);
    let (mut bad, mut good) =
        run(&mut slots, |asker, _| (asker.ask(1, vec![999], 5), asker.ask(2, vec![5], 2)));
    assert!(matches!(bad.try_recv(), Ok(Event::Begun { .. })));
    assert!(matches!(bad.try_recv(), Ok(Event::Failed(_))));
    assert_eq!(report(&mut good), (0, vec![6, 7], Some(End::Length)));
}

#[test]
fn places_in_the_queue_are_limited() {
    let queue = QueueCount::new(3, 10);
    let full: Vec<_> = (0..3).map(|_| queue.enter(10).unwrap()).collect();
    assert!(queue.enter(0).is_none());
    assert_eq!(queue.waiting(), 3);
    drop(full);
    assert_eq!(queue.waiting(), 0);
    // Its tokens count, too; but one request may have more.
    let long = queue.enter(1000).unwrap();
    assert!(queue.enter(1).is_none());
    drop(long);
    assert!(queue.enter(29).is_some());
}
