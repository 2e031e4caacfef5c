//! Which sequence runs when, on a thread that owns all of them.

mod job;
mod queue;
mod running;
mod scheduler;
mod session_slots;
mod slots;
#[cfg(test)]
mod tests;

pub(crate) use job::{
    ClientId, Event, Generation, Job, QueueCount, ReportedToken, TokenScores, Work,
};
pub(crate) use scheduler::Scheduler;
pub use session_slots::SessionSlots;
pub use slots::{SlotTokens, Slots};
