//! Compiled pipelines on disk, for APIs that leave caching them to the program (Vulkan).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use thimble_runtime::format::checksum;

/// First bytes of a file; the checksum of the data follows, then the data.
const MAGIC: [u8; 8] = *b"THPIPE\x01\0";

/// Largest file that is read; a model's pipelines take some hundred kilobytes.
const MAX_BYTES: u64 = 64 << 20;

/// A wgpu pipeline cache and the file that stores it.
#[derive(Clone, Debug)]
pub(crate) struct PipelineCache {
    pub(crate) cache: wgpu::PipelineCache,
    path: PathBuf,
    /// Checksum of the file's data, where known.
    saved: Arc<Mutex<Option<u64>>>,
}

/// The data of an undamaged file, and its checksum.
fn data(file: &[u8]) -> Option<(&[u8], u64)> {
    let (sum, data) = file.strip_prefix(&MAGIC)?.split_first_chunk()?;
    let sum = u64::from_le_bytes(*sum);
    (checksum(data) == sum).then_some((data, sum))
}

impl PipelineCache {
    /// Opens the file in `folder` for this device; `None` where its API or driver has no pipeline caches. A damaged file, or
    /// one of another driver, is ignored and later replaced.
    ///
    /// # Safety
    /// The driver trusts the file's contents: only trusted programs can write to `folder`.
    pub(crate) unsafe fn open(device: &wgpu::Device, folder: &Path) -> Option<PipelineCache> {
        let key = wgpu::util::pipeline_cache_key(&device.adapter_info())?;
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder.join(key);
        let fits = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= MAX_BYTES);
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
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(PipelineCache { cache, path, saved: Arc::new(Mutex::new(found.map(|(_, sum)| sum))) })
    }

    /// Writes the pipelines compiled so far, unless the file has them: to a temporary file that is then renamed.
    pub(crate) fn save(&self) {
        let PipelineCache { cache, path, saved } = self;
        let mut saved = saved.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(data) = cache.get_data() else { return };
        let sum = checksum(&data);
        let Some(folder) = path.parent().filter(|_| *saved != Some(sum)) else { return };
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            thimble_files::write_with(path, |out| {
                out.write_all(&MAGIC)?;
                out.write_all(&sum.to_le_bytes())?;
                out.write_all(&data)
            })
        };
        // Only a cache: after a failed write the next start compiles again.
        if write().is_ok() {
            *saved = Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_undamaged_files_are_used() {
        let content = b"pipelines";
        let mut file = MAGIC.to_vec();
        file.extend(checksum(content).to_le_bytes());
        file.extend(content);
        assert_eq!(data(&file), Some((&content[..], checksum(content))));
        for length in 0..file.len() {
            assert_eq!(data(&file[..length]), None, "cut to {length}");
        }
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert_eq!(data(&damaged), None, "damaged at {at}");
        }
    }
}
