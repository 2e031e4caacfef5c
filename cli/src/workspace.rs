//! From a path to a model that answers: mapping, planning, and one kind of error.

use crate::failure::Failure;
use crate::flags::{Kv, MachineFlags, SamplingFlags};
use crate::home::Home;
use crate::{quiet, terminal};
use std::path::{Path, PathBuf};
use thimble_chat::RecommendedSampling;
use thimble_files::{MappedModel, OpenError};
use thimble_host::{
    BackendChooser, BackendError, BackendKind, Generator, InferenceMemory, InferencePlan, InferenceSettings,
    PlanError, SpinPool,
};
use thimble_runtime::Token;
use thimble_runtime::format::{Config, ModelFile};
use thimble_runtime::memory::MemoryError;
use thimble_runtime::sampler::{Sampler, Sampling};
use thimble_runtime::tokenizer::{Specials, Tokenizer};

/// A mapped file and where it came from.
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
            OpenError::Format { path, source } => Failure::Format { path, source },
            other => engine(other),
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
        self.model.file().map_err(|source| Failure::Format { path: self.path.clone(), source })
    }
}

/// Tokens that are proposed at a time where the user names no number.
pub(crate) const LOOKUP: usize = 4;

/// What a command needs of the session, where the user named nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    /// Positions.
    pub(crate) context: Option<usize>,
    /// Positions whose logits are wanted at a time.
    pub(crate) logit_rows: Option<usize>,
    /// Tokens that are proposed at a time.
    pub(crate) lookup: usize,
}

/// The user's flags over the command's needs.
pub(crate) fn settings(machine: &MachineFlags, need: Need) -> Result<InferenceSettings, Failure> {
    let kernels = machine.kernels.as_deref().map(str::parse).transpose();
    Ok(InferenceSettings {
        context: machine.context.or(need.context),
        threads: machine.threads,
        kernels: kernels.map_err(|error| Failure::Usage(format!("--kernels: {error}")))?,
        kv: machine.kv.map(Kv::kind),
        backend: machine.backend,
        exact: machine.exact,
        logit_rows: need.logit_rows,
        lookup: need.lookup,
        ..InferenceSettings::default()
    })
}

/// How the model would run with the user's flags.
pub(crate) fn plan(config: &Config, machine: &MachineFlags, need: Need) -> Result<InferencePlan, Failure> {
    let plan = InferencePlan::new(config, &settings(machine, need)?).map_err(refused)?;
    Ok(plan.telling(terminal::note))
}

/// The same, where `auto` means what is the fastest for this model.
pub(crate) fn chosen(mapped: &Mapped, machine: &MachineFlags, need: Need) -> Result<InferencePlan, Failure> {
    let settings = decided(mapped, &settings(machine, need)?)?;
    let plan = InferencePlan::new(mapped.file()?.config(), &settings).map_err(refused)?;
    Ok(plan.telling(terminal::note))
}

/// The settings with the backend that is meant, never `auto`: what that is for this model is measured at first use.
pub(crate) fn decided(mapped: &Mapped, settings: &InferenceSettings) -> Result<InferenceSettings, Failure> {
    let home = Home::find().ok();
    #[cfg(feature = "gpu")]
    if let Some(home) = &home {
        // SAFETY: the folder is in the user's own home, or where THIMBLE_HOME says; whoever can write there can change what
        // this command does in other ways.
        #[allow(unsafe_code, reason = "a folder that is trusted; the promise is the user's")]
        unsafe {
            thimble_host::keep_pipelines_in(&home.pipelines());
        }
    }
    let book = home.map(|home| home.backends());
    let name = mapped.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let chooser = BackendChooser { book: book.as_deref(), tell: terminal::note };
    let file = mapped.file()?;
    let gpu = match settings.backend {
        Some(backend) => backend != BackendKind::Cpu,
        None => std::env::var_os("THIMBLE_BACKEND").is_some(),
    };
    without_noise(gpu, || {
        let chosen = chooser.choose(&file, &name, settings).map_err(refused)?;
        if let Some(news) = chosen.news {
            terminal::note(&format!("auto: {} for {}; {}", news.backend, news.model, news.why));
        }
        thimble_host::find_processors(chosen.settings.backend.unwrap_or_default()).map_err(engine)?;
        Ok(chosen.settings)
    })
}

/// What drivers print while a GPU is opened is shown only where that fails.
fn without_noise<T>(gpu: bool, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    if !gpu || cfg!(not(feature = "gpu")) {
        return work();
    }
    let (done, said) = quiet::aside(work);
    // A wrong flag is nobody's fault but its own.
    if matches!(&done, Err(failure) if failure.exit_code() == 1) {
        terminal::driver(&said);
    }
    done
}

