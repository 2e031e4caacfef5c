//! Shared memory of a block: what has been written, by which thread, and since which barrier.

/// Of [`Access::warp`]: several warps.
const MANY: u16 = u16::MAX;
/// Of a thread's or access's lane: any or several of the warp.
pub(crate) const ALL_LANES: u8 = u8::MAX;

/// Who accesses: a lane, or all lanes of a warp together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread {
    pub(crate) warp: u16,
    pub(crate) lane: u8,
    /// Barriers of the warp that it has passed.
    pub(crate) syncs: u32,
}

/// The last access to a byte.
#[derive(Clone, Copy, Debug, Default)]
struct Access {
    warp: u16,
    lane: u8,
    syncs: u32,
    /// Barriers of the block that had passed, and one; 0 for no access.
    epoch: u32,
}

impl Access {
    fn new(thread: Thread, epoch: u32) -> Access {
        Access { warp: thread.warp, lane: thread.lane, syncs: thread.syncs, epoch }
    }

    /// What a thread lacks to be after this access; nothing if barriers, or the order of its own instructions, see to it.
    fn unordered(self, thread: Thread, epoch: u32) -> Option<String> {
        if self.epoch != epoch {
            return None;
        }
        if self.warp != thread.warp {
            let who =
                if self.warp == MANY { "several warps".to_owned() } else { format!("warp {}", self.warp) };
            return Some(format!("without a barrier after {who}"));
        }
        if self.syncs != thread.syncs || self.lane == thread.lane {
            return None;
        }
        let who =
            if self.lane == ALL_LANES { "other lanes".to_owned() } else { format!("lane {}", self.lane) };
        Some(format!("without a barrier of the warp after {who}"))
    }

    /// Adds another access to those that are remembered: the later ones of a warp, of several in one step all.
    fn join(self, thread: Thread, epoch: u32) -> Access {
        let mut joined = Access::new(thread, epoch);
        if self.epoch == epoch {
            if self.warp != thread.warp {
                joined.warp = MANY;
            } else if self.syncs == thread.syncs && self.lane != thread.lane {
                joined.lane = ALL_LANES;
            }
        }
        joined
    }
}

/// What is known of a byte.
#[derive(Clone, Copy, Debug, Default)]
struct Shadow {
    /// A copy is on its way.
    pending: bool,
    /// There is one if the byte has ever been written.
    write: Access,
    read: Access,
}

/// The dynamic shared memory of a block.
#[derive(Debug)]
pub(crate) struct Shared {
    bytes: Vec<u8>,
    shadows: Vec<Shadow>,
    epoch: u32,
    /// End of what has been accessed.
    pub(crate) used: usize,
}

impl Shared {
    pub(crate) fn new(bytes: usize) -> Shared {
        Shared { bytes: vec![0; bytes], shadows: vec![Shadow::default(); bytes], epoch: 1, used: 0 }
    }

    /// All warps have met at a barrier: what was accessed before is ordered.
    pub(crate) fn pass_barrier(&mut self) {
        self.epoch += 1;
    }

    pub(crate) fn load(&mut self, offset: u64, to: &mut [u8], thread: Thread) -> Result<(), String> {
        let (range, epoch) = (self.range(offset, to.len())?, self.epoch);
        for (i, shadow) in self.shadows[range.clone()].iter_mut().enumerate() {
            let problem =
                |what: &str| Err(format!("byte {} of shared memory is read {what}", offset + i as u64));
            if shadow.pending {
                return problem("before its copy has been waited for");
            }
            if shadow.write.epoch == 0 {
                return problem("and has never been written");
            }
            if let Some(lacking) = shadow.write.unordered(thread, epoch) {
                return problem(&format!("{lacking} wrote it"));
            }
            shadow.read = shadow.read.join(thread, epoch);
        }
        to.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    pub(crate) fn store(&mut self, offset: u64, from: &[u8], thread: Thread) -> Result<(), String> {
        let range = self.claim(offset, from.len(), thread)?;
        let write = Access::new(thread, self.epoch);
        self.shadows[range.clone()].iter_mut().for_each(|shadow| shadow.write = write);
        self.bytes[range].copy_from_slice(from);
        Ok(())
    }

    /// A copy begins: its bytes may arrive at any time from now on.
    pub(crate) fn begin_copy(&mut self, offset: u64, length: usize, thread: Thread) -> Result<(), String> {
        let range = self.claim(offset, length, thread)?;
        self.shadows[range].iter_mut().for_each(|shadow| shadow.pending = true);
        Ok(())
    }

    /// The thread that began a copy has waited for it.
    pub(crate) fn end_copy(&mut self, offset: u64, from: &[u8], thread: Thread) -> Result<(), String> {
        let range = self.range(offset, from.len())?;
        self.shadows[range].iter_mut().for_each(|shadow| shadow.pending = false);
        self.store(offset, from, thread)
    }

    /// The range that a thread is about to write.
    fn claim(
        &mut self,
        offset: u64,
        length: usize,
        thread: Thread,
    ) -> Result<std::ops::Range<usize>, String> {
        let range = self.range(offset, length)?;
        for (i, shadow) in self.shadows[range.clone()].iter().enumerate() {
            let problem =
                |what: &str| Err(format!("byte {} of shared memory is written {what}", offset + i as u64));
            if shadow.pending {
                return problem("while a copy to it is on its way");
            }
            if let Some(lacking) = shadow.write.unordered(thread, self.epoch) {
                return problem(&format!("{lacking} wrote it"));
            }
            if let Some(lacking) = shadow.read.unordered(thread, self.epoch) {
                return problem(&format!("{lacking} read it"));
            }
        }
        Ok(range)
    }

    fn range(&mut self, offset: u64, length: usize) -> Result<std::ops::Range<usize>, String> {
        let end = offset.checked_add(length as u64).filter(|&end| end <= self.bytes.len() as u64);
        match end {
            Some(end) => {
                self.used = self.used.max(end as usize);
                Ok(offset as usize..end as usize)
            }
            None => Err(format!(
                "{length} bytes at {offset:#x} of shared memory are accessed, and it has {:#x}",
                self.bytes.len()
            )),
        }
    }
}
