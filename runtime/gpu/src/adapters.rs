//! Adapters on the device: uploaded once, and bound again when they or their weights change.

use crate::GpuError;
use crate::backend::Gpu;
use crate::device::Device;
use crate::low_rank::{LowRankBuffers, LowRankDispatches, Pieces, UploadedAdapter, place};
use crate::weights::partition;
use thimble_runtime::adapter::{AdapterFile, AdapterSet, WeightedAdapter};
use thimble_runtime::format::Config;
use thimble_runtime::kernels::Matrix;

impl Gpu {
    /// Replaces the adapters by others, of the rank that the memory was planned for. Keys and values in the cache are those of
    /// the adapters before: run all tokens again, from position 0 on. An adapter stays on the device once it was there.
    ///
    /// # Errors
    /// [`GpuError::Adapter`]; [`GpuError::TooLarge`] and [`GpuError::Device`] if the device lacks memory.
    pub fn set_adapters(&mut self, adapters: &[WeightedAdapter<'_>]) -> Result<(), GpuError> {
        let set = AdapterSet::new(adapters, &self.config, self.options.adapter_rank)?;
        self.submit(None);
        self.sampler.reset();
        self.queue.clear();
        self.adapters.clear();
        let device = self.device.clone();
        device.catch_errors(|| {
            for WeightedAdapter { file, weight } in set.iter() {
                let index = self.upload_adapter(file)?;
                let Some(buffers) = &mut self.low_rank else { continue };
                // Bind groups keep the shapes of earlier weights alive only as long as they use them.
                buffers.kernels.forget_uniforms();
                let layers = dispatches(&device, &self.config, buffers, (&self.uploaded[index], *weight));
                self.adapters.push(layers);
            }
            Ok(())
        })
    }

    /// The index of an adapter on the device.
    fn upload_adapter(&mut self, file: &AdapterFile<'_>) -> Result<usize, GpuError> {
        if let Some(index) = self.uploaded.iter().position(|uploaded| uploaded.id == file.id()) {
            return Ok(index);
        }
        let max_bytes = self.options.binding_bytes.unwrap_or(u64::MAX).min(self.device.binding_bytes());
        let mut uploaded = UploadedAdapter { id: file.id(), matrices: Vec::new(), bytes: 0 };
        for record in file.records() {
            let low_rank = file.matrices(&record);
            let (_, _, first_row) = place(record.role, &self.config);
            let mut bytes = 0;
            let mut upload = |matrix: Matrix<'_>, first_row: usize| -> Result<Pieces, GpuError> {
                let parts = partition(&[matrix], max_bytes)?;
                let uploaded = parts.iter().map(|part| {
                    let buffer = part.upload(&self.device);
                    (part.without_data(first_row), buffer)
                });
                bytes += parts.iter().map(|part| part.bytes()).sum::<u64>();
                Ok(uploaded.collect())
            };
            let (a, b) = (upload(low_rank.a, 0)?, upload(low_rank.b, first_row)?);
            uploaded.bytes += bytes;
            uploaded.matrices.push((record, a, b));
        }
        self.allocated += uploaded.bytes;
        self.uploaded.push(uploaded);
        Ok(self.uploaded.len() - 1)
    }
}

/// The dispatches of an adapter in each layer.
fn dispatches(
    device: &Device,
    config: &Config,
    buffers: &mut LowRankBuffers,
    (uploaded, weight): (&UploadedAdapter, f32),
) -> Vec<LowRankDispatches> {
    let mut layers: Vec<LowRankDispatches> = Vec::new();
    layers.resize_with(config.layers, LowRankDispatches::default);
    for (record, a, _) in &uploaded.matrices {
        let products = buffers.narrow(device, config, a, (record, record.scale * weight));
        layers[usize::from(record.layer)].push(place(record.role, config).0, products);
    }
    for (record, _, b) in &uploaded.matrices {
        let products = buffers.wide(device, config, b, record);
        layers[usize::from(record.layer)].push(place(record.role, config).0, products);
    }
    layers
}
