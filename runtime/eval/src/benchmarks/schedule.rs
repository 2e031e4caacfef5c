//! The order in which items are evaluated, and what each takes.

use super::data::BenchmarkData;
use super::error::{EvalError, Result};
use super::item::{Item, Question};
use super::item_runner::TokenizedItem;
use super::outcomes::Outcomes;
use super::passes::Work;
use super::prediction::sample;
use std::sync::atomic::{AtomicUsize, Ordering};
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;

/// An item to evaluate: the indices of its task and of itself, and the expected work.
#[derive(Clone, Copy)]
pub(crate) struct ScheduledItem {
    pub(crate) data: usize,
    pub(crate) item: usize,
    pub(crate) work: Work,
}

/// All items, by task; within a task, items with a common prefix are adjacent.
pub(crate) fn sorted(data: &[BenchmarkData]) -> Vec<(usize, usize)> {
    let beginning = |item: &Item| match &item.question {
        Question::Choices(choices) => choices.contexts.first().cloned().unwrap_or_default(),
        Question::Text { prompt, .. } => prompt.clone(),
    };
    let mut sorted = Vec::new();
    for (place, data) in data.iter().enumerate() {
        let mut items: Vec<usize> = (0..data.items.len()).collect();
        items.sort_by_cached_key(|&item| beginning(&data.items[item]));
        sorted.extend(items.into_iter().map(|item| (place, item)));
    }
    sorted
}

/// The scheduled items, and the positions that the longest needs.
pub(crate) type Prepared = (Vec<ScheduledItem>, usize);

/// Tokenizes every item once: to know the work, the longest item, and that every item fits.
pub(crate) fn prepare(
    file: &ModelFile<'_>,
    data: &[BenchmarkData],
    sorted: &[(usize, usize)],
    threads: usize,
    context: usize,
) -> Result<Prepared> {
    const CHUNK: usize = 64;
    let next = AtomicUsize::new(0);
    let chunk = |held: &mut Vec<Token>, part: &[(usize, usize)]| {
        let mut todo = Vec::with_capacity(part.len());
        let mut positions = 0;
        held.clear();
        for &(place, item) in part {
            let (data, at) = (&data[place], &data[place].items[item]);
            let asked = TokenizedItem::new(file, at, context)?;
            let asked = asked.map_err(|reason| data.wrong(at, reason))?;
            todo.push(ScheduledItem { data: place, item, work: asked.work(held) });
            positions = positions.max(asked.positions());
            held.clear();
            held.extend(asked.beginning());
        }
        Ok((todo, positions))
    };
    let work = || {
        let mut done = Vec::new();
        let mut held = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = sorted.chunks(CHUNK).nth(number) else { return done };
            done.push((number, chunk(&mut held, part)));
        }
    };
    let mut chunks: Vec<(usize, Result<Prepared>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| EvalError::Thread))
            .collect::<Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    // In order, so that the first error does not depend on the threads.
    chunks.sort_by_key(|(number, _)| *number);
    let (mut all, mut positions) = (Vec::with_capacity(sorted.len()), 0);
    for (_, chunk) in chunks {
        let (todo, longest) = chunk?;
        all.extend(todo);
        positions = positions.max(longest);
    }
    Ok((all, positions))
}

/// The timed items at the front of the schedule: how many, and how many are done.
pub(crate) struct TimedSample {
    pub(crate) of: usize,
    pub(crate) done: usize,
}

/// Moves an evenly spread sample of each task to the front.
pub(crate) fn timed_first(
    data: &[BenchmarkData],
    todo: Vec<ScheduledItem>,
    outcomes: &Outcomes,
) -> (Vec<ScheduledItem>, TimedSample) {
    let mut first = vec![false; todo.len()];
    let mut start = 0;
    for part in todo.chunk_by(|a, b| a.data == b.data) {
        let place = part[0].data;
        let before = outcomes.lists[place].iter().flatten().count();
        let wanted = sample(data[place].items.len(), before).min(part.len());
        for i in 0..wanted {
            first[start + (2 * i + 1) * part.len() / (2 * wanted)] = true;
        }
        start += part.len();
    }
    let pick = |wanted: bool| {
        todo.iter().zip(&first).filter(move |(_, first)| **first == wanted).map(|(todo, _)| *todo)
    };
    let of = first.iter().filter(|first| **first).count();
    (pick(true).chain(pick(false)).collect(), TimedSample { of, done: 0 })
}
