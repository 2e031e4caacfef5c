//! Keys and values that one session saves and another one restores.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]
#![allow(dead_code, reason = "the tiny models have more to them")]

mod tiny;

use conformance::with_session;
use std::fs;
use std::path::{Path, PathBuf};
use thimble_converter::{BlockType, ConversionOptions, Quant, convert};
use thimble_files::MappedModel;
use thimble_host::{BackendKind, Generator, InferenceSettings, KvFile, KvFileError};
use thimble_runtime::Token;
use thimble_runtime::kernels::KvKind;
use tiny::{Folder, ODD};

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A tiny model: with other encodings it is another one.
    fn model(&self, quant: Quant) -> MappedModel {
        let (source, made) = (self.path("hf"), self.path(&format!("{quant:?}.thimble")));
        fs::create_dir_all(&source).unwrap();
        Folder::new(ODD, BlockType::F32).write(&source, 1);
        convert(&source, &made, &ConversionOptions { quant, ..ConversionOptions::default() }, &mut |_| {})
            .unwrap();
        MappedModel::read(&made).unwrap()
    }
}

fn tokens(count: u32) -> Vec<Token> {
    (0..count).map(|i| Token(3 + i * i % 200)).collect()
}

fn settings(kv: KvKind) -> InferenceSettings {
    InferenceSettings {
        kv: Some(kv),
        context: Some(200),
        backend: Some(BackendKind::Cpu),
        ..InferenceSettings::default()
    }
}

/// Bits of the logits behind one more token.
fn next(session: &mut Generator<'_>, token: Token) -> Vec<u32> {
    session.prefill(&[token]).unwrap();
    session.tokens_and_logits().1.iter().map(|logit| logit.to_bits()).collect()
}

/// Keeps so many tokens in `path`; what comes behind them.
fn kept(model: &MappedModel, kv: KvKind, path: &Path, count: u32) -> Vec<u32> {
    let file = model.file().unwrap();
    with_session(model, &settings(kv), |session| {
        session.prefill(&tokens(count)).unwrap();
        KvFile::new(path).save(&file, session).unwrap();
        next(session, Token(5))
    })
}

#[test]
fn another_session_goes_on_bit_for_bit() {
    let bench = Bench::new();
    let model = bench.model(Quant::Q8);
    let file = model.file().unwrap();
    for kv in [KvKind::F32, KvKind::F16, KvKind::Q8] {
        // Whole blocks of positions, and begun ones, which are computed again.
        for count in [64, 127, 130] {
            let path = bench.path("kept");
            let expected = kept(&model, kv, &path, count);
            with_session(&model, &settings(kv), |session| {
                session.prefill(&tokens(9)).unwrap();
                KvFile::new(&path).restore(&file, session).unwrap();
                let whole = count / 64 * 64;
                assert_eq!(session.tokens(), tokens(whole));
                assert!(session.tokens_and_logits().1.is_empty(), "nothing was computed yet");
                assert_eq!(session.reuse(&tokens(200)), whole as usize);
                if count > whole {
                    session.prefill(&tokens(count)[whole as usize..]).unwrap();
                }
                assert!(next(session, Token(5)) == expected, "{kv:?} {count}");
            });
        }
    }
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 3, "no partial file is left");
}

#[test]
fn what_is_not_worth_it_is_not_kept() {
    let bench = Bench::new();
    let model = bench.model(Quant::Q8);
    let path = bench.path("kept");
    kept(&model, KvKind::F16, &path, 63);
    assert!(!path.exists());
    let file = model.file().unwrap();
    with_session(&model, &settings(KvKind::F16), |session| {
        KvFile::new(&path).restore(&file, session).unwrap();
        assert_eq!(session.position(), 0, "without a file nothing is restored");
        // What is in the file already is not written again.
        session.prefill(&tokens(70)).unwrap();
        let mut kept = KvFile::new(&path);
        kept.save(&file, session).unwrap();
        fs::remove_file(&path).unwrap();
        kept.save(&file, session).unwrap();
        assert!(!path.exists());
        session.prefill(&tokens(57)).unwrap();
        kept.save(&file, session).unwrap();
        assert!(!path.exists(), "127 tokens are no more whole blocks than 70");
        session.prefill(&tokens(1)).unwrap();
        kept.save(&file, session).unwrap();
        assert!(path.exists());
    });
}

