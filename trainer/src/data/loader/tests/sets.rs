//! Which sets are drawn from, and which are refused.

use super::*;

#[test]
fn the_realised_mixture_is_the_recipes() {
    let (_sets, recipe) = two_sets();
    let mut loader = Loader::open(&recipe).unwrap();
    assert!(loader.drawn_shares().is_empty());
    let from_a = |batch: &TrainingBatch| {
        let rows = batch.ids.chunks(batch.context + 1);
        rows.filter(|row| row.iter().all(|id| *id < 20_000)).count()
    };
    let drawn: usize = (0..100).map(|_| from_a(&draw(&mut loader, 0, 100, 8))).sum();
    // 10,000 draws at 0.75: standard deviation 43.
    assert!(drawn.abs_diff(7500) < 220, "{drawn}");
    let realised = loader.drawn_shares();
    assert_eq!(realised["a"], drawn as f64 / 10_000.0);
    assert!((realised["a"] + realised["b"] - 1.0).abs() < 1e-12);
    let position = loader.position();
    assert_eq!((position.sets["a"].windows, position.sets["a"].tokens), (drawn as u64, 8 * drawn as u64));
    // Neighbouring draws do not depend on each other, and another stage counts anew.
    let draws: Vec<usize> = (0..10_000).map(|sample| loader.draw(0, sample)).collect();
    let pairs = draws.windows(2).filter(|pair| pair == &[1, 1]).count();
    assert!(pairs.abs_diff(625) < 130, "{pairs}");
    draw(&mut loader, 1, 1, 24);
    assert_eq!(loader.drawn_shares().values().filter(|share| **share == 1.0).count(), 1);
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
    let mut batch = TrainingBatch::default();
    loader.next(0, 1, 5, &mut batch).unwrap();
    let error = loader.next(0, 1, 5, &mut batch).unwrap_err().to_string();
    assert!(error.contains("id 50000 at position 2") && error.contains("document 0 token 5 to"), "{error}");
    assert!(loader.next(0, 0, 5, &mut batch).is_err() && loader.next(7, 1, 5, &mut batch).is_err());
}
