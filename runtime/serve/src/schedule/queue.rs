//! What waits for its turn: one client after the other, and each client's in their order.

use super::job::ClientId;
use std::collections::{HashMap, VecDeque};

/// Waiting jobs by client.
pub(crate) struct FairQueue<T> {
    /// The clients that wait, the next one first.
    order: VecDeque<ClientId>,
    jobs: HashMap<ClientId, VecDeque<T>>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> FairQueue<T> {
        FairQueue { order: VecDeque::new(), jobs: HashMap::new() }
    }
}

impl<T> FairQueue<T> {
    /// Adds a job behind those of its client.
    pub(crate) fn push(&mut self, client: ClientId, job: T) {
        let jobs = self.jobs.entry(client).or_default();
        if jobs.is_empty() {
            self.order.push_back(client);
        }
        jobs.push_back(job);
    }

    /// The next job; its client goes to the end of the line.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let client = self.order.pop_front()?;
        let jobs = self.jobs.get_mut(&client)?;
        let job = jobs.pop_front();
        match jobs.is_empty() {
            true => drop(self.jobs.remove(&client)),
            false => self.order.push_back(client),
        }
        job
    }

    /// Takes out the jobs that `is_over` says are over.
    pub(crate) fn remove_over(&mut self, is_over: impl Fn(&T) -> bool) -> Vec<T> {
        let mut over = Vec::new();
        for jobs in self.jobs.values_mut() {
            let mut at = 0;
            while at < jobs.len() {
                match is_over(&jobs[at]) {
                    true => over.extend(jobs.remove(at)),
                    false => at += 1,
                }
            }
        }
        self.jobs.retain(|_, jobs| !jobs.is_empty());
        self.order.retain(|client| self.jobs.contains_key(client));
        over
    }

    /// The number of jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.jobs.values().map(VecDeque::len).sum()
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
