//! Shared memory of a block: what has been written, by which warp, and since which barrier.

const MANY: u16 = u16::MAX;

/// What is known of a byte. Warps count from 1; 0 is nobody.
#[derive(Clone, Copy, Debug, Default)]
struct Shadow {
    written: bool,
    /// A copy is on its way.
    pending: bool,
    writer: u16,
    written_at: u32,
    reader: u16,
    read_at: u32,
}

/// The dynamic shared memory of a block.
#[derive(Debug)]
pub(crate) struct Shared {
    bytes: Vec<u8>,
    shadows: Vec<Shadow>,
    /// Barriers of the block that have passed, and one.
    epoch: u32,
    /// End of what has been accessed.
    pub(crate) used: usize,
}

impl Shared {
    pub(crate) fn new(bytes: usize) -> Shared {
        Shared { bytes: vec![0; bytes], shadows: vec![Shadow::default(); bytes], epoch: 1, used: 0 }
    }

    /// All warps have met at a barrier: what was written before is ordered.
    pub(crate) fn pass_barrier(&mut self) {
        self.epoch += 1;
    }

    pub(crate) fn load(&mut self, offset: u64, to: &mut [u8], warp: usize) -> Result<(), String> {
        let (range, warp, epoch) = (self.range(offset, to.len())?, warp as u16 + 1, self.epoch);
        for (i, shadow) in self.shadows[range.clone()].iter_mut().enumerate() {
            let problem =
                |what: String| Err(format!("byte {} of shared memory is read {what}", offset + i as u64));
            if shadow.pending {
                return problem("before its copy has been waited for".to_owned());
            }
            if !shadow.written {
                return problem("and has never been written".to_owned());
            }
            if shadow.written_at == epoch && shadow.writer != warp {
                return problem(format!("without a barrier after warp {} has written it", shadow.writer - 1));
            }
            let others = shadow.read_at == epoch && shadow.reader != warp;
            (shadow.reader, shadow.read_at) = (if others { MANY } else { warp }, epoch);
        }
        to.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    pub(crate) fn store(&mut self, offset: u64, from: &[u8], warp: usize) -> Result<(), String> {
        let range = self.claim(offset, from.len(), warp)?;
        for shadow in &mut self.shadows[range.clone()] {
            (shadow.written, shadow.writer, shadow.written_at) = (true, warp as u16 + 1, self.epoch);
        }
        self.bytes[range].copy_from_slice(from);
        Ok(())
    }

    /// A copy begins: its bytes may arrive at any time from now on.
    pub(crate) fn begin_copy(&mut self, offset: u64, length: usize, warp: usize) -> Result<(), String> {
        let range = self.claim(offset, length, warp)?;
        self.shadows[range].iter_mut().for_each(|shadow| shadow.pending = true);
        Ok(())
    }

    /// The thread that began a copy has waited for it.
    pub(crate) fn end_copy(&mut self, offset: u64, from: &[u8], warp: usize) -> Result<(), String> {
        let range = self.range(offset, from.len())?;
        self.shadows[range].iter_mut().for_each(|shadow| shadow.pending = false);
        self.store(offset, from, warp)
    }

    /// The range that a warp is about to write.
    fn claim(&mut self, offset: u64, length: usize, warp: usize) -> Result<std::ops::Range<usize>, String> {
        let (range, warp) = (self.range(offset, length)?, warp as u16 + 1);
        for (i, shadow) in self.shadows[range.clone()].iter().enumerate() {
            let problem =
                |what: String| Err(format!("byte {} of shared memory is written {what}", offset + i as u64));
            if shadow.pending {
                return problem("while a copy to it is on its way".to_owned());
            }
            if shadow.written_at == self.epoch && shadow.writer != warp {
                return problem(format!("without a barrier after warp {} has written it", shadow.writer - 1));
            }
            if shadow.read_at == self.epoch && shadow.reader != warp {
                return problem("without a barrier after another warp has read it".to_owned());
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
