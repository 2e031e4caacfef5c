//! Adapters: the logits of the PEFT library (tests/golden/adapters.py), merged models, wrong models, and what is refused.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "families/golden.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod golden;
#[path = "adapters/refusals.rs"]
mod refusals;
mod tiny;

use conformance::{converted, logit_difference};
use golden::Golden;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use thimble_converter::{BlockType, ConversionOptions, Quant, adapter, convert, read};
use thimble_files::{MappedModel, OpenedAdapter};
use thimble_host::{Generator, InferencePlan, InferenceSettings, KvFile, SpinPool, generator, set_adapters};
use thimble_runtime::Token;
use thimble_runtime::adapter::{AdapterError, WeightedAdapter, base_fingerprint};
use thimble_runtime::kernels::KvKind;

const EXACT: InferenceSettings = InferenceSettings {
    context: None,
    threads: Some(2),
    kernels: None,
    kv: None,
    exact: true,
    logit_rows: None,
    batch: None,
    lookup: 0,
    matmul_variant: None,
    adapter_rank: 8,
    sequences: None,
    backend: None,
};
const FAST: InferenceSettings = InferenceSettings { exact: false, ..EXACT };

/// What PEFT computed.
#[derive(Deserialize)]
struct Case {
    model: String,
    adapters: Vec<(String, f32)>,
    prompt: Vec<f64>,
    last: Vec<f64>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../golden/adapters.json")).unwrap()
}

fn peft(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/adapters").join(name)
}

fn golden(name: &str) -> Golden {
    golden::all().into_iter().find(|golden| golden.name == name).unwrap()
}

/// The golden model as a `.thimble` file, beside its folder.
fn model(golden: &Golden, folder: &Path, quant: Quant) -> MappedModel {
    golden.folder(BlockType::F32).write(folder, 1);
    converted(folder, &folder.join("m.thimble"), quant).0
}

/// The adapter of a PEFT folder as an `.adapter` file beside its base model, which it knows.
fn adapter_of(name: &str, folder: &Path, quant: Quant) -> OpenedAdapter {
    let path = folder.join(format!("{name}-{quant}.adapter"));
    let adapter = adapter::open(&peft(name)).unwrap().with_base(&read::open(folder).unwrap()).unwrap();
    let summary = adapter.write(&path, quant).unwrap();
    assert!(summary.has_fingerprint && summary.bytes == path.metadata().unwrap().len());
    OpenedAdapter::read(&path).unwrap()
}

/// All adapters of a case.
fn adapters_of(case: &Case, folder: &Path, quant: Quant) -> Vec<OpenedAdapter> {
    case.adapters.iter().map(|(name, _)| adapter_of(name, folder, quant)).collect()
}

/// The logits after the prompt and after each token decoded behind it.
fn logits(golden: &Golden, session: &mut Generator<'_>) -> Vec<Vec<f32>> {
    let tokens: Vec<Token> = golden.tokens.iter().copied().map(Token).collect();
    let (prompt, rest) = tokens.split_at(golden.prompt_tokens);
    session.rewind(0).unwrap();
    session.prefill(prompt).unwrap();
    let mut all = vec![session.tokens_and_logits().1.to_vec()];
    for &token in rest {
        session.prefill(&[token]).unwrap();
        all.push(session.tokens_and_logits().1.to_vec());
    }
    all
}

/// Runs `work` on a session of a model with adapters.
fn with_adapters<R>(
    model: &MappedModel,
    settings: &InferenceSettings,
    adapters: &[(&OpenedAdapter, f32)],
    work: impl FnOnce(&mut Generator<'_>) -> R,
) -> R {
    let file = model.file().unwrap();
    let plan = InferencePlan::new(file.config(), settings).unwrap();
    let (mut memory, pool) = (plan.allocate().unwrap(), SpinPool::new(plan.threads()).unwrap());
    let mut session = generator(&file, &plan, &mut memory, &pool).unwrap();
    let weighted: Vec<WeightedAdapter<'_>> =
        adapters.iter().map(|(adapter, weight)| weighted(adapter, *weight)).collect();
    set_adapters(&mut session, &weighted).unwrap();
    work(&mut session)
}

fn weighted(adapter: &OpenedAdapter, weight: f32) -> WeightedAdapter<'_> {
    WeightedAdapter { file: adapter.file().unwrap(), weight }
}

/// The logits of a model with adapters.
fn adapted(
    golden: &Golden,
    model: &MappedModel,
    settings: &InferenceSettings,
    adapters: &[(&OpenedAdapter, f32)],
) -> Vec<Vec<f32>> {
    with_adapters(model, settings, adapters, |session| logits(golden, session))
}

#[test]
fn logits_are_those_of_peft() {
    for case in cases() {
        let golden = golden(&case.model);
        let folder = tempfile::tempdir().unwrap();
        let model = model(&golden, folder.path(), Quant::Keep);
        let opened = adapters_of(&case, folder.path(), Quant::Keep);
        let adapters: Vec<(&OpenedAdapter, f32)> =
            opened.iter().zip(&case.adapters).map(|(opened, (_, weight))| (opened, *weight)).collect();
        let all = adapted(&golden, &model, &EXACT, &adapters);
        let [prompt, last] = [(&all[0], &case.prompt), (&all[all.len() - 1], &case.last)]
            .map(|(found, expected)| logit_difference(found, expected));
        let moved = logit_difference(&all[0], &golden.prompt);
        println!("{}, {:?}: {prompt:.1e} after the prompt, {last:.1e} at the end", case.model, case.adapters);
        assert!(moved > 0.1, "the adapters move the logits by {moved}");
        assert!(prompt < 1e-4 && last < 1e-4, "{}, {:?}: {prompt:e} {last:e}", case.model, case.adapters);
        // Without them the session is the model's own again, bit for bit.
        let plain = adapted(&golden, &model, &EXACT, &[]);
        let zero: Vec<_> = opened.iter().map(|opened| (opened, 0.0)).collect();
        assert!(adapted(&golden, &model, &EXACT, &zero) == plain);
        let settings = InferenceSettings { adapter_rank: 0, ..EXACT };
        assert!(adapted(&golden, &model, &settings, &[]) == plain);
    }
}

