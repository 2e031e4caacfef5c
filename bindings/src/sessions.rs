//! Sessions with a model file.

use crate::worker::{Form, SessionSource};
use crate::{AdapterWeight, AnswerOptions, ApiError, Model, Sampling, ToolChoice, adapter};
use std::sync::Arc;
use thimble_chat::tools::{self, ToolDefinition};
use thimble_chat::{ChatModel, Toolset};
use thimble_host::{InferencePlan, KvFile, LoadedModel, PromptFormat, SpinPool};

/// Opens sessions with a model.
pub(crate) struct ModelSessions {
    model: Arc<Model>,
    sampling: Sampling,
    format: PromptFormat,
    /// The file for keys and values, if they are kept.
    kept: Option<KvFile>,
    adapters: Vec<AdapterWeight>,
    tools: Vec<ToolDefinition>,
    plan: InferencePlan,
}

/// The tools of a chat with a choice; `None` if it has none.
///
/// # Errors
/// The definitions are invalid, or the choice names none of them.
fn toolset(
    model: &Model,
    tools: &[ToolDefinition],
    choice: Option<&ToolChoice>,
) -> Result<Option<Toolset>, ApiError> {
    let choice: tools::ToolChoice = choice.map(Into::into).unwrap_or_default();
    let required = matches!(choice, tools::ToolChoice::Required | tools::ToolChoice::Named(_));
    match tools {
        [] if required => {
            Err(ApiError::other("a call of a tool is required, but the chat has no tools: name some"))
        }
        [] => Ok(None),
        _ => Ok(Some(Toolset::new(&model.file()?, tools.to_vec(), choice)?)),
    }
}

impl ModelSessions {
    /// Takes no memory yet.
    ///
    /// # Errors
    /// The sampling settings are invalid, the adapters are for another model, or a tool is invalid.
    pub(crate) fn new(
        model: Arc<Model>,
        sampling: Sampling,
        format: PromptFormat,
        kept: Option<KvFile>,
        adapters: Vec<AdapterWeight>,
        tools: Vec<ToolDefinition>,
    ) -> Result<ModelSessions, ApiError> {
        let file = model.file()?;
        sampling.sampler(&file, format, &sampling.bias())?;
        let plan = model.plan_with(&adapters)?;
        toolset(&model, &tools, None)?;
        Ok(ModelSessions { model, sampling, format, kept, adapters, tools, plan })
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

    fn form(&self, options: &AnswerOptions) -> Result<Form, ApiError> {
        if let Some(format) = &options.format {
            let constraint = self.model.grammars.constraint(&self.model.file()?, format)?;
            return Ok(Form { constraint: Some(constraint), tools: None });
        }
        let Some(tools) = toolset(&self.model, &self.tools, options.tool_choice.as_ref())? else {
            return Ok(Form::default());
        };
        let constraint = self.model.grammars.calls(&self.model.file()?, &tools)?;
        Ok(Form { constraint, tools: Some(tools) })
    }

    fn forget(&self) {
        if let Some(mut kept) = self.kept.clone() {
            // Another conversation does not restore a file that cannot be removed.
            let _ = kept.remove();
        }
    }
}
