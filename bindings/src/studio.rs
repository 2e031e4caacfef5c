//! Voices of a model file.

use crate::engine::Studio;
use crate::{ApiError, Model, Sampling};
use std::sync::Arc;
use thimble_host::Pool;
use thimble_host::chat::{Format, ModelVoice, Voice};
use thimble_runtime::sampler::Sampler;

/// Sessions on a model.
pub(crate) struct ModelStudio {
    model: Arc<Model>,
    sampling: Sampling,
    format: Format,
}

impl ModelStudio {
    /// Nothing is taken yet.
    ///
    /// # Errors
    /// Sampling that makes no sense.
    pub(crate) fn new(
        model: Arc<Model>,
        sampling: Sampling,
        format: Format,
    ) -> Result<ModelStudio, ApiError> {
        Sampler::new(sampling.runtime()).map_err(ApiError::other)?;
        Ok(ModelStudio { model, sampling, format })
    }
}

impl Studio for ModelStudio {
    fn enter(&self, work: &mut dyn FnMut(&mut dyn Voice, &Pool)) -> Result<(), ApiError> {
        let model = &self.model;
        let pool = Pool::new(model.plan.threads()).map_err(ApiError::other)?;
        let mut memory = model.plan.allocate()?;
        let file = model.mapped.file().map_err(|error| ApiError::format(&model.path, &error))?;
        let generator = thimble_host::generator(&file, &model.plan, &mut memory, &pool)?;
        // Unless the seed is given, another one in each session: an answer made anew is another one.
        let sampler = Sampler::new(self.sampling.runtime()).map_err(ApiError::other)?;
        work(&mut ModelVoice { file, generator, sampler, format: self.format }, &pool);
        Ok(())
    }
}