#[test]
fn nothing_is_left_of_what_was_cleared_or_not_finished() {
    let bench = Bench::new();
    let model = bench.model(Quant::Q8);
    let file = model.file().unwrap();
    let (path, partial) = (bench.path("kept"), bench.path("kept.partial"));
    let write = |first: u32| {
        with_session(&model, &settings(KvKind::F16), |session| {
            session.prefill(&(0..150).map(|i| Token(first + i % 90)).collect::<Vec<_>>()).unwrap();
            session.rewind(0).unwrap();
            session.prefill(&tokens(70)).unwrap();
            KvFile::new(&path).save(&file, session).unwrap();
        });
        fs::read(&path).unwrap()
    };
    assert!(write(3) == write(100), "no position of the conversation before is in the file");
    // A process that was killed while it wrote: the next one writes there, or removes it.
    fs::write(&partial, vec![7; 1 << 20]).unwrap();
    write(3);
    assert!(!partial.exists());
    fs::write(&partial, "half").unwrap();
    KvFile::new(&path).remove().unwrap();
    assert!(!partial.exists() && !path.exists());
    // Another one that is writing.
    let other = fs::File::create(&partial).unwrap();
    other.lock().unwrap();
    with_session(&model, &settings(KvKind::F16), |session| {
        session.prefill(&tokens(70)).unwrap();
        let mut kept = KvFile::new(&path);
        kept.save(&file, session).unwrap();
        assert!(!path.exists());
        drop(other);
        kept.save(&file, session).unwrap();
        assert!(path.exists());
    });
}

#[test]
fn a_file_of_another_kind_stays() {
    let bench = Bench::new();
    let model = bench.model(Quant::Q8);
    let file = model.file().unwrap();
    with_session(&model, &settings(KvKind::F16), |session| {
        session.prefill(&tokens(70)).unwrap();
        for text in ["", "{}", "{\"a journal\": 1}"] {
            let path = bench.path("journal");
            fs::write(&path, text).unwrap();
            let mut kept = KvFile::new(&path);
            assert!(matches!(kept.save(&file, session), Err(KvFileError::OtherFile(_))));
            kept.remove().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let path = bench.path("kept");
        let mut kept = KvFile::new(&path);
        kept.save(&file, session).unwrap();
        kept.remove().unwrap();
        assert!(!path.exists());
        kept.remove().unwrap();
        kept.save(&file, session).unwrap();
        assert!(path.exists(), "what was forgotten is not taken to be in the file");
    });
}

#[test]
fn files_of_other_sessions_and_damaged_ones_are_refused() {
    let bench = Bench::new();
    let (model, other) = (bench.model(Quant::Q8), bench.model(Quant::Q4));
    let path = bench.path("kept");
    let expected = kept(&model, KvKind::Q8, &path, 100);
    let good = fs::read(&path).unwrap();
    let same = settings(KvKind::Q8);
    let take = |model: &MappedModel, asked: &InferenceSettings| {
        let file = model.file().unwrap();
        with_session(model, asked, |session| {
            session.prefill(&tokens(3)).unwrap();
            let taken = KvFile::new(&path).restore(&file, session);
            if taken.is_err() {
                assert!([0, 3].contains(&session.position()));
            }
            if matches!(taken, Err(KvFileError::Io { .. } | KvFileError::Damaged(_))) {
                // Whatever was read of it does not matter.
                session.rewind(0).unwrap();
                session.prefill(&tokens(100)).unwrap();
                assert!(next(session, Token(5)) == expected);
            }
            taken
        })
    };
    take(&model, &same).unwrap();
    assert!(matches!(take(&other, &same), Err(KvFileError::OtherModel(_))));
    assert!(matches!(take(&model, &settings(KvKind::F16)), Err(KvFileError::OtherModel(_))));
    let exact = InferenceSettings { exact: true, ..same };
    assert!(matches!(take(&model, &exact), Err(KvFileError::OtherModel(_))));
    let short = InferenceSettings { context: Some(64), ..same };
    assert!(matches!(take(&model, &short), Err(KvFileError::Session(_))));
    for length in [0, 1, 39, 40, 200, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        assert!(matches!(take(&model, &same), Err(KvFileError::Io { .. })), "{length} bytes");
    }
    for at in (0..good.len()).step_by(good.len() / 97) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        fs::write(&path, bad).unwrap();
        assert!(take(&model, &same).is_err(), "byte {at}");
    }
}
