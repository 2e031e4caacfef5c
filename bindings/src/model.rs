//! An open model file.

use crate::ApiError;
use crate::grammar::Grammars;
use std::path::Path;
use std::sync::Arc;
use thimble_files::MappedModel;
use thimble_host::{BackendChooser, BackendKind, Generator, InferencePlan, InferenceSettings, SpinPool};
use thimble_runtime::format::ModelFile;
use thimble_runtime::kernels::KvKind;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, uniffi::Enum)]
pub enum KvCache {
    /// Half precision.
    #[default]
    F16,
    /// 8-bit integers: half the memory, and faster in long conversations.
    Q8,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, uniffi::Enum)]
pub enum Backend {
    /// The fastest for this model on this machine, measured when the model is first opened.
    Auto,
    /// The CPU.
    #[default]
    Cpu,
    /// The GPU while it works, otherwise the CPU.
    Gpu,
}

/// How to open a model.
#[derive(Clone, Debug, Default, uniffi::Record)]
pub struct ModelOptions {
    /// Refuse a model that takes more bytes than this for the file and the state of one chat, GPU memory included.
    #[uniffi(default = None)]
    pub budget_bytes: Option<u64>,
    /// Longest conversation in tokens; unless set 2,048, or the model's limit if that is less.
    #[uniffi(default = None)]
    pub context: Option<u32>,
    /// Threads; unless set, as many as the system grants the process.
    #[uniffi(default = None)]
    pub threads: Option<u32>,
    /// How keys and values are kept.
    #[uniffi(default = None)]
    pub kv_cache: Option<KvCache>,
    /// Where it runs; unless set, what `THIMBLE_BACKEND` names, or the CPU. A library built without the feature `gpu` has
    /// only the CPU.
    #[uniffi(default = None)]
    pub backend: Option<Backend>,
    /// The file that stores what `Auto` measured; without it every opening measures. Shaders compiled for the GPU are kept
    /// beside it, in a folder `pipelines`: put it in the app's own cache folder.
    #[uniffi(default = None)]
    pub backend_memory: Option<String>,
}

/// Properties of a model and how it will run.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ModelInfo {
    /// From the file's name.
    pub name: String,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of the file. All chats share them, and the system reclaims them when it is short of memory.
    pub file_bytes: u64,
    /// Most bytes that each chat takes.
    pub state_bytes: u64,
    /// Longest conversation in tokens.
    pub context: u32,
    /// The model's own limit in tokens.
    pub most_context: u32,
    /// Whether it answers messages; otherwise it only completes text.
    pub answers_messages: bool,
    /// What it runs on: the CPU's instruction set, `gpu`, or both, the one for prompts first.
    pub kernels: String,
    /// Threads.
    pub threads: u32,
    /// Most bytes of GPU memory that each chat takes, with a copy of the weights; on phones this is the same memory.
    #[uniffi(default = 0)]
    pub gpu_bytes: u64,
    /// Whether its chat template can turn thinking on and off.
    #[uniffi(default = false)]
    pub has_thinking: bool,
}

/// A model, mapped from its file. Several chats may use it at once.
#[derive(Debug, uniffi::Object)]
pub struct Model {
    pub(crate) mapped: MappedModel,
    pub(crate) plan: InferencePlan,
    pub(crate) path: String,
    pub(crate) grammars: Grammars,
    pub(crate) settings: InferenceSettings,
    pub(crate) budget: Option<u64>,
    pub(crate) gpu_bytes: u64,
}

