//! Token sets and recipes for the tests of the loader.

mod positions;
mod sets;
mod windows;

use super::*;
use crate::data::token_set::{SetOptions, TokenSetWriter};
use std::path::PathBuf;

/// The id that ends documents in these tests.
const END: u32 = 0;

/// A folder of token sets, gone with the test.
struct Sets {
    folder: tempfile::TempDir,
}

impl Sets {
    fn new() -> Sets {
        Sets { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a set; shards close after 50 tokens, so that windows cross them.
    fn write(&self, name: &str, tokenizer: &str, vocab: u32, documents: &[Vec<u32>]) {
        self.write_shards(name, tokenizer, vocab, 50, documents);
    }

    fn write_shards(
        &self,
        name: &str,
        tokenizer: &str,
        vocab: u32,
        shard_tokens: u64,
        documents: &[Vec<u32>],
    ) {
        let file = self.path(&format!("{tokenizer}.json"));
        std::fs::write(&file, tokenizer).unwrap();
        let options = SetOptions { tokenizer: file, vocab, end_of_document: END, shard_tokens };
        let mut writer = TokenSetWriter::create(&self.path(name), &options).unwrap();
        for document in documents {
            writer.push(document).unwrap();
        }
        writer.finish(Vec::new(), None).unwrap();
    }

    fn recipe(&self, sets: &[&str], stages: &str) -> TrainingRecipe {
        let sets: String = sets.iter().map(|set| format!("{set} = {:?}\n", self.path(set))).collect();
        let text = format!(
            "name = \"test\"\nseed = 5\n[model]\nhidden = 8\nlayers = 1\nheads = 1\nkv_heads = 1\nffn = 8\n\
             vocab = 40000\ncontext = 64\n[data.sets]\n{sets}{stages}"
        );
        TrainingRecipe::parse(&text, "test", &[]).unwrap()
    }
}

fn stage(name: &str, length: &str, context: usize, mixture: &str) -> String {
    format!(
        "[[stages]]\nname = \"{name}\"\nlength = {{ {length} }}\ncontext = {context}\nmicro_batch = 2\n\
         mixture = {{ {mixture} }}\nschedule = {{ kind = \"constant\", peak = 1.0 }}\n"
    )
}

/// Documents whose ids are all different: `count` of them, of 1 to 13 ids and the one that ends them.
fn different(count: u32, from: u32) -> Vec<Vec<u32>> {
    let mut next = from;
    let document = |index: u32| {
        let len = 1 + (index * 7) % 13;
        next += len;
        (next - len..next).collect()
    };
    (0..count).map(document).collect()
}

fn draw(loader: &mut Loader, stage: usize, sequences: usize, context: usize) -> TrainingBatch {
    let mut batch = TrainingBatch::default();
    loader.next(stage, sequences, context, &mut batch).unwrap();
    batch
}

/// The stream that consecutive windows of one set spell: every window's inputs, and the last one's last target.
fn spell(batches: &[TrainingBatch]) -> Vec<u32> {
    let mut stream: Vec<u32> = Vec::new();
    for batch in batches {
        for row in batch.ids.chunks(batch.context + 1) {
            assert!(stream.last().is_none_or(|last| *last == row[0]), "windows overlap by one token");
            stream.pop();
            stream.extend(row);
        }
    }
    stream
}

fn one_set() -> (Sets, TrainingRecipe) {
    let sets = Sets::new();
    sets.write("train", "a", 40_000, &different(40, 1));
    let recipe = sets.recipe(&["train"], &stage("one", "epochs = 3", 10, "train = 1"));
    (sets, recipe)
}

fn two_sets() -> (Sets, TrainingRecipe) {
    let sets = Sets::new();
    sets.write("a", "t", 40_000, &different(60, 1));
    sets.write("b", "t", 40_000, &different(25, 20_000));
    let stages =
        stage("one", "steps = 50", 8, "a = 3, b = 1") + &stage("two", "steps = 50", 24, "a = 1, b = 1");
    let recipe = sets.recipe(&["a", "b"], &stages);
    (sets, recipe)
}
