//! What `auto` means for a model on this machine: measured at first use, kept in a small file.

use crate::backend::{BackendKind, MatmulVariant};
use crate::kv_file::fingerprint;
use crate::measure::BackendTimings;
use crate::plan::{InferencePlan, InferenceSettings, PlanError};
#[cfg(feature = "gpu")]
use crate::{
    generator::on_gpu, hybrid::Hybrid, measure::SecondsPerToken, plan::InferenceMemory, threads::SpinPool,
};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use thimble_runtime::format::ModelFile;
#[cfg(feature = "gpu")]
use thimble_runtime::{cpu::Cpu, model::Weights};

/// Seconds after which a choice is made anew: a driver may be new, or there may be a GPU now.
const STALE: u64 = 30 * DAY;
/// The same for one that was made without measuring: memory may have been short, or a driver is being installed.
const DAY: u64 = 86_400;
/// Positions of the sessions that are timed.
const CONTEXT: usize = 576;

/// A choice that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendChoice {
    /// What the model was called.
    pub model: String,
    /// Checksum of the model file's front.
    pub checksum: String,
    /// The program's version, the kernels, threads and precision it was made for, and the adapter or API that was asked for.
    pub settings: String,
    /// The adapter, its API and driver; none where none was found.
    pub adapter: Option<String>,
    /// Who does what.
    #[serde(with = "by_name")]
    pub backend: BackendKind,
    /// How the GPU computes products for prompts, where that was measured.
    #[serde(default)]
    pub products: Option<MatmulVariant>,
    /// What was measured, if anything was.
    pub measured: Option<BackendTimings>,
    /// The reason, in words.
    pub why: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

impl BackendChoice {
    /// The settings as it has them.
    fn followed(&self, settings: &InferenceSettings) -> InferenceSettings {
        InferenceSettings { backend: Some(self.backend), products: self.products, ..*settings }
    }
}

/// Every choice of a file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    choices: Vec<BackendChoice>,
}

/// What to use now.
#[derive(Clone, Debug)]
pub struct ChosenBackend {
    /// The settings with the backend, which is never `Auto`, and how it computes.
    pub settings: InferenceSettings,
    /// What was measured just now, to be told.
    pub news: Option<BackendChoice>,
}

/// Decides what `auto` is.
#[derive(Clone, Copy, Debug)]
pub struct BackendChooser<'a> {
    /// The file with the choices; nothing is remembered without it, or where it cannot be written.
    pub book: Option<&'a Path>,
    /// Gets the lines that say that two processors are being timed, and that a GPU was found and is wrong.
    pub tell: fn(&str),
}

impl BackendChooser<'_> {
    /// The backend of `settings` (or of `THIMBLE_BACKEND`); where that is `auto`, the one remembered for this model, or the
    /// fastest of those that are there. No adapter is opened unless the answer needs one.
    ///
    /// # Errors
    /// A name that is none.
    pub fn choose(
        &self,
        file: &ModelFile<'_>,
        model: &str,
        settings: &InferenceSettings,
    ) -> Result<ChosenBackend, PlanError> {
        let backend = BackendKind::resolve(settings.backend)?;
        if backend != BackendKind::Auto {
            return Ok(ChosenBackend {
                settings: InferenceSettings { backend: Some(backend), ..*settings },
                news: None,
            });
        }
        let plan = self.plan(file, settings)?;
        let asked = BackendChoice {
            model: model.to_owned(),
            checksum: format!("{:016x}", fingerprint(file)),
            settings: described(&plan),
            adapter: None,
            backend: BackendKind::Cpu,
            products: None,
            measured: None,
            why: String::new(),
            at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs()),
        };
        if let Some(known) = self.book.and_then(|book| remembered(book, &asked))
            && (!known.backend.has_gpu() || known.adapter == adapter().ok().map(|(name, _)| name))
        {
            return Ok(ChosenBackend { settings: known.followed(settings), news: None });
        }
        let choice = measured(file, &plan, asked, self.tell);
        if let Some(book) = self.book {
            // Without it the next start measures again.
            let _ = remember(book, choice.clone());
        }
        let news = choice.measured.is_some().then(|| choice.clone());
        Ok(ChosenBackend { settings: choice.followed(settings), news })
    }

    /// What is timed: a short session.
    fn plan(&self, file: &ModelFile<'_>, settings: &InferenceSettings) -> Result<InferencePlan, PlanError> {
        let context = CONTEXT.min(file.config().context);
        let settings = InferenceSettings {
            context: Some(context),
            batch: Some(context),
            logit_rows: None,
            lookup: 0,
            backend: Some(BackendKind::Auto),
            ..*settings
        };
        Ok(InferencePlan::new(file.config(), &settings)?.telling(self.tell))
    }
}

