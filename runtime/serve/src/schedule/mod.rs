//! Which sequence runs when, on a thread that owns all of them.

mod host_slots;
mod job;
mod queue;
mod running;
mod scheduler;
mod session_slot;
mod slots;
#[cfg(test)]
mod tests;

pub(crate) use job::{ClientId, Event, Generation, Job, QueueCount, ReportedToken, TokenScores, Work};
pub(crate) use queue::FairQueue;
pub(crate) use running::ModelTokens;
pub(crate) use scheduler::Scheduler;
pub use session_slot::SessionSlot;
pub use slots::SlotRunner;
