//! Saving and restoring the place in the data.

use super::*;

#[test]
fn seek_goes_on_as_if_nothing_had_happened() {
    let (_sets, recipe) = two_sets();
    let steps = |step: usize| if step < 30 { (0, 2, 8) } else { (1, 1, 24) };
    let mut loader = Loader::open(&recipe).unwrap();
    let mut batches = Vec::new();
    let mut saved = Vec::new();
    for step in 0..60 {
        let json = serde_json::to_string(&loader.position()).unwrap();
        saved.push((json, loader.drawn_shares()));
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
            assert_eq!(loader.drawn_shares(), *realised);
            for (later, expected) in batches.iter().enumerate().skip(step).take(4) {
                let (stage, sequences, context) = steps(later);
                assert_eq!(draw(loader, stage, sequences, context), *expected, "step {later} from {step}");
            }
        }
    }
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
fn the_last_batch_is_described_by_set_shard_documents_and_tokens() {
    let sets = Sets::new();
    sets.write("train", "a", 100, &[(1..60).collect(), (61..70).collect()]);
    let recipe = sets.recipe(&["train"], &stage("one", "steps = 9", 10, "train = 1"));
    let mut loader = Loader::open(&recipe).unwrap();
    assert!(loader.last_rows().is_empty());
    for sample in 0..10 {
        let offset = loader.position().sets["train"].lanes[0];
        let batch = draw(&mut loader, 0, 1, 10);
        let [said] = loader.last_rows().try_into().unwrap();
        let first = batch.ids[0];
        let (shard, token) = if first > 60 { (1, first - 61) } else { (0, first.max(1) - 1) };
        if first != END {
            let place = format!("shard-0000{shard}.tokens document 0 token {token} to ");
            assert!(said.contains(&place), "{said} {place}");
        }
        let start =
            format!("sample {sample}: set `train`, epoch {} at token {}, ", offset.epoch, offset.offset);
        assert!(said.starts_with(&start), "{said} {start}");
    }
}