/// Every choice in a file; none where there is no such file, or it is damaged.
pub fn choices(book: &Path) -> Vec<BackendChoice> {
    let read = fs::read(book).ok().and_then(|bytes| serde_json::from_slice::<Book>(&bytes).ok());
    read.unwrap_or_default().choices
}

fn same(a: &BackendChoice, b: &BackendChoice) -> bool {
    a.checksum == b.checksum && a.settings == b.settings
}

fn remembered(book: &Path, asked: &BackendChoice) -> Option<BackendChoice> {
    // Of a clock that went wrong, or written by hand, nothing is believed.
    let fresh = |choice: &BackendChoice| {
        let limit = if choice.measured.is_some() { STALE } else { DAY };
        asked.at.checked_sub(choice.at).is_some_and(|age| age < limit) && choice.backend != BackendKind::Auto
    };
    choices(book).into_iter().find(|choice| same(choice, asked) && fresh(choice))
}

/// Puts a choice into the file, in place of the one before; a file of another process's making is read first.
fn remember(book: &Path, choice: BackendChoice) -> io::Result<()> {
    let mut all = choices(book);
    all.retain(|old| !same(old, &choice));
    all.push(choice);
    if let Some(folder) = book.parent() {
        fs::create_dir_all(folder)?;
    }
    thimble_files::write(book, &serde_json::to_vec_pretty(&Book { choices: all })?)
}

/// What besides the model decides how fast the CPU is, and which GPU it is compared with.
fn described(plan: &InferencePlan) -> String {
    let options = plan.memory().options();
    let (kernels, threads) = (plan.kernels().name(), plan.threads());
    let exact = if options.exact { ", exact" } else { "" };
    let mut text =
        format!("{} {kernels}, {threads} threads, {:?} cache{exact}", env!("CARGO_PKG_VERSION"), options.kv);
    for name in ["THIMBLE_ADAPTER", "WGPU_BACKEND"] {
        if let Some(asked) = std::env::var_os(name).filter(|asked| !asked.is_empty()) {
            text += &format!(", {name}={}", asked.to_string_lossy());
        }
    }
    text
}

/// The adapter in words; or why there is none.
#[cfg(feature = "gpu")]
fn adapter() -> Result<(String, thimble_gpu::Device), String> {
    let device = crate::gpu::device().map_err(|error| error.to_string())?;
    let report = device.report();
    Ok((format!("{} ({}, {})", report.name, report.api, report.driver), device))
}

#[cfg(not(feature = "gpu"))]
fn adapter() -> Result<(String, ()), String> {
    Err("this program was built without GPU support".to_owned())
}

/// Makes the choice.
#[cfg(not(feature = "gpu"))]
fn measured(_: &ModelFile<'_>, _: &InferencePlan, asked: BackendChoice, _: fn(&str)) -> BackendChoice {
    BackendChoice { why: adapter().err().unwrap_or_default(), ..asked }
}

