//! Heads that are the embedding or are not, whatever config.json says, and the names of a bare `LlamaModel`.

use super::refusals::names;
use super::tiny::{Aligned, Folder, GgufFile, ODD, Shape, float_bytes};
use super::{run_folder, run_gguf};
use serde_json::json;
use thimble_converter::pack::unpack;
use thimble_converter::{BlockType, Quant};
use thimble_runtime::format::{ModelFile, TensorRole};

const HEAD: &str = "lm_head.weight";

/// Numbers of the head that a file computes with, and whether it is the embedding.
fn head(bytes: &[u8]) -> (Vec<f32>, bool) {
    let aligned = Aligned::new(bytes);
    let file = ModelFile::parse(aligned.bytes()).unwrap();
    let tied = file.config().tied;
    let role = if tied { TensorRole::Embedding } else { TensorRole::Head };
    let record = file.tensors().iter().find(|record| record.role == role).unwrap();
    let (rows, columns) = (record.rows as usize, record.columns as usize);
    (unpack(record.encoding, file.tensor_bytes(&record), rows, columns).unwrap(), tied)
}

fn values(folder: &Folder, name: &str) -> Vec<f32> {
    let (_, kind, _, bytes) = folder.tensors.iter().find(|tensor| tensor.0 == name).unwrap();
    let mut values = vec![0.0; bytes.len() / kind.block_bytes()];
    thimble_converter::dequantize(*kind, bytes, &mut values);
    values
}

/// A folder that says it is tied, with a head all the same: the embedding as `kind`, the last number times `factor`.
fn with_head(kind: BlockType, factor: f32) -> Folder {
    let mut folder = Folder::new(ODD, BlockType::F32);
    let mut head = values(&folder, "model.embed_tokens.weight");
    *head.last_mut().unwrap() *= factor;
    folder.tensors.push((HEAD.into(), kind, vec![ODD.vocab, ODD.hidden], float_bytes(kind, &head)));
    folder
}

#[test]
fn a_head_that_differs_is_kept_although_the_model_says_tied() {
    for kind in [BlockType::F32, BlockType::BF16, BlockType::F16] {
        for shards in [1, 2] {
            let folder = with_head(kind, -2.0);
            let (summary, bytes) = run_folder(&folder, shards, Quant::F32).unwrap();
            let (found, tied) = head(&bytes);
            assert!(!tied && found == values(&folder, HEAD), "{kind}: not the head of the file");
            assert!(summary.notes[0].contains("lm_head.weight kept: it differs"), "{:?}", summary.notes);

            // The same numbers are the same head, however they are stored.
            let folder = with_head(kind, 1.0);
            let (summary, bytes) = run_folder(&folder, shards, Quant::F32).unwrap();
            let (found, tied) = head(&bytes);
            assert!(tied && found == values(&folder, HEAD), "{kind}");
            assert!(summary.notes[0].contains("lm_head.weight left out"), "{:?}", summary.notes);
        }
    }
    let mut folder = with_head(BlockType::F32, 1.0);
    let last = folder.tensors.last_mut().unwrap();
    last.2 = vec![ODD.vocab - 1, ODD.hidden];
    last.3.truncate((ODD.vocab - 1) * ODD.hidden * 4);
    names(run_folder(&folder, 1, Quant::Keep), &[HEAD, "299", "300"]);
}

#[test]
fn a_tied_model_may_hold_the_head_alone() {
    let mut folder = with_head(BlockType::F32, 3.0);
    let expected = values(&folder, HEAD);
    folder.tensors.retain(|tensor| tensor.0 != "model.embed_tokens.weight");
    let (summary, bytes) = run_folder(&folder, 1, Quant::Keep).unwrap();
    assert!(head(&bytes) == (expected, true));
    assert!(summary.notes[0].contains("lm_head.weight is the embedding too"), "{:?}", summary.notes);
}

#[test]
fn the_head_of_a_gguf_file_is_its_own_where_there_is_one() {
    for tied in [true, false] {
        let shape = Shape { tied, ..ODD };
        let file = GgufFile::new(shape, BlockType::F32, |spec| float_bytes(BlockType::F32, &spec.values()));
        let bytes = run_gguf(&file, Quant::Keep).unwrap().1;
        let name = if tied { "token_embd.weight" } else { "output.weight" };
        let spec = shape.tensors().into_iter().find(|spec| spec.gguf == name).unwrap();
        assert!(head(&bytes) == (spec.values(), tied));
    }
}

#[test]
fn tensors_of_a_bare_model_are_found_under_their_short_names() {
    for tied in [true, false] {
        let whole = Folder::new(Shape { tied, ..ODD }, BlockType::F32);
        let expected = run_folder(&whole, 1, Quant::Keep).unwrap().1;
        let expected = Aligned::new(&expected);
        let expected = ModelFile::parse(expected.bytes()).unwrap();
        // Without the prefix, with it, with two, and by turns.
        for (architecture, prefixes) in [
            ("LlamaModel", ["", ""]),
            ("LlamaModel", ["model.", "model."]),
            ("LlamaForCausalLM", ["", ""]),
            ("LlamaForCausalLM", ["model.model.", "model.model."]),
            ("LlamaForCausalLM", ["", "model."]),
        ] {
            let mut folder = Folder::new(Shape { tied, ..ODD }, BlockType::F32);
            folder.config["architectures"] = json!([architecture]);
            for (index, tensor) in folder.tensors.iter_mut().enumerate() {
                if let Some(rest) = tensor.0.strip_prefix("model.") {
                    tensor.0 = format!("{}{rest}", prefixes[index % 2]);
                }
            }
            let found = run_folder(&folder, 2, Quant::Keep).unwrap().1;
            let found = Aligned::new(&found);
            let found = ModelFile::parse(found.bytes()).unwrap();
            assert_eq!(found.config(), expected.config(), "{architecture} {prefixes:?}");
            for (a, b) in found.tensors().iter().zip(expected.tensors().iter()) {
                assert_eq!(found.tensor_bytes(&a), expected.tensor_bytes(&b), "{prefixes:?} {}", a.role);
            }
        }
    }
    let mut headless = Folder::new(ODD, BlockType::F32);
    headless.config["architectures"] = json!(["LlamaModel"]);
    headless.config["tie_word_embeddings"] = json!(false);
    names(run_folder(&headless, 1, Quant::Keep), &[HEAD, "missing", "tie_word_embeddings to true"]);
    let mut twice = Folder::new(ODD, BlockType::F32);
    let norm = twice.tensors.iter().find(|tensor| tensor.0 == "model.norm.weight").unwrap().clone();
    twice.tensors.push(("norm.weight".into(), norm.1, norm.2, norm.3));
    names(run_folder(&twice, 1, Quant::Keep), &["model.norm.weight", "twice"]);
}
