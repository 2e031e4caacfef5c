//! Sliding windows: the caches of both processors keep recent positions only.

use super::fake::Habits;
use super::{Bench, KINDS, models, told};
use std::path::Path;
use thimble_files::MappedModel;
use thimble_host::{Hybrid, KvFile};
use thimble_runtime::Token;
use thimble_runtime::format::{Config, LayerPattern, ModelFile, SectionKind, checksum, emit_header};
use thimble_runtime::kernels::{CHUNK, KvKind, SingleThread};
use thimble_runtime::sampler::{Sampler, Sampling};
use thimble_runtime::session::Session;

/// More positions than a layer with a window keeps.
const CONTEXT: usize = 1_800;

/// `model` with other options: every second layer has a window, and layers have RoPE or not.
fn windowed(model: &MappedModel, window: usize, folder: &Path) -> MappedModel {
    let file = model.file().unwrap();
    let pattern = LayerPattern::new(file.config().layers, |layer| (layer != 1, layer % 2 == 0)).unwrap();
    let config = Config { context: CONTEXT, window, pattern, ..*file.config() };
    let mut bytes = file.bytes().to_vec();
    let mut sections: Vec<_> = file.sections().collect();
    let section = sections.iter_mut().find(|section| section.kind == SectionKind::Config).unwrap();
    section.checksum = checksum(&config.emit());
    bytes[section.offset as usize..][..Config::LEN].copy_from_slice(&config.emit());
    let length = bytes.len() as u64;
    emit_header(config.version(), &sections, length, &mut bytes).unwrap();
    let path = folder.join(format!("window-{window}.thimble"));
    std::fs::write(&path, bytes).unwrap();
    MappedModel::read(&path).unwrap()
}

/// Long prompts, short and long rewinds, draws, keys and values kept in a file: every logit that was shown, and the bytes of
/// the file. Ends before the file is read if there is none, because the cache is not the CPU's.
fn stroll(file: &ModelFile<'_>, hybrid: Hybrid<'_, SingleThread>) -> (Vec<u32>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    let mut kept = KvFile::new(&path);
    let vocab = file.config().vocab.min(40);
    let sampling = Sampling { temperature: 1.0, seed: 5, ..Sampling::default() };
    let mut sampler = Sampler::new(sampling).unwrap();
    let mut session = Session::new(hybrid);
    let mut shown = Vec::new();
    let mut next = 1;
    let mut run = |session: &mut Session<Hybrid<'_, SingleThread>>, prompt: usize, drawn: usize| {
        let tokens: Vec<Token> = (0..prompt)
            .map(|_| {
                next = next * 75 % 65_537;
                Token((next % vocab) as u32)
            })
            .collect();
        session.prefill(&tokens).unwrap();
        for _ in 0..drawn {
            let token = session.sample(&mut sampler);
            session.prefill(&[token]).unwrap();
        }
        shown.extend(session.tokens_and_logits().1.iter().map(|x| x.to_bits()));
    };
    // Where the positions that a layer keeps are exceeded, and where they are not.
    for (back, prompt, drawn) in [
        (0, 700, 3),
        (0, 40, 30),
        (20, 33, 0),
        (0, 500, 9),
        (1, 1, 4),
        (90, 35, 2),
        (1_100, 50, 3),
        (0, 900, 20),
        (300, 5, 5),
        (800, 1, 1),
        (0, 1_000, 1),
    ] {
        session.rewind(session.position() - back).unwrap();
        run(&mut session, prompt, drawn);
    }
    kept.save(file, &mut session).unwrap();
    let Ok(bytes) = std::fs::metadata(&path).map(|file| file.len() as usize) else { return (shown, 0) };
    // What was lost to the file is computed again.
    for back in [0, 2, 200] {
        kept.restore(file, &mut session).unwrap();
        assert_eq!(session.position() % CHUNK, 0);
        session.rewind(session.position() - back).unwrap();
        run(&mut session, 7, 3);
    }
    run(&mut session, 40, 3);
    (shown, bytes)
}

#[test]
fn windows_do_not_change_a_bit() {
    for ((folder, model), window) in models().into_iter().zip([3, 100, 64]) {
        let model = windowed(&model, window, folder.path());
        let file = model.file().unwrap();
        for kv in [KvKind::F32, KvKind::F16, KvKind::Q8] {
            let mut bench = Bench::with_context(&file, kv, CONTEXT);
            let expected = stroll(&file, bench.hybrid(&file, None));
            let config = file.config();
            // Layers with a window save the chunks that it reaches.
            let width = 2 * config.kv_heads * config.head_dim.next_multiple_of(16) * kv.bytes();
            let all = 1_024 * (4 + config.layers * width);
            assert!(expected.1 < all, "{} bytes, {all} for all layers", expected.1);
            for kind in KINDS {
                for (opaque, draws, lost_at) in
                    [(false, false, None), (true, false, None), (false, true, None), (false, true, Some(40))]
                {
                    let habits = Habits { opaque, draws, lost_at, ..Habits::default() };
                    let hybrid = bench.hybrid(&file, Some((kind, habits)));
                    let (shown, bytes) = stroll(&file, hybrid);
                    assert!(bytes == expected.1 || bytes == 0 && (opaque || lost_at.is_some()));
                    assert!(
                        shown == expected.0[..shown.len()] && (bytes == 0 || shown.len() == expected.0.len()),
                        "a window of {window}, {kv:?}, {kind}, {opaque}, {draws}, {lost_at:?}"
                    );
                    assert!(told().len() <= usize::from(lost_at.is_some()));
                }
            }
        }
    }
}