/// Makes the choice.
#[cfg(feature = "gpu")]
fn measured(
    file: &ModelFile<'_>,
    plan: &InferencePlan,
    asked: BackendChoice,
    tell: fn(&str),
) -> BackendChoice {
    let cpu = |adapter, why: &str| BackendChoice { adapter, why: why.to_owned(), ..asked.clone() };
    let (name, device) = match adapter() {
        Ok(found) => found,
        Err(reason) => return cpu(None, &reason),
    };
    if crate::gpu::is_out(&device) {
        let why = "the only adapter is a software renderer, which is slower than the CPU itself";
        return cpu(Some(name), why);
    }
    tell(&format!("auto: timing {name} and the CPU with {}, once", asked.model));
    let name = Some(name);
    let mut best: Option<(BackendTimings, MatmulVariant)> = None;
    for way in crate::gpu::variants_to_time(&device, plan) {
        let products = way.matmul_variants()[0];
        let Ok(mut memory) = plan.allocate() else { return cpu(name, "memory was short") };
        let Ok(pool) = SpinPool::new(plan.threads()) else { return cpu(name, "threads were short") };
        let known = best.map(|(measured, _)| measured.cpu);
        let Some(measured) = time(file, plan, &mut memory, &pool, way, known) else { continue };
        if best.is_none_or(|(before, _)| measured.gpu.prompt < before.gpu.prompt) {
            best = Some((measured, products));
        }
    }
    match best {
        Some((measured, products)) => BackendChoice {
            adapter: name,
            backend: measured.best(),
            products: Some(products),
            measured: Some(measured),
            why: format!("{measured}; {products} products"),
            ..asked
        },
        None => cpu(name, "the GPU cannot run this model, or computed something wrong"),
    }
}

/// Times the processors, the GPU in one way; none where that is wrong or cannot be.
#[cfg(feature = "gpu")]
fn time(
    file: &ModelFile<'_>,
    plan: &InferencePlan,
    memory: &mut InferenceMemory,
    pool: &SpinPool,
    way: thimble_gpu::Device,
    cpu: Option<SecondsPerToken>,
) -> Option<BackendTimings> {
    let weights = Weights::new(file).ok()?;
    let alone = Cpu::new(weights, plan.memory(), plan.kernels(), pool, memory.bytes()).ok()?;
    // What is wrong with one way is no news where another one is right.
    let plan = plan.telling(|_| {});
    on_gpu(Hybrid::new(alone), &weights, &plan, &[way]).measure(cpu)
}

mod by_name {
    use crate::backend::BackendKind;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(kind: &BackendKind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(kind)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BackendKind, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::SecondsPerToken;

    fn choice(checksum: &str, backend: BackendKind) -> BackendChoice {
        BackendChoice {
            model: "m".into(),
            checksum: checksum.into(),
            settings: "s".into(),
            adapter: None,
            backend,
            products: None,
            measured: None,
            why: "because".into(),
            at: 1000,
        }
    }

    #[test]
    fn a_choice_is_remembered_until_it_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let book = folder.path().join("sub").join("backends.json");
        assert_eq!(choices(&book), []);
        let all = [choice("a", BackendKind::GpuPrompts), choice("b", BackendKind::Cpu)];
        all.iter().for_each(|choice| remember(&book, choice.clone()).unwrap());
        assert_eq!(choices(&book), all);
        let again = choice("a", BackendKind::Gpu);
        remember(&book, again.clone()).unwrap();
        assert_eq!(choices(&book), [all[1].clone(), again.clone()]);
        assert_eq!(remembered(&book, &all[0]), Some(again.clone()));
        assert_eq!(
            remembered(&book, &BackendChoice { at: 1000 + DAY, ..again.clone() }),
            None,
            "nothing was measured"
        );
        let speeds = SecondsPerToken { prompt: 1e-3, token: 1e-2 };
        let measured = Some(BackendTimings { cpu: speeds, gpu: speeds, handover: 1e-6 });
        let again = BackendChoice { measured, ..again };
        remember(&book, again.clone()).unwrap();
        assert_eq!(
            remembered(&book, &BackendChoice { at: 1000 + DAY, ..again.clone() }),
            Some(again.clone())
        );
        assert_eq!(remembered(&book, &BackendChoice { at: 1000 + STALE, ..again.clone() }), None);
        assert_eq!(remembered(&book, &BackendChoice { settings: "other".into(), ..again }), None);
        // A damaged file is written anew.
        fs::write(&book, b"{").unwrap();
        assert_eq!(choices(&book), []);
        remember(&book, all[1].clone()).unwrap();
        assert_eq!(choices(&book), [all[1].clone()]);
        assert_eq!(fs::read_dir(book.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }
}
