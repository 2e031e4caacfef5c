//! Compiled pipelines on disk, where the driver leaves keeping them to programs (Vulkan).

use crate::Device;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use thimble_runtime::format::checksum;

/// What a file begins with; behind it the checksum of the rest.
const MAGIC: [u8; 8] = *b"THPIPE\x01\0";

/// Largest file that is read; a model's pipelines take some hundred kilobytes.
const MOST: u64 = 64 << 20;

/// A cache of pipelines and the file that it is kept in.
#[derive(Clone, Debug)]
pub(crate) struct PipelineFile {
    pub(crate) cache: wgpu::PipelineCache,
    path: PathBuf,
    /// Checksum of what the file has, as far as it is known.
    kept: Arc<Mutex<Option<u64>>>,
}

/// The data of a file that is whole.
fn data(file: &[u8]) -> Option<(&[u8], u64)> {
    let (sum, data) = file.strip_prefix(&MAGIC)?.split_first_chunk()?;
    let sum = u64::from_le_bytes(*sum);
    (checksum(data) == sum).then_some((data, sum))
}

impl Device {
    /// The same device, which keeps its pipelines in a file of `folder` where its API allows it (Vulkan). A file that is
    /// damaged, or another driver's, is not used and written anew; what cannot be written costs time at the next start only.
    ///
    /// # Safety
    /// The driver believes what is in the file: whoever can write to `folder` has to be trusted as the program itself is.
    pub unsafe fn with_pipelines_in(mut self, folder: &Path) -> Device {
        let Some(key) = wgpu::util::pipeline_cache_key(&self.device.adapter_info()) else { return self };
        if !self.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return self;
        }
        let path = folder.join(key);
        let fits = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= MOST);
        let file = if fits { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let found = data(&file);
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("pipelines"),
            data: found.map(|(data, _)| data),
            fallback: true,
        };
        // SAFETY: the data has to be what `get_data` gave. The checksum beside it was written with that, so that neither a
        // torn write nor another file passes; wgpu checks that adapter and driver are the same; and the contract above
        // leaves out whoever would forge both.
        let cache = unsafe { self.device.create_pipeline_cache(&descriptor) };
        self.pipelines =
            Some(PipelineFile { cache, path, kept: Arc::new(Mutex::new(found.map(|(_, sum)| sum))) });
        self
    }

    /// Writes the pipelines made so far, where they are not in the file already: a temporary file, renamed once it is whole.
    pub(crate) fn keep_pipelines(&self) {
        let Some(PipelineFile { cache, path, kept }) = &self.pipelines else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(data) = cache.get_data() else { return };
        let sum = checksum(&data);
        let Some(folder) = path.parent().filter(|_| *kept != Some(sum)) else { return };
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            thimble_files::write_with(path, |out| {
                out.write_all(&MAGIC)?;
                out.write_all(&sum.to_le_bytes())?;
                out.write_all(&data)
            })
        };
        // A cache only: where it cannot be written, the next start compiles again.
        if write().is_ok() {
            *kept = Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_are_used() {
        let content = b"pipelines";
        let mut file = MAGIC.to_vec();
        file.extend(checksum(content).to_le_bytes());
        file.extend(content);
        assert_eq!(data(&file), Some((&content[..], checksum(content))));
        for length in 0..file.len() {
            assert_eq!(data(&file[..length]), None, "cut to {length}");
        }
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 1;
            assert_eq!(data(&damaged), None, "damaged at {place}");
        }
    }
}
