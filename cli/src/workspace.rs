//! From a path to a model that answers: mapping the file, planning, memory and threads.

use crate::adapters::Adapters;
use crate::catalogue;
use crate::failure::Failure;
use crate::home::Home;
use crate::{stderr, terminal};
use std::path::{Path, PathBuf};
use thimble_files::{MappedModel, OpenError};
use thimble_host::{
    BackendChooser, BackendError, BackendKind, Generator, InferenceMemory, InferencePlan, InferenceSettings,
    PlanError, SpinPool, set_adapters,
};
use thimble_runtime::Token;
use thimble_runtime::format::{Config, FormatError, ModelFile};
use thimble_runtime::memory::MemoryError;
use thimble_runtime::tokenizer::Specials;

/// A mapped model file and its path.
pub(crate) struct Mapped {
    model: MappedModel,
    path: PathBuf,
}

impl Mapped {
    /// Maps the file.
    #[allow(unsafe_code, reason = "a mapping; the promise is the user's")]
    pub(crate) fn open(path: &Path) -> Result<Mapped, Failure> {
        // SAFETY: that nobody changes a model file in place while a command runs is what SECURITY.md asks of whoever runs
        // it; our own commands write beside a file and rename.
        let model = unsafe { MappedModel::map(path) }.map_err(|error| match error {
            OpenError::Io { path, source } => Failure::Io { action: "open", path, source },
            OpenError::Format { path, source } => invalid(path, source),
            other => Failure::other(other),
        })?;
        Ok(Mapped { model, path: path.to_path_buf() })
    }

    /// The mapping.
    #[cfg(feature = "eval")]
    pub(crate) fn model(&self) -> &MappedModel {
        &self.model
    }

    /// The checked view of it.
    pub(crate) fn file(&self) -> Result<ModelFile<'_>, Failure> {
        self.model.file().map_err(|source| invalid(self.path.clone(), source))
    }

    /// Compares every byte with its checksum.
    pub(crate) fn verify(&self) -> Result<(), Failure> {
        self.file()?.verify().map_err(|source| invalid(self.path.clone(), source))
    }

    /// How the model runs with these settings; what `auto` means for it is measured on first use.
    pub(crate) fn plan(&self, settings: &InferenceSettings) -> Result<InferencePlan, Failure> {
        plan(self.file()?.config(), &self.choose_backend(settings)?)
    }

    /// The settings with a definite backend instead of `auto`, which is measured on first use.
    pub(crate) fn choose_backend(&self, settings: &InferenceSettings) -> Result<InferenceSettings, Failure> {
        let home = Home::find().ok();
        #[cfg(feature = "gpu")]
        if let Some(home) = &home {
            // SAFETY: the folder is in the user's own home, or where THIMBLE_HOME says; whoever can write there can change
            // what this command does in other ways.
            #[allow(unsafe_code, reason = "a folder that is trusted; the promise is the user's")]
            unsafe {
                thimble_host::cache_pipelines_in(&home.pipelines());
            }
        }
        let choices = home.map(|home| home.backends());
        let name = self.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let chooser = BackendChooser { choices: choices.as_deref(), notify: terminal::note };
        let file = self.file()?;
        let gpu = match settings.backend {
            Some(backend) => backend != BackendKind::Cpu,
            None => std::env::var_os("THIMBLE_BACKEND").is_some(),
        };
        with_driver_output_on_failure(gpu, || {
            let chosen = chooser.choose(&file, &name, settings).map_err(unplanned)?;
            if let Some(new) = chosen.new_choice {
                terminal::note(&format!("auto: {} for {}; {}", new.backend, new.model, new.reason));
            }
            thimble_host::check_processors(chosen.settings.backend.unwrap_or_default())
                .map_err(Failure::other)?;
            Ok(chosen.settings)
        })
    }
}

/// How a model of this configuration runs with these settings.
pub(crate) fn plan(config: &Config, settings: &InferenceSettings) -> Result<InferencePlan, Failure> {
    let plan = InferencePlan::new(config, settings).map_err(unplanned)?;
    Ok(plan.with_notify(terminal::note))
}

