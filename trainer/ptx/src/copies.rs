//! `cp.async`: copies to shared memory that a thread has begun, in groups.

use crate::shared::{Shared, Thread};
use std::collections::VecDeque;

#[derive(Debug)]
struct Copy {
    to: u64,
    bytes: Vec<u8>,
}

/// The copies of one thread that it has not waited for.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    open: Vec<Copy>,
    /// Oldest first.
    committed: VecDeque<Vec<Copy>>,
}

impl Copies {
    pub(crate) fn begin(
        &mut self,
        to: u64,
        bytes: Vec<u8>,
        shared: &mut Shared,
        thread: Thread,
    ) -> Result<(), String> {
        shared.begin_copy(to, bytes.len(), thread)?;
        self.open.push(Copy { to, bytes });
        Ok(())
    }

    pub(crate) fn commit(&mut self) {
        self.committed.push_back(std::mem::take(&mut self.open));
    }

    /// Until so many groups are left at most; none: all copies. The bytes arrive now, as late as a GPU may have them arrive.
    pub(crate) fn wait(
        &mut self,
        left: Option<usize>,
        shared: &mut Shared,
        thread: Thread,
    ) -> Result<(), String> {
        if left.is_none() {
            self.commit();
        }
        while self.committed.len() > left.unwrap_or(0) {
            for copy in self.committed.pop_front().into_iter().flatten() {
                shared.end_copy(copy.to, &copy.bytes, thread)?;
            }
        }
        Ok(())
    }
}
