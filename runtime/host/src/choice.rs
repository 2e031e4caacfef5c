//! Resolves the backend `auto` for a model on this machine: measured at first use, then read from a small file.

use crate::backend::{BackendKind, MatmulVariant};
use crate::kv_file::fingerprint;
use crate::measure::BackendTimings;
use crate::plan::{InferencePlan, InferenceSettings, PlanError};
#[cfg(feature = "gpu")]
use crate::{
    generator::add_gpu, hybrid::Hybrid, measure::SecondsPerToken, plan::InferenceMemory, threads::SpinPool,
};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use thimble_runtime::format::ModelFile;
#[cfg(feature = "gpu")]
use thimble_runtime::{cpu::Cpu, model::Weights};

const DAY: u64 = 86_400;
/// Seconds for which a measured choice is valid: the driver may have been updated since, or a GPU added.
const MEASURED_VALID: u64 = 30 * DAY;
/// The same for a choice without timings: memory may have been short, or the driver was not installed yet.
const UNMEASURED_VALID: u64 = DAY;
/// Context length of the sessions that are timed.
const CONTEXT: usize = 576;

/// The backend chosen for a model, as it is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendChoice {
    /// Name of the model.
    pub model: String,
    /// Checksum of the beginning of the model file.
    pub checksum: String,
    /// Version of this program, kernels, threads, precision, and the requested adapter or API.
    pub settings: String,
    /// The adapter, its API and driver; `None` if there was none.
    pub adapter: Option<String>,
    /// The chosen backend.
    #[serde(with = "by_name")]
    pub backend: BackendKind,
    /// The fastest matrix-multiplication kernel for prompts, if it was measured.
    #[serde(default, rename = "products")]
    pub matmul_variant: Option<MatmulVariant>,
    /// The timings, if there are any.
    #[serde(rename = "measured")]
    pub timings: Option<BackendTimings>,
    /// The reason, in words.
    #[serde(rename = "why")]
    pub reason: String,
    /// Unix time in seconds.
    #[serde(rename = "at")]
    pub time: u64,
}

impl BackendChoice {
    /// Puts the choice into `settings`.
    fn apply(&self, settings: &InferenceSettings) -> InferenceSettings {
        InferenceSettings { backend: Some(self.backend), matmul_variant: self.matmul_variant, ..*settings }
    }

    /// Whether both are for the same model, settings and machine.
    fn has_key_of(&self, other: &BackendChoice) -> bool {
        self.checksum == other.checksum && self.settings == other.settings
    }
}

/// The file of choices.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SavedChoices {
    choices: Vec<BackendChoice>,
}

/// A backend that is not `auto`.
#[derive(Clone, Debug)]
pub struct ResolvedBackend {
    /// The settings, with the backend and its matrix-multiplication kernel.
    pub settings: InferenceSettings,
    /// The choice, if it was measured by this call.
    pub new_choice: Option<BackendChoice>,
}

/// Resolves `auto`.
#[derive(Clone, Copy, Debug)]
pub struct BackendChooser<'a> {
    /// The file of choices; without one, or if it cannot be written, every call measures.
    pub choices: Option<&'a Path>,
    /// Receives messages: a measurement begins, or a GPU failed the startup check.
    pub notify: fn(&str),
}

