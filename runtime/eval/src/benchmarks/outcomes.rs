//! The outcomes of an evaluation so far.

use super::data::BenchmarkData;
use super::item::Item;
use super::item_runner::ItemOutcome;
use super::task::Task;
use std::collections::HashMap;

/// The finished outcomes, by the indices of task and item.
pub(crate) struct Outcomes {
    pub(crate) lists: Vec<Vec<Option<ItemOutcome>>>,
    places: HashMap<(Task, usize), (usize, usize)>,
    pub(crate) count: usize,
    pub(crate) of: usize,
}

impl Outcomes {
    pub(crate) fn new(data: &[BenchmarkData], past: Vec<ItemOutcome>) -> Outcomes {
        let mut places = HashMap::new();
        for (place, data) in data.iter().enumerate() {
            for (item, Item { index, .. }) in data.items.iter().enumerate() {
                places.insert((data.task, *index), (place, item));
            }
        }
        let lists = data.iter().map(|data| vec![None; data.items.len()]).collect();
        let mut outcomes = Outcomes { lists, of: places.len(), places, count: 0 };
        past.into_iter().for_each(|outcome| outcomes.add(outcome));
        outcomes
    }

    /// An item whose outcome does not answer its question.
    pub(crate) fn incomplete(&self, data: &[BenchmarkData]) -> Option<(Task, usize)> {
        let pairs = data.iter().zip(&self.lists).flat_map(|(data, list)| data.items.iter().zip(list));
        let mut done = pairs.filter_map(|(item, outcome)| Some((item, outcome.as_ref()?)));
        done.find(|(item, outcome)| !outcome.answers(item)).map(|(item, outcome)| (outcome.task, item.index))
    }

    pub(crate) fn add(&mut self, outcome: ItemOutcome) {
        if let Some(&(data, item)) = self.places.get(&(outcome.task, outcome.index)) {
            let slot = &mut self.lists[data][item];
            self.count += usize::from(slot.is_none());
            *slot = Some(outcome);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &ItemOutcome> {
        self.lists.iter().flatten().flatten()
    }

    pub(crate) fn into_lists(self) -> Vec<Vec<ItemOutcome>> {
        self.lists.into_iter().map(|list| list.into_iter().flatten().collect()).collect()
    }
}
