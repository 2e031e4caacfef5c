//! GGUF models in several files, and versions of the container.

use super::refusals::names;
use super::tiny::{Aligned, BLOCKS, GgufFile, Meta, Shape, random_blocks};
use super::{run, temporary};
use std::fs;
use std::path::{Path, PathBuf};
use thimble_converter::{BlockType, Quant, read};
use thimble_needs::Need;
use thimble_runtime::format::ModelFile;

/// With a head of its own, which lies in the last part.
fn whole() -> GgufFile {
    let kind = BlockType::Q8_0;
    GgufFile::new(Shape { tied: false, ..BLOCKS }, kind, |spec| random_blocks(kind, spec))
}

/// The parts as `llama-gguf-split` makes them: only the first has the metadata.
fn parts(file: &GgufFile, count: usize) -> Vec<GgufFile> {
    let each = file.tensors.len().div_ceil(count);
    let part = |number: usize| {
        let metadata = if number == 0 { file.metadata.clone() } else { Vec::new() };
        let tensors = file.tensors.iter().skip(number * each).take(each).cloned().collect();
        let mut part = GgufFile { metadata, tensors };
        part.set("split.no", Meta::U16(number as u16));
        part.set("split.count", Meta::U16(count as u16));
        part.set("split.tensors.count", Meta::I32(file.tensors.len() as i32));
        part
    };
    (0..count).map(part).collect()
}

fn path(folder: &Path, number: usize, count: usize) -> PathBuf {
    folder.join(format!("tiny-q8-{number:05}-of-{count:05}.gguf"))
}

fn write(folder: &Path, parts: &[GgufFile]) {
    for (number, part) in (1..).zip(parts) {
        fs::write(path(folder, number, parts.len()), part.bytes()).unwrap();
    }
}

#[test]
fn every_part_of_a_split_model_stands_for_all() {
    let folder = temporary();
    fs::write(folder.path().join("whole.gguf"), whole().bytes()).unwrap();
    let expected = run(&folder.path().join("whole.gguf"), Quant::Keep).unwrap().1;
    let expected = Aligned::new(&expected);
    let expected = ModelFile::parse(expected.bytes()).unwrap();
    for count in [2, 3, 30] {
        write(folder.path(), &parts(&whole(), count));
        let all =
            [1, 2, count].map(|number| run(&path(folder.path(), number, count), Quant::Keep).unwrap().1);
        assert!(all[0] == all[1] && all[0] == all[2], "{count} parts: it matters which one is named");
        let found = Aligned::new(&all[0]);
        let found = ModelFile::parse(found.bytes()).unwrap();
        assert_eq!(found.config(), expected.config());
        assert!(!found.config().tied);
        for (a, b) in found.tensors().iter().zip(expected.tensors().iter()) {
            assert_eq!(found.tensor_bytes(&a), expected.tensor_bytes(&b), "{} {}", a.role, a.layer);
        }
    }
    let mut files = read::shards(&path(folder.path(), 2, 3));
    assert_eq!(files.remove(1), path(folder.path(), 2, 3));
    assert_eq!(files, [1, 3].map(|number| path(folder.path(), number, 3)));
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let folder = temporary();
    let at = |number| path(folder.path(), number, 3);
    let good = parts(&whole(), 3);
    let refused = |expected: &[&str]| names(run(&at(2), Quant::Keep), expected);
    for gone in [1, 3] {
        write(folder.path(), &good);
        fs::remove_file(at(gone)).unwrap();
        refused(&["3 parts", "missing", &at(gone).display().to_string(), "one folder"]);
    }

    let with = |number: usize, change: &dyn Fn(&mut GgufFile)| {
        let mut parts = good.clone();
        change(&mut parts[number - 1]);
        write(folder.path(), &parts);
    };
    with(3, &|part| part.set("split.no", Meta::U16(1)));
    refused(&["00003-of-00003", "expected part 3 of 3", "found part 2 of 3"]);
    with(1, &|part| part.set("split.count", Meta::U16(4)));
    refused(&["00001-of-00003", "part 1 of 4"]);
    with(1, &|part| part.set("split.tensors.count", Meta::I32(7)));
    refused(&["00001-of-00003", "a model of 7 tensors"]);
    with(3, &|part| part.metadata.clear());
    refused(&["00003-of-00003", "found a whole model"]);
    with(2, &|part| part.set("split.no", Meta::U16(3)));
    refused(&["split.no is 3"]);
    with(2, &|part| part.metadata.retain(|(key, _)| key != "split.no"));
    refused(&["split.no is missing"]);
    with(2, &|part| part.set("split.count", Meta::Text("3".into())));
    refused(&["split.count is not a whole number"]);
    with(3, &|part| part.tensors.push(good[0].tensors[0].clone()));
    refused(&["00003-of-00003", &good[0].tensors[0].0, "another part"]);
    with(3, &|part| drop(part.tensors.pop()));
    refused(&["20 tensors", "split.tensors.count is 21"]);
    with(3, &|_| {});
    fs::write(at(1), b"GGUF").unwrap();
    refused(&["00001-of-00003", "truncated"]);

    // A part under another name: the others cannot be found.
    write(folder.path(), &good);
    let renamed = folder.path().join("model.gguf");
    fs::rename(at(1), &renamed).unwrap();
    names(run(&renamed, Quant::Keep), &["model.gguf", "part 1 of 3", "NAME-00001-of-00003.gguf"]);
    // One file that was split into one.
    let mut one = whole();
    one.set("split.count", Meta::U16(1));
    fs::write(&renamed, one.bytes()).unwrap();
    run(&renamed, Quant::Keep).unwrap();
}

#[test]
fn a_shared_split_model_without_its_second_part_is_refused() {
    let Some(shared) = thimble_needs::shared() else { return };
    let first = shared.join("cases/split_gguf_head_in_second_shard/g_split-00001-of-00002.gguf");
    if !first.is_file() {
        return thimble_needs::skip(Need::Shared, "it holds no split GGUF model");
    }
    names(run(&first, Quant::Keep), &["2 parts", "g_split-00002-of-00002.gguf"]);
}

#[test]
fn versions_of_the_container() {
    let folder = temporary();
    let path = folder.path().join("tiny.gguf");
    let mut bytes = whole().bytes();
    fs::write(&path, &bytes).unwrap();
    let third = run(&path, Quant::Keep).unwrap().1;
    bytes[4] = 2;
    fs::write(&path, &bytes).unwrap();
    assert!(run(&path, Quant::Keep).unwrap().1 == third, "version 2 has the same layout");
    for (version, expected) in [
        ([1, 0, 0, 0], "version 1 was replaced"),
        ([0, 0, 0, 3], "big-endian"),
        ([4, 0, 0, 0], "GGUF version 4, but versions 2 and 3"),
    ] {
        bytes[4..8].copy_from_slice(&version);
        fs::write(&path, &bytes).unwrap();
        names(run(&path, Quant::Keep), &["tiny.gguf", expected]);
    }
}
