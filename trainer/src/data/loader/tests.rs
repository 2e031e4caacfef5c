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

fn draw(loader: &mut Loader, stage: usize, sequences: usize, context: usize) -> Batch {
    let mut batch = Batch::default();
    loader.next(stage, sequences, context, &mut batch).unwrap();
    batch
}

/// The stream that consecutive windows of one set spell: every window's inputs, and the last one's last target.
fn spell(batches: &[Batch]) -> Vec<u32> {
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

#[test]
fn each_epoch_has_every_token_once_as_a_target_in_whole_documents_and_another_order() {
    let (_sets, recipe) = one_set();
    let documents = different(40, 1);
    let tokens: usize = documents.iter().map(|document| document.len() + 1).sum();
    let mut loader = Loader::open(&recipe).unwrap();
    assert_eq!(loader.epoch_tokens(0), tokens as u64);
    assert_eq!(loader.steps(0), (3 * tokens / 20) as u64);
    let batches: Vec<Batch> = (0..3 * tokens / 20 + 1).map(|_| draw(&mut loader, 0, 2, 10)).collect();
    let stream = spell(&batches);
    // Only the stream's first token is never a target.
    let mut orders = Vec::new();
    for epoch in stream.chunks(tokens).take(3) {
        let mut sorted = epoch.to_vec();
        sorted.sort_unstable();
        let mut expected: Vec<u32> = documents.iter().flat_map(|d| d.iter().copied().chain([END])).collect();
        expected.sort_unstable();
        assert_eq!(sorted, expected);
        let mut whole: Vec<Vec<u32>> = epoch.split(|id| *id == END).map(<[u32]>::to_vec).collect();
        assert_eq!(whole.pop(), Some(Vec::new()), "an epoch ends where a document ends");
        orders.push(whole.clone());
        whole.sort();
        assert_eq!(whole, documents);
    }
    assert!(orders[0] != orders[1] && orders[1] != orders[2] && orders[0] != documents);
}

#[test]
fn a_large_set_is_read_in_lanes_that_miss_nothing() {
    let sets = Sets::new();
    // 210,000 tokens, three lanes; a document's ids say which one it is and how far along.
    let documents: Vec<Vec<u32>> =
        (0..21).map(|d| (0..9999).map(|i| 1 + d * 1000 + i / 10).collect()).collect();
    sets.write_shards("train", "a", 40_000, 100_000, &documents);
    let recipe = sets.recipe(&["train"], &stage("one", "epochs = 2", 60, "train = 1"));
    let mut loader = Loader::open(&recipe).unwrap();
    assert_eq!(loader.position().sets["train"].lanes.len(), 3);
    let mut lanes = [const { Vec::new() }; 3];
    let mut fresh = Loader::open(&recipe).unwrap();
    for window in 0..2 * 210_000 / 60 + 6 {
        // Seeking on the way changes nothing, also where lanes are in different epochs.
        if window % 500 == 0 {
            fresh.seek(&loader.position()).unwrap();
        }
        let batch = draw(&mut loader, 0, 1, 60);
        assert_eq!(batch, draw(&mut fresh, 0, 1, 60));
        let lane: &mut Vec<u32> = &mut lanes[window % 3];
        assert!(
            lane.last().is_none_or(|last| *last == batch.ids[0]),
            "a lane's windows overlap by one token"
        );
        lane.pop();
        lane.extend(batch.ids);
    }
    let mut expected: Vec<u32> = documents.iter().flat_map(|d| d.iter().copied().chain([END])).collect();
    expected.sort_unstable();
    for epoch in 0..2 {
        let mut seen: Vec<u32> =
            lanes.iter().flat_map(|lane| lane.iter().skip(epoch * 70_000).take(70_000)).copied().collect();
        seen.sort_unstable();
        assert!(seen == expected, "epoch {epoch}");
    }
    // Neighbouring windows are of different documents.
    assert!(lanes[0][0] / 1000 != lanes[1][0] / 1000 && lanes[1][0] / 1000 != lanes[2][0] / 1000);
}

#[test]
fn another_seed_is_another_order_and_the_same_seed_the_same() {
    let (_sets, recipe) = one_set();
    let first =
        |seed: u64| draw(&mut Loader::open(&TrainingRecipe { seed, ..recipe.clone() }).unwrap(), 0, 4, 20);
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}

#[test]
fn document_start_is_the_place_in_the_row_where_the_document_began() {
    let sets = Sets::new();
    // Ids 11.., 21.., 31..: the first digit is the document.
    let documents = [vec![11, 12, 13], vec![21], vec![31, 32, 33, 34, 35, 36]];
    sets.write("train", "a", 100, &documents);
    let recipe = sets.recipe(&["train"], &stage("one", "steps = 9", 6, "train = 1"));
    let mut loader = Loader::open(&recipe).unwrap();
    let mut seen_inside = false;
    for _ in 0..20 {
        let batch = draw(&mut loader, 0, 2, 6);
        assert_eq!((batch.ids.len(), batch.document_start.len()), (14, 12));
        let rows = batch.ids.chunks(7).zip(batch.document_start.chunks(6));
        for (ids, starts) in rows {
            // By hand: a document begins behind each END.
            let mut expected = 0;
            for position in 0..6 {
                if position > 0 && ids[position - 1] == END {
                    expected = position as u32;
                }
                assert_eq!(starts[position], expected, "{ids:?} {starts:?}");
            }
            seen_inside |= starts[0] == 0 && ids[0] % 10 > 1;
        }
    }
    assert!(seen_inside, "some window begins within a document");
}

#[test]
fn validation_windows_are_the_files_order_without_shuffling() {
    let sets = Sets::new();
    sets.write("train", "a", 100, &[vec![11, 12, 13]]);
    sets.write("held", "a", 100, &[vec![11, 12, 13], vec![21], vec![31, 32, 33, 34, 35, 36]]);
    let validation = "[validation]\nset = \"held\"\nevery = 1\n";
    let recipe = sets
        .recipe(&["train", "held"], &format!("{validation}{}", stage("one", "steps = 9", 4, "train = 1")));
    let validation = Loader::open(&recipe).unwrap().validation().unwrap().unwrap();
    // 13 tokens: three windows of four, the last target being the thirteenth.
    assert_eq!((validation.windows(4, None).unwrap(), validation.windows(4, Some(2)).unwrap()), (3, 2));
    let mut batch = Batch::default();
    validation.fill(0, 3, 4, &mut batch).unwrap();
    assert_eq!(batch.ids, [11, 12, 13, 0, 21, 21, 0, 31, 32, 33, 33, 34, 35, 36, 0]);
    assert_eq!(batch.document_start, [0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0]);
    let all = batch.clone();
    validation.fill(2, 1, 4, &mut batch).unwrap();
    assert_eq!(batch.ids, all.ids[10..]);
    assert!(validation.fill(2, 2, 4, &mut batch).is_err());
    assert!(validation.windows(13, None).is_err());
    // A window longer than the held-out set is refused when it is opened.
    let long = TrainingRecipe { stages: vec![Stage { context: 16, ..recipe.stages[0].clone() }], ..recipe };
    let error = Loader::open(&long).unwrap().validation().err().unwrap().to_string();
    assert!(error.contains("13 tokens, too few for one window of 16"), "{error}");
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

#[test]
fn seek_goes_on_as_if_nothing_had_happened() {
    let (_sets, recipe) = two_sets();
    let steps = |step: usize| if step < 30 { (0, 2, 8) } else { (1, 1, 24) };
    let mut loader = Loader::open(&recipe).unwrap();
    let mut batches = Vec::new();
    let mut saved = Vec::new();
    for step in 0..60 {
        let json = serde_json::to_string(&loader.position()).unwrap();
        saved.push((json, loader.realised()));
        let (stage, sequences, context) = steps(step);
        batches.push(draw(&mut loader, stage, sequences, context));
    }
    let end = loader.position();
    assert!(end.sets.values().all(|set| set.lanes[0].epoch > 0), "the test crosses epochs: {end:?}");
    // From each position, by a fresh loader and by the old one going back.
    for (step, (json, realised)) in saved.iter().enumerate() {
        let position: LoaderPosition = serde_json::from_str(json).unwrap();
        let mut fresh = Loader::open(&recipe).unwrap();
        for loader in [&mut fresh, &mut loader] {
            loader.seek(&position).unwrap();
            assert_eq!(loader.realised(), *realised);
            for (later, expected) in batches.iter().enumerate().skip(step).take(4) {
                let (stage, sequences, context) = steps(later);
                assert_eq!(draw(loader, stage, sequences, context), *expected, "step {later} from {step}");
            }
        }
    }
}

#[test]
fn a_changed_context_loses_no_token_and_repeats_none() {
    let (_sets, recipe) = one_set();
    let mut loader = Loader::open(&recipe).unwrap();
    let contexts = [10, 10, 3, 64, 1, 1, 17, 40, 9];
    let changing: Vec<Batch> = contexts.iter().map(|context| draw(&mut loader, 0, 2, *context)).collect();
    let mut steady = Loader::open(&recipe).unwrap();
    let windows = 2 * contexts.iter().sum::<usize>() / 10;
    let steady: Vec<Batch> = (0..windows).map(|_| draw(&mut steady, 0, 1, 10)).collect();
    let (changing, steady) = (spell(&changing), spell(&steady));
    assert_eq!(changing[..steady.len()], steady);
    assert_eq!(changing.len(), 1 + 2 * contexts.iter().sum::<usize>());
}

#[test]
fn batches_do_not_depend_on_how_many_windows_are_asked_for_at_once() {
    let (_sets, recipe) = two_sets();
    let (mut whole, mut single) = (Loader::open(&recipe).unwrap(), Loader::open(&recipe).unwrap());
    let whole = draw(&mut whole, 0, 12, 8);
    let singles: Vec<u32> = (0..12).flat_map(|_| draw(&mut single, 0, 1, 8).ids).collect();
    assert_eq!(whole.ids, singles);
}

#[test]
fn the_realised_mixture_is_the_recipes() {
    let (_sets, recipe) = two_sets();
    let mut loader = Loader::open(&recipe).unwrap();
    assert!(loader.realised().is_empty());
    let from_a = |batch: &Batch| {
        let rows = batch.ids.chunks(batch.context + 1);
        rows.filter(|row| row.iter().all(|id| *id < 20_000)).count()
    };
    let drawn: usize = (0..100).map(|_| from_a(&draw(&mut loader, 0, 100, 8))).sum();
    // 10,000 draws at 0.75: standard deviation 43.
    assert!(drawn.abs_diff(7500) < 220, "{drawn}");
    let realised = loader.realised();
    assert_eq!(realised["a"], drawn as f64 / 10_000.0);
    assert!((realised["a"] + realised["b"] - 1.0).abs() < 1e-12);
    let position = loader.position();
    assert_eq!((position.sets["a"].windows, position.sets["a"].tokens), (drawn as u64, 8 * drawn as u64));
    // Neighbouring draws do not depend on each other, and another stage counts anew.
    let draws: Vec<usize> = (0..10_000).map(|sample| loader.draw(0, sample)).collect();
    let pairs = draws.windows(2).filter(|pair| pair == &[1, 1]).count();
    assert!(pairs.abs_diff(625) < 130, "{pairs}");
    draw(&mut loader, 1, 1, 24);
    assert_eq!(loader.realised().values().filter(|share| **share == 1.0).count(), 1);
    assert_eq!(loader.position().samples, 1);
}

#[test]
fn a_set_without_weight_is_not_opened() {
    let (sets, recipe) = two_sets();
    std::fs::remove_dir_all(sets.path("b")).unwrap();
    assert!(Loader::open(&recipe).is_err());
    let mut alone = recipe;
    for stage in &mut alone.stages {
        stage.mixture.insert("b".into(), 0.0);
    }
    let loader = Loader::open(&alone).unwrap();
    assert_eq!(loader.position().sets.len(), 1);
}

#[test]
fn sets_that_do_not_fit_are_refused_with_both_names() {
    let sets = Sets::new();
    sets.write("a", "one-tokenizer", 100, &[vec![1, 2, 3]]);
    sets.write("b", "another", 100, &[vec![1, 2, 3]]);
    sets.write("empty", "one-tokenizer", 100, &[]);
    sets.write("wide", "one-tokenizer", 50_000, &[vec![1, 2, 3]]);
    let said = |set: &str, length: &str| {
        let recipe = sets.recipe(&["a", set], &stage("one", length, 4, &format!("a = 1, {set} = 1")));
        Loader::open(&recipe).err().unwrap().to_string()
    };
    let error = said("b", "steps = 1");
    let hash = |name| TokenSet::open(&sets.path(name)).unwrap().tokenizer_hash().to_owned();
    assert!(error.contains("`a`") && error.contains("`b`"), "{error}");
    assert!(error.contains(&hash("a")) && error.contains(&hash("b")), "{error}");
    assert!(said("empty", "steps = 1").contains("empty"), "{}", said("empty", "steps = 1"));
    assert!(
        said("wide", "steps = 1").contains("50000 ids, the model 40000"),
        "{}",
        said("wide", "steps = 1")
    );
    assert!(said("missing", "steps = 1").contains("data.sets.missing: "));
    sets.write("small", "one-tokenizer", 100, &[vec![1]]);
    let error = said("small", "epochs = 1");
    assert!(error.contains("hold 6 tokens, a step takes 8"), "{error}");
}

#[test]
fn a_position_of_other_data_is_refused() {
    let (sets, recipe) = two_sets();
    let mut loader = Loader::open(&recipe).unwrap();
    draw(&mut loader, 0, 4, 8);
    let good = loader.position();
    let before = draw(&mut loader, 0, 1, 8);
    let changes: [fn(&mut LoaderPosition); 5] = [
        |p| p.stage = 9,
        |p| p.sets.get_mut("a").unwrap().set_tokens += 1,
        |p| p.sets.get_mut("a").unwrap().lanes[0].offset = 1 << 40,
        |p| p.sets.get_mut("a").unwrap().lanes.clear(),
        |p| {
            p.sets.insert("c".into(), SetPosition::default());
        },
    ];
    for change in changes {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(loader.seek(&bad).is_err(), "{bad:?}");
    }
    loader.seek(&good).unwrap();
    assert_eq!(draw(&mut loader, 0, 1, 8), before);
    // A later recipe may add a set.
    let mut fewer = good.clone();
    fewer.sets.remove("b");
    loader.seek(&fewer).unwrap();
    assert_eq!(loader.position().sets["b"].lanes[0].offset, 0);
    drop(sets);
}

#[test]
fn whereabouts_name_set_shard_documents_and_tokens() {
    let sets = Sets::new();
    sets.write("train", "a", 100, &[(1..60).collect(), (61..70).collect()]);
    let recipe = sets.recipe(&["train"], &stage("one", "steps = 9", 10, "train = 1"));
    let mut loader = Loader::open(&recipe).unwrap();
    assert_eq!(loader.whereabouts(), "no batch has been drawn yet");
    for _ in 0..10 {
        let offset = loader.position().sets["train"].lanes[0];
        let batch = draw(&mut loader, 0, 1, 10);
        let said = loader.whereabouts();
        let first = batch.ids[0];
        let (shard, token) = if first > 60 { (1, first - 61) } else { (0, first.max(1) - 1) };
        if first != END {
            let place = format!("shard-0000{shard}.tokens document 0 token {token} to ");
            assert!(said.contains(&place), "{said} {place}");
        }
        let start = format!("set `train`, epoch {} at token {}, ", offset.epoch, offset.offset);
        assert!(said.starts_with("stage `one`, samples ") && said.contains(&start), "{said} {start}");
    }
}

#[test]
fn an_id_beyond_the_models_vocabulary_is_refused_with_its_place() {
    let sets = Sets::new();
    sets.write("train", "a", 100, &[(1..60).collect()]);
    // Damage one id in the shard: 64 bytes of header, two bytes per id.
    let shard = sets.path("train").join("shard-00000.tokens");
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[64 + 2 * 7..][..2].copy_from_slice(&50_000u16.to_le_bytes());
    std::fs::write(&shard, bytes).unwrap();
    let recipe = sets.recipe(&["train"], &stage("one", "steps = 9", 5, "train = 1"));
    let mut loader = Loader::open(&recipe).unwrap();
    let mut batch = Batch::default();
    loader.next(0, 1, 5, &mut batch).unwrap();
    let error = loader.next(0, 1, 5, &mut batch).unwrap_err().to_string();
    assert!(error.contains("id 50000 at position 2") && error.contains("document 0 token 5 to"), "{error}");
    assert!(loader.next(0, 0, 5, &mut batch).is_err() && loader.next(7, 1, 5, &mut batch).is_err());
}