#[test]
fn a_merged_model_is_the_adapted_one_within_rounding() {
    for case in cases() {
        let golden = golden(&case.model);
        let folder = tempfile::tempdir().unwrap();
        let model = model(&golden, folder.path(), Quant::Keep);
        // Of PEFT folders and of adapter files.
        let opened = adapters_of(&case, folder.path(), Quant::F32);
        let files = opened.iter().map(|adapter| adapter.path().to_owned());
        let folders = case.adapters.iter().map(|(name, _)| peft(name));
        let weights = || case.adapters.iter().map(|(_, weight)| *weight);
        let lists = [files.zip(weights()).collect::<Vec<_>>(), folders.zip(weights()).collect()];
        let mut found = Vec::new();
        // From the folder and from the .thimble file.
        for (source, merge) in [folder.path().to_owned(), model.path().to_owned()].iter().zip(lists) {
            let path = folder.path().join("merged.thimble");
            let options = ConversionOptions { quant: Quant::F32, merge, ..ConversionOptions::default() };
            let summary = convert(source, &path, &options, &mut |_| ()).unwrap();
            assert!(summary.notes.iter().any(|note| note.contains("merged with the adapter")));
            let merged = MappedModel::read(&path).unwrap();
            assert_eq!(
                base_fingerprint(&merged.file().unwrap()),
                base_fingerprint(&model.file().unwrap()),
                "norms stay as they are"
            );
            let all = adapted(&golden, &merged, &EXACT, &[]);
            let [prompt, last] = [(&all[0], &case.prompt), (&all[all.len() - 1], &case.last)]
                .map(|(found, expected)| logit_difference(found, expected));
            println!("{}, {:?}, merged: {prompt:.1e}, {last:.1e}", case.model, case.adapters);
            assert!(prompt < 1e-4 && last < 1e-4, "{prompt:e} {last:e}");
            found.push(all);
        }
        assert!(found[0] == found[1], "the same numbers from each source");
        // Quantized afterwards: near the adapted model of the same encoding, which quantizes less.
        let path = folder.path().join("q8.thimble");
        let merge = case.adapters.iter().map(|(name, weight)| (peft(name), *weight)).collect();
        let options = ConversionOptions { quant: Quant::Q8, merge, ..ConversionOptions::default() };
        convert(folder.path(), &path, &options, &mut |_| ()).unwrap();
        let all = adapted(&golden, &MappedModel::read(&path).unwrap(), &FAST, &[]);
        let off = logit_difference(&all[0], &case.prompt);
        println!("{}, {:?}, merged to q8: {off:.1e}", case.model, case.adapters);
        assert!(off < 0.1, "{off:e}");
    }
}

#[test]
fn adapters_of_two_sessions_do_not_meet() {
    let golden = golden("Llama 3, tied");
    let folder = tempfile::tempdir().unwrap();
    let model = model(&golden, folder.path(), Quant::Q8);
    let [all, small] = ["all", "bf16"].map(|name| adapter_of(name, folder.path(), Quant::F16));
    for settings in [EXACT, FAST] {
        let alone = [(&all, 1.0), (&small, 0.5)].map(|one| adapted(&golden, &model, &settings, &[one]));
        assert!(alone[0] != alone[1]);
        with_adapters(&model, &settings, &[(&all, 1.0)], |first| {
            with_adapters(&model, &settings, &[(&small, 0.5)], |second| {
                let tokens: Vec<Token> = golden.tokens.iter().copied().map(Token).collect();
                let (prompt, rest) = tokens.split_at(golden.prompt_tokens);
                first.prefill(prompt).unwrap();
                second.prefill(prompt).unwrap();
                for (token, (a, b)) in rest.iter().zip(alone[0].iter().zip(&alone[1])) {
                    assert!(first.tokens_and_logits().1 == &a[..] && second.tokens_and_logits().1 == &b[..]);
                    first.prefill(&[*token]).unwrap();
                    second.prefill(&[*token]).unwrap();
                }
            });
        });
    }
}

#[test]
fn a_saved_cache_belongs_to_its_adapters() {
    let golden = golden("Llama 3, tied");
    let folder = tempfile::tempdir().unwrap();
    let model = model(&golden, folder.path(), Quant::Q8);
    let adapter = adapter_of("all", folder.path(), Quant::F16);
    let file = model.file().unwrap();
    let path = folder.path().join("cache.kv");
    let settings = InferenceSettings { kv: Some(KvKind::F16), ..FAST };
    let tokens: Vec<Token> = golden.tokens.iter().copied().map(Token).collect();
    with_adapters(&model, &settings, &[(&adapter, 1.0)], |session| {
        session.prefill(&tokens).unwrap();
        KvFile::new(&path).save(&file, session).unwrap();
    });
    let restored = |adapters: &[(&OpenedAdapter, f32)]| {
        with_adapters(&model, &settings, adapters, |session| {
            let restored = KvFile::new(&path).restore(&file, session);
            (restored.is_ok(), session.position())
        })
    };
    assert_eq!(restored(&[(&adapter, 1.0)]), (true, 64));
    assert_eq!(restored(&[(&adapter, 0.5)]), (false, 0));
    assert_eq!(restored(&[]), (false, 0));
}