/// An invalid file; one that was pulled can be fetched again.
fn invalid(path: PathBuf, source: FormatError) -> Failure {
    let home = Home::find().ok();
    let names = catalogue::ENTRIES.iter().map(|entry| entry.name.to_string());
    let repositories = home.iter().flat_map(Home::repositories);
    let is_here = |name: &String| home.as_ref().is_some_and(|home| home.model(name) == path);
    let pulled = names.chain(repositories).find(is_here);
    Failure::Format { path, source, pulled }
}

/// Does `work`, which may open a GPU; shows what drivers print only if it fails.
fn with_driver_output_on_failure<T>(
    gpu: bool,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    if !gpu || cfg!(not(feature = "gpu")) {
        return work();
    }
    let (done, output) = stderr::capture(work);
    // Wrong usage is not the driver's fault.
    if matches!(&done, Err(failure) if failure.exit_code() == 1) {
        terminal::driver_output(&output);
    }
    done
}

fn unplanned(error: PlanError) -> Failure {
    match error {
        PlanError::Backend(BackendError::NotBuilt(kind)) => Failure::NotBuilt {
            what: match kind {
                BackendKind::GpuPrompts => "--backend gpu+cpu",
                BackendKind::GpuTokens => "--backend cpu+gpu",
                _ => "--backend gpu",
            },
            feature: "gpu",
        },
        PlanError::Kernels(_)
        | PlanError::Threads(_)
        | PlanError::Backend(BackendError::Unknown(_))
        | PlanError::Memory(MemoryError::Context { .. }) => Failure::Usage(error.to_string()),
        other => Failure::other(other),
    }
}

/// What a generator borrows: its memory and its threads.
pub(crate) struct Workspace {
    memory: InferenceMemory,
    pool: SpinPool,
}

impl Workspace {
    /// The memory and the threads of the plan.
    pub(crate) fn new(plan: &InferencePlan) -> Result<Workspace, Failure> {
        let pool = SpinPool::new(plan.threads());
        let pool = pool
            .map_err(|error| Failure::Other(format!("cannot start {} threads: {error}", plan.threads())))?;
        Ok(Workspace { memory: plan.allocate().map_err(Failure::other)?, pool })
    }

    /// The model with its adapters, ready to run.
    pub(crate) fn generator<'a>(
        &'a mut self,
        file: &ModelFile<'a>,
        plan: &InferencePlan,
        adapters: &'a Adapters,
    ) -> Result<Generator<'a>, Failure> {
        with_driver_output_on_failure(plan.backend().has_gpu(), || {
            let generator = thimble_host::generator(file, plan, &mut self.memory, &self.pool);
            let mut generator = generator.map_err(Failure::other)?;
            set_adapters(&mut generator, &adapters.weighted()?).map_err(Failure::other)?;
            Ok(generator)
        })
    }
}

#[cfg(feature = "serve")]
impl Workspace {
    /// The slots of the model, each with these adapters, on the CPU.
    pub(crate) fn slots<'a>(
        &'a mut self,
        file: &ModelFile<'a>,
        plan: &InferencePlan,
        adapters: &'a Adapters,
    ) -> Result<thimble_host::Slots<'a>, Failure> {
        let slots = thimble_host::slots(file, plan, &mut self.memory, &self.pool);
        let mut slots = slots.map_err(Failure::other)?;
        for slot in 0..slots.slots() {
            slots.set_adapters(slot, &adapters.weighted()?).map_err(Failure::other)?;
        }
        Ok(slots)
    }
}

/// What to do about a text that is too long: a longer context helps only if the model has one.
pub(crate) fn too_long_remedy(plan: &InferencePlan, config: &Config) -> String {
    match plan.context() < config.context {
        true => format!("shorten it, or allow more with --context N (up to {} here)", config.context),
        false => format!("shorten it ({} is this model's maximum context)", config.context),
    }
}

/// The tokens of a text by itself, with the begin-of-text token that the tokenizer may add.
pub(crate) fn encode_text(
    file: &ModelFile<'_>,
    text: &str,
    specials: Specials,
) -> Result<Vec<Token>, Failure> {
    thimble_chat::encode_text(&file.tokenizer(), file.config(), text, specials).map_err(Failure::other)
}