#[uniffi::export]
impl Model {
    /// Opens a `.thimble` file. It must not be changed in place or truncated while it is open; renaming another file over
    /// it is fine. The same holds for the folder of `backend_memory`, which must be the app's own. Memory is planned first:
    /// a model that does not fit the budget is refused, with the figures, before its weights are read.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::NotAModel`], [`ApiError::Damaged`], [`ApiError::TooLarge`]; [`ApiError::Other`]
    /// if a GPU was requested and there is none.
    #[uniffi::constructor(name = "open")]
    pub fn open(path: String, options: ModelOptions) -> Result<Arc<Model>, ApiError> {
        // SAFETY: the app promises it, as this function's documentation requires; other languages cannot express it.
        let mapped =
            unsafe { MappedModel::map(Path::new(&path)) }.map_err(|error| ApiError::open(&path, error))?;
        let file = mapped.file().map_err(|error| ApiError::format(&path, &error))?;
        let settings = InferenceSettings {
            context: options.context.map(|tokens| (tokens as usize).min(file.config().context)),
            threads: options.threads.map(|threads| threads as usize),
            kv: options.kv_cache.map(|kind| match kind {
                KvCache::F16 => KvKind::F16,
                KvCache::Q8 => KvKind::Q8,
            }),
            lookup: LOOKUP,
            backend: options.backend.map(|backend| match backend {
                Backend::Auto => BackendKind::Auto,
                Backend::Cpu => BackendKind::Cpu,
                Backend::Gpu => BackendKind::Gpu,
            }),
            ..InferenceSettings::default()
        };
        let fits = |plan: &InferencePlan, gpu_bytes: u64| {
            let needed = (file.bytes().len() + plan.bytes()) as u64 + gpu_bytes;
            let budget = options.budget_bytes.filter(|&budget| needed > budget);
            budget.map_or(Ok(()), |budget| Err(ApiError::TooLarge { needed, budget }))
        };
        // Before anything is measured, and again for the chosen backend.
        let cpu = InferenceSettings { backend: Some(BackendKind::Cpu), ..settings };
        fits(&InferencePlan::new(file.config(), &cpu)?, 0)?;
        let choices = options.backend_memory.as_deref().map(Path::new);
        #[cfg(feature = "gpu")]
        if let Some(folder) = choices.and_then(Path::parent) {
            // SAFETY: likewise.
            unsafe { thimble_host::cache_pipelines_in(&folder.join("pipelines")) };
        }
        // A backend over the budget is not measured.
        let settings = match options.backend {
            Some(Backend::Auto) if options.budget_bytes.is_some() => {
                let gpu = InferencePlan::new(
                    file.config(),
                    &InferenceSettings { backend: Some(BackendKind::Gpu), ..settings },
                );
                let bytes = gpu.as_ref().ok().and_then(|gpu| thimble_host::gpu_bytes(&file, gpu).ok());
                let fits = gpu.ok().zip(bytes).is_some_and(|(gpu, bytes)| fits(&gpu, bytes).is_ok());
                if fits { settings } else { cpu }
            }
            _ => settings,
        };
        let chooser = BackendChooser { choices, notify: |line| eprintln!("{line}") };
        let stem = Path::new(&path).file_stem().unwrap_or_default().to_string_lossy();
        let settings = chooser.choose(&file, &stem, &settings)?.settings;
        let plan = InferencePlan::new(file.config(), &settings)?;
        // A missing GPU is reported now, not with the first answer.
        let gpu_bytes = thimble_host::gpu_bytes(&file, &plan)?;
        fits(&plan, gpu_bytes)?;
        let (grammars, budget) = (Grammars::default(), options.budget_bytes);
        Ok(Arc::new(Model { mapped, plan, path, grammars, settings, budget, gpu_bytes }))
    }

    /// The model's properties.
    ///
    /// # Errors
    /// [`ApiError::Damaged`] if the file has changed since it was opened.
    pub fn info(&self) -> Result<ModelInfo, ApiError> {
        let file = self.file()?;
        let config = file.config();
        let stem = Path::new(&self.path).file_stem();
        Ok(ModelInfo {
            name: stem.map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
            parameters: config.parameters(),
            file_bytes: file.bytes().len() as u64,
            state_bytes: self.plan.bytes() as u64,
            context: self.plan.context() as u32,
            most_context: config.context as u32,
            answers_messages: file.chat().is_some(),
            has_thinking: file.chat().is_some_and(|chat| thimble_chat::template::has_thinking(&chat)),
            kernels: self.plan.processors(),
            threads: self.plan.threads() as u32,
            gpu_bytes: self.gpu_bytes,
        })
    }

    /// Checks every byte of the file against its checksums.
    ///
    /// # Errors
    /// [`ApiError::Damaged`].
    pub fn verify(&self) -> Result<(), ApiError> {
        let file = self.file()?;
        file.verify().map_err(|error| ApiError::format(&self.path, &error))
    }
}

impl Model {
    /// The file, checked again.
    ///
    /// # Errors
    /// [`ApiError::Damaged`] if it has changed since it was opened.
    pub(crate) fn file(&self) -> Result<ModelFile<'_>, ApiError> {
        self.mapped.file().map_err(|error| ApiError::format(&self.path, &error))
    }

    /// Lends a session to `work`, and frees its memory afterwards.
    ///
    /// # Errors
    /// There is no memory, and those of `work`.
    pub(crate) fn with_generator(
        &self,
        work: &mut dyn FnMut(&ModelFile<'_>, &mut Generator<'_>) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let pool = SpinPool::new(self.plan.threads()).map_err(ApiError::other)?;
        let mut memory = self.plan.allocate()?;
        let file = self.file()?;
        work(&file, &mut thimble_host::generator(&file, &self.plan, &mut memory, &pool)?)
    }
}

/// Most draft tokens at a time, looked up in the earlier text.
const LOOKUP: usize = 4;