impl BackendChooser<'_> {
    /// Resolves the backend of `settings` (or of `THIMBLE_BACKEND`). For `auto` that is the saved choice for this model, or
    /// else the fastest backend as measured now. An adapter is opened only if the answer depends on it.
    ///
    /// # Errors
    /// An unknown backend name, or settings that cannot be met.
    pub fn choose(
        &self,
        file: &ModelFile<'_>,
        model: &str,
        settings: &InferenceSettings,
    ) -> Result<ResolvedBackend, PlanError> {
        let backend = BackendKind::resolve(settings.backend)?;
        if backend != BackendKind::Auto {
            let settings = InferenceSettings { backend: Some(backend), ..*settings };
            return Ok(ResolvedBackend { settings, new_choice: None });
        }
        let plan = self.plan(file, settings)?;
        let request = BackendChoice {
            model: model.to_owned(),
            checksum: format!("{:016x}", fingerprint(file)),
            settings: describe(&plan),
            adapter: None,
            backend: BackendKind::Cpu,
            matmul_variant: None,
            timings: None,
            reason: String::new(),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs()),
        };
        if let Some(saved) = self.choices.and_then(|path| find_valid(path, &request))
            && (!saved.backend.has_gpu() || saved.adapter == adapter().ok().map(|(name, _)| name))
        {
            return Ok(ResolvedBackend { settings: saved.apply(settings), new_choice: None });
        }
        let choice = measure(file, &plan, request, self.notify);
        if let Some(path) = self.choices {
            // If it cannot be saved, the next start measures again.
            let _ = save(path, choice.clone());
        }
        let settings = choice.apply(settings);
        Ok(ResolvedBackend { settings, new_choice: Some(choice).filter(|choice| choice.timings.is_some()) })
    }

    /// The plan of the short sessions that are timed.
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
        Ok(InferencePlan::new(file.config(), &settings)?.with_notify(self.notify))
    }
}

/// All choices in the file at `path`; none if it is missing or damaged.
pub fn saved_choices(path: &Path) -> Vec<BackendChoice> {
    let read = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<SavedChoices>(&bytes).ok());
    read.unwrap_or_default().choices
}

fn find_valid(path: &Path, request: &BackendChoice) -> Option<BackendChoice> {
    // A time in the future, from a wrong clock, is not valid, nor is a file edited to say `auto`.
    let valid = |choice: &BackendChoice| {
        let limit = if choice.timings.is_some() { MEASURED_VALID } else { UNMEASURED_VALID };
        let age = request.time.checked_sub(choice.time);
        age.is_some_and(|age| age < limit) && choice.backend != BackendKind::Auto
    };
    saved_choices(path).into_iter().find(|choice| choice.has_key_of(request) && valid(choice))
}

/// Adds a choice to the file, or replaces an older one. The file is read first: another process may have changed it.
fn save(path: &Path, choice: BackendChoice) -> io::Result<()> {
    let mut choices = saved_choices(path);
    choices.retain(|old| !old.has_key_of(&choice));
    choices.push(choice);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    thimble_files::write(path, &serde_json::to_vec_pretty(&SavedChoices { choices })?)
}

/// What the timings depend on besides the model and the adapter.
fn describe(plan: &InferencePlan) -> String {
    let options = plan.memory().options();
    let (kernels, threads) = (plan.kernels().name(), plan.threads());
    let exact = if options.exact { ", exact" } else { "" };
    let mut text =
        format!("{} {kernels}, {threads} threads, {:?} cache{exact}", env!("CARGO_PKG_VERSION"), options.kv);
    for name in ["THIMBLE_ADAPTER", "WGPU_BACKEND"] {
        if let Some(requested) = std::env::var_os(name).filter(|requested| !requested.is_empty()) {
            text += &format!(", {name}={}", requested.to_string_lossy());
        }
    }
    text
}

/// The adapter in words, and its device; or why there is none.
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

/// Chooses the CPU: there is nothing to compare.
#[cfg(not(feature = "gpu"))]
fn measure(_: &ModelFile<'_>, _: &InferencePlan, request: BackendChoice, _: fn(&str)) -> BackendChoice {
    BackendChoice { reason: adapter().err().unwrap_or_default(), ..request }
}

