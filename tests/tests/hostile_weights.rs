//! Weights may be any bits: what a hostile file makes of a forward pass is some text, never a panic.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

mod tiny;

use std::fs;
use thimble_converter::{BlockType, ConversionOptions, Quant, convert};
use thimble_files::MappedModel;
use thimble_host::{InferencePlan, InferenceSettings, KernelKind, SpinPool, generator};
use thimble_runtime::Token;
use thimble_runtime::format::{ModelFile, SectionKind};
use thimble_runtime::kernels::KvKind;
use thimble_runtime::sampler::{Candidate, Sampler, Sampling};
use tiny::{Aligned, BLOCKS, Folder, Random};

/// Numbers that arithmetic stumbles over, as 32 bits and as two halves.
const ODD_NUMBERS: [u32; 6] = [0x7FC0_0000, 0x7F80_0000, 0xFF80_0000, 0x7C00_FC00, 0x7E00_7BFF, 0x0000_0001];

/// A good file.
fn converted(quant: Quant) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    Folder::new(BLOCKS, BlockType::F32).write(folder.path(), 1);
    let path = folder.path().join("good.thimble");
    let options = ConversionOptions { quant, ..ConversionOptions::default() };
    convert(folder.path(), &path, &options, &mut |_| ()).unwrap();
    fs::read(path).unwrap()
}

/// Replaces the weights: by random bits with odd numbers between them, or by one word everywhere.
fn spoil(file: &mut [u8], fill: Option<u32>) {
    let aligned = Aligned::new(file);
    let parsed = ModelFile::parse(aligned.bytes()).unwrap();
    let weights = parsed.sections().find(|section| section.kind == SectionKind::Tensors).unwrap().length;
    let start = file.len() - weights as usize;
    let mut random = Random(7);
    for word in file[start..].as_chunks_mut::<4>().0 {
        let odd = ODD_NUMBERS[random.below(ODD_NUMBERS.len())];
        let any = if random.below(8) == 0 { odd } else { random.next() as u32 };
        *word = fill.unwrap_or(any).to_le_bytes();
    }
}

#[test]
fn any_weights_give_some_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.thimble");
    for quant in Quant::ALL.into_iter().filter(|&quant| quant != Quant::Keep) {
        let mut file = converted(quant);
        for fill in [None, Some(ODD_NUMBERS[0]), Some(ODD_NUMBERS[1]), Some(ODD_NUMBERS[3])] {
            spoil(&mut file, fill);
            fs::write(&path, &file).unwrap();
            let model = MappedModel::read(&path).unwrap();
            for kernels in KernelKind::ALL {
                if kernels.kernels().is_err() {
                    continue;
                }
                talk(&model, kernels, KvKind::F16, false);
                talk(&model, kernels, KvKind::Q8, false);
                talk(&model, kernels, KvKind::F32, true);
            }
        }
    }
}

/// A prompt and some tokens; what they are does not matter.
fn talk(model: &MappedModel, kernels: KernelKind, kv: KvKind, exact: bool) {
    let file = model.file().unwrap();
    let settings = InferenceSettings {
        kernels: Some(kernels),
        kv: Some(kv),
        exact,
        threads: Some(1),
        ..InferenceSettings::default()
    };
    let plan = InferencePlan::new(file.config(), &settings).unwrap();
    let (mut memory, pool) = (plan.allocate().unwrap(), SpinPool::new(1).unwrap());
    let mut session = generator(&file, &plan, &mut memory, &pool).unwrap();
    let vocab = file.config().vocab;
    let mut candidates = vec![Candidate::default(); vocab];
    let sampling =
        Sampling { temperature: 1.0, top_p: Some(0.9), repetition_penalty: 1.1, ..Sampling::default() };
    let mut sampler = Sampler::new(sampling).unwrap();
    session.prefill(&[Token(1), Token(2), Token(3), Token(4), Token(5)]).unwrap();
    for _ in 0..3 {
        let (history, logits) = session.tokens_and_logits();
        let token = sampler.sample(logits, history, &mut candidates);
        assert!(token.index() < vocab);
        session.prefill(&[token]).unwrap();
    }
}
