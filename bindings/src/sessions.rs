//! Sessions with a model file.

use crate::worker::SessionSource;
use crate::{AdapterWeight, AnswerFormat, ApiError, Model, Sampling, adapter};
use std::sync::Arc;
use thimble_chat::{ChatModel, TokenConstraint};
use thimble_host::{InferencePlan, KvFile, LoadedModel, PromptFormat, SpinPool};

/// Opens sessions with a model.
pub(crate) struct ModelSessions {
    model: Arc<Model>,
    sampling: Sampling,
    format: PromptFormat,
    /// The file for keys and values, if they are kept.
    kept: Option<KvFile>,
    adapters: Vec<AdapterWeight>,
    plan: InferencePlan,
}

impl ModelSessions {
    /// Takes no memory yet.
    ///
    /// # Errors
    /// The sampling settings are invalid, or the adapters are for another model.
    pub(crate) fn new(
        model: Arc<Model>,
        sampling: Sampling,
        format: PromptFormat,
        kept: Option<KvFile>,
        adapters: Vec<AdapterWeight>,
    ) -> Result<ModelSessions, ApiError> {
        let file = model.file()?;
        sampling.sampler(&file, format, &sampling.bias())?;
        let plan = model.plan_with(&adapters)?;
        Ok(ModelSessions { model, sampling, format, kept, adapters, plan })
    }
}

impl SessionSource for ModelSessions {
    fn with_session(&self, work: &mut dyn FnMut(&mut dyn ChatModel, &SpinPool)) -> Result<(), ApiError> {
        let model = &self.model;
        let pool = SpinPool::new(self.plan.threads()).map_err(ApiError::other)?;
        let adapters = adapter::weighted(&self.adapters)?;
        let mut memory = self.plan.allocate()?;
        let file = model.file()?;
        let mut generator = thimble_host::generator(&file, &self.plan, &mut memory, &pool)?;
        thimble_host::set_adapters(&mut generator, &adapters).map_err(ApiError::other)?;
        let mut kept = self.kept.clone();
        if let Some(kept) = &mut kept {
            // What cannot be restored is computed.
            let _ = kept.restore(&file, &mut generator);
        }
        // Unless the seed is set each session has its own, so that a retried answer differs.
        let bias = self.sampling.bias();
        let sampler = self.sampling.sampler(&file, self.format, &bias)?;
        let mut model = LoadedModel {
            file,
            generator,
            sampler,
            format: self.format,
            kv_file: kept,
            log_probabilities: None,
            adapters: Vec::new(),
        };
        work(&mut model, &pool);
        Ok(())
    }

    fn constraint(&self, format: &AnswerFormat) -> Result<Box<dyn TokenConstraint>, ApiError> {
        self.model.constraint(format)
    }

    fn forget(&self) {
        if let Some(mut kept) = self.kept.clone() {
            // Another conversation does not restore a file that cannot be removed.
            let _ = kept.remove();
        }
    }
}