/// Times the CPU and every kernel variant of the GPU, and chooses the fastest backend.
#[cfg(feature = "gpu")]
fn measure(
    file: &ModelFile<'_>,
    plan: &InferencePlan,
    request: BackendChoice,
    notify: fn(&str),
) -> BackendChoice {
    let cpu = |adapter, reason: &str| BackendChoice { adapter, reason: reason.to_owned(), ..request.clone() };
    let (name, device) = match adapter() {
        Ok(found) => found,
        Err(reason) => return cpu(None, &reason),
    };
    if crate::gpu::is_excluded(&device) {
        let reason = "the only adapter is a software renderer, which is slower than the CPU itself";
        return cpu(Some(name), reason);
    }
    notify(&format!("auto: comparing {name} with the CPU on {} (done once)", request.model));
    let name = Some(name);
    let mut best: Option<(BackendTimings, MatmulVariant)> = None;
    for device in crate::gpu::variants_to_time(&device, plan) {
        let variant = device.matmul_variants()[0];
        let Ok(mut memory) = plan.allocate() else { return cpu(name, "not enough memory to measure") };
        let Ok(pool) = SpinPool::new(plan.threads()) else {
            return cpu(name, "cannot start threads to measure");
        };
        let known = best.map(|(timings, _)| timings.cpu);
        let Some(timings) = time(file, plan, &mut memory, &pool, device, known) else { continue };
        if best.is_none_or(|(before, _)| timings.gpu.prompt < before.gpu.prompt) {
            best = Some((timings, variant));
        }
    }
    match best {
        Some((timings, variant)) => BackendChoice {
            adapter: name,
            backend: timings.best(),
            matmul_variant: Some(variant),
            timings: Some(timings),
            reason: format!("{timings}; {variant} products"),
            ..request
        },
        None => cpu(name, "the GPU cannot run this model, or failed the startup check"),
    }
}

/// Times the CPU (unless `cpu` is known) and one kernel variant of the GPU; `None` if that variant fails.
#[cfg(feature = "gpu")]
fn time(
    file: &ModelFile<'_>,
    plan: &InferencePlan,
    memory: &mut InferenceMemory,
    pool: &SpinPool,
    variant: thimble_gpu::Device,
    cpu: Option<SecondsPerToken>,
) -> Option<BackendTimings> {
    let weights = Weights::new(file).ok()?;
    let alone = Cpu::new(weights, plan.memory(), plan.kernels(), pool, memory.bytes()).ok()?;
    // Another variant may pass the check, so a failure is no warning yet.
    let plan = plan.with_notify(|_| {});
    add_gpu(Hybrid::new(alone), &weights, &plan, &[variant]).measure(cpu)
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
            matmul_variant: None,
            timings: None,
            reason: "because".into(),
            time: 1000,
        }
    }

    #[test]
    fn a_choice_is_saved_and_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub").join("backends.json");
        assert_eq!(saved_choices(&path), []);
        let all = [choice("a", BackendKind::GpuPrompts), choice("b", BackendKind::Cpu)];
        all.iter().for_each(|choice| save(&path, choice.clone()).unwrap());
        assert_eq!(saved_choices(&path), all);
        let again = choice("a", BackendKind::Gpu);
        save(&path, again.clone()).unwrap();
        assert_eq!(saved_choices(&path), [all[1].clone(), again.clone()]);
        assert_eq!(find_valid(&path, &all[0]), Some(again.clone()));
        assert_eq!(
            find_valid(&path, &BackendChoice { time: 1000 + UNMEASURED_VALID, ..again.clone() }),
            None,
            "nothing was measured"
        );
        let speeds = SecondsPerToken { prompt: 1e-3, token: 1e-2 };
        let timings = Some(BackendTimings { cpu: speeds, gpu: speeds, handover: 1e-6 });
        let again = BackendChoice { timings, ..again };
        save(&path, again.clone()).unwrap();
        assert_eq!(
            find_valid(&path, &BackendChoice { time: 1000 + UNMEASURED_VALID, ..again.clone() }),
            Some(again.clone())
        );
        assert_eq!(find_valid(&path, &BackendChoice { time: 1000 + MEASURED_VALID, ..again.clone() }), None);
        assert_eq!(find_valid(&path, &BackendChoice { settings: "other".into(), ..again }), None);
        // A damaged file is replaced.
        fs::write(&path, b"{").unwrap();
        assert_eq!(saved_choices(&path), []);
        save(&path, all[1].clone()).unwrap();
        assert_eq!(saved_choices(&path), [all[1].clone()]);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn the_file_keeps_its_field_names() {
        let json = serde_json::to_value(choice("a", BackendKind::GpuTokens)).unwrap();
        let mut names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected =
            ["adapter", "at", "backend", "checksum", "measured", "model", "products", "settings", "why"];
        assert_eq!(names, expected);
    }
}