fn refused(error: PlanError) -> Failure {
    match error {
        PlanError::Backend(BackendError::NotBuilt(kind)) => Failure::LeftOut {
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
        other => engine(other),
    }
}

/// What a generator borrows: its memory and its threads.
pub(crate) struct Workspace {
    memory: InferenceMemory,
    pool: SpinPool,
}

impl Workspace {
    /// The memory that the plan announced, and its threads.
    pub(crate) fn new(plan: &InferencePlan) -> Result<Workspace, Failure> {
        let pool = SpinPool::new(plan.threads());
        let pool = pool
            .map_err(|error| Failure::Engine(format!("cannot start {} threads: {error}", plan.threads())))?;
        Ok(Workspace { memory: plan.allocate().map_err(engine)?, pool })
    }

    /// The model, ready to run.
    pub(crate) fn generator<'a>(
        &'a mut self,
        file: &ModelFile<'a>,
        plan: &InferencePlan,
    ) -> Result<Generator<'a>, Failure> {
        without_noise(plan.backend().has_gpu(), || {
            thimble_host::generator(file, plan, &mut self.memory, &self.pool).map_err(engine)
        })
    }
}

/// A sampler with checked settings. `biases` are added to the logits of their tokens, out of `vocab`.
pub(crate) fn sampler(
    sampling: Sampling,
    biases: &[(Token, f32)],
    vocab: usize,
) -> Result<Sampler<'_>, Failure> {
    if let Some((token, _)) = biases.iter().find(|(token, _)| token.index() >= vocab) {
        let id = token.0;
        return Err(Failure::Usage(format!("--logit-bias: expected token ids below {vocab}, found {id}")));
    }
    let sampler = Sampler::new(sampling).and_then(|sampler| sampler.with_bias(biases));
    sampler.map_err(|error| Failure::Usage(error.to_string()))
}

/// What helps against a text that is too long for the context: a longer one only where the model has it.
pub(crate) fn shorten(plan: &InferencePlan, config: &Config) -> String {
    match plan.context() < config.context {
        true => format!("shorten it, or allow more with --context N (up to {} here)", config.context),
        false => "shorten it: this model's context is no longer".to_string(),
    }
}

/// Why a text without a single window cannot be measured.
pub(crate) fn no_window(tokens: usize, window: usize) -> Failure {
    Failure::Engine(match tokens {
        0 => "the text is empty".to_string(),
        found => format!("the text has {found} tokens, fewer than one window of {window}: lower --window"),
    })
}

/// An error of a lower layer, which is a sentence already.
pub(crate) fn engine(error: impl std::fmt::Display) -> Failure {
    Failure::Engine(error.to_string())
}

/// The ids of `text`.
pub(crate) fn encode(
    tokenizer: &Tokenizer<'_>,
    text: &str,
    specials: Specials,
) -> Result<Vec<Token>, Failure> {
    thimble_chat::encode(tokenizer, text, specials).map_err(engine)
}

/// What stands in for a context without tokens: the end-of-text token, or what the model has instead.
pub(crate) fn end_of_text(file: &ModelFile<'_>) -> Result<Token, Failure> {
    thimble_chat::end_of_text(file).ok_or_else(|| {
        let missing = "the text is empty, and this model has no token that an empty text could begin with";
        Failure::Engine(missing.to_string())
    })
}

/// The user's sampling over what the model's makers recommend, over `defaults`.
pub(crate) fn sampling(flags: &SamplingFlags, file: &ModelFile<'_>, defaults: Sampling) -> Sampling {
    let defaults = RecommendedSampling::of(file).over(defaults);
    Sampling {
        temperature: flags.temperature.unwrap_or(defaults.temperature),
        top_k: flags.top_k.map_or(defaults.top_k, |k| Some(k).filter(|&k| k > 0)),
        top_p: flags.top_p.or(defaults.top_p),
        min_p: flags.min_p.or(defaults.min_p),
        repetition_penalty: flags.repetition_penalty.unwrap_or(defaults.repetition_penalty),
        frequency_penalty: flags.frequency_penalty.unwrap_or(defaults.frequency_penalty),
        presence_penalty: flags.presence_penalty.unwrap_or(defaults.presence_penalty),
        seed: flags.seed.unwrap_or_else(fresh_seed),
        ..defaults
    }
}

/// The logit biases as the sampler takes them.
pub(crate) fn biases(flags: &SamplingFlags) -> Vec<(Token, f32)> {
    flags.biases.iter().map(|&(id, bias)| (Token(id), bias)).collect()
}

/// A seed from the randomness that the standard library gives every hash map.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 32
}
