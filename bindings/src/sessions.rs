//! Sessions with a model file.

use crate::worker::SessionSource;
use crate::{ApiError, Model, Sampling};
use std::sync::Arc;
use thimble_chat::ChatModel;
use thimble_host::{KvFile, LoadedModel, PromptFormat, SpinPool};

/// Opens sessions with a model.
pub(crate) struct ModelSessions {
    model: Arc<Model>,
    sampling: Sampling,
    format: PromptFormat,
    /// The file for keys and values, if they are kept.
    kept: Option<KvFile>,
}

impl ModelSessions {
    /// Takes no memory yet.
    ///
    /// # Errors
    /// The sampling settings are invalid.
    pub(crate) fn new(
        model: Arc<Model>,
        sampling: Sampling,
        format: PromptFormat,
        kept: Option<KvFile>,
    ) -> Result<ModelSessions, ApiError> {
        let file = model.file()?;
        sampling.sampler(&file, format, &sampling.bias())?;
        Ok(ModelSessions { model, sampling, format, kept })
    }
}

impl SessionSource for ModelSessions {
    fn with_session(&self, work: &mut dyn FnMut(&mut dyn ChatModel, &SpinPool)) -> Result<(), ApiError> {
        let model = &self.model;
        let pool = SpinPool::new(model.plan.threads()).map_err(ApiError::other)?;
        let mut memory = model.plan.allocate()?;
        let file = model.file()?;
        let mut generator = thimble_host::generator(&file, &model.plan, &mut memory, &pool)?;
        let mut kept = self.kept.clone();
        if let Some(kept) = &mut kept {
            // What cannot be restored is computed.
            let _ = kept.restore(&file, &mut generator);
        }
        // Unless the seed is set each session has its own, so that a retried answer differs.
        let bias = self.sampling.bias();
        let sampler = self.sampling.sampler(&file, self.format, &bias)?;
        let model = LoadedModel {
            file,
            generator,
            sampler,
            format: self.format,
            kv_file: kept,
            log_probabilities: None,
            adapters: Vec::new(),
        };
        work(&mut { model }, &pool);
        Ok(())
    }

    fn forget(&self) {
        if let Some(mut kept) = self.kept.clone() {
            // Another conversation does not restore a file that cannot be removed.
            let _ = kept.remove();
        }
    }
}
