//! Which windows are drawn, and what is in them.

use super::*;

#[test]
fn each_epoch_has_every_token_once_as_a_target_in_whole_documents_and_another_order() {
    let (_sets, recipe) = one_set();
    let documents = different(40, 1);
    let tokens: usize = documents.iter().map(|document| document.len() + 1).sum();
    let mut loader = Loader::open(&recipe).unwrap();
    assert_eq!(loader.epoch_tokens(0), tokens as u64);
    assert_eq!(loader.steps(0), (3 * tokens / 20) as u64);
    let batches: Vec<TrainingBatch> = (0..3 * tokens / 20 + 1).map(|_| draw(&mut loader, 0, 2, 10)).collect();
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
    let mut batch = TrainingBatch::default();
    validation.fill(&[0, 1, 2], 4, &mut batch).unwrap();
    assert_eq!(batch.ids, [11, 12, 13, 0, 21, 21, 0, 31, 32, 33, 33, 34, 35, 36, 0]);
    assert_eq!(batch.document_start, [0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0]);
    let all = batch.clone();
    validation.fill(&[2, 0], 4, &mut batch).unwrap();
    assert_eq!(batch.ids, [&all.ids[10..], &all.ids[..5]].concat());
    assert!(validation.fill(&[2, 3], 4, &mut batch).is_err());
    assert!(validation.windows(13, None).is_err());
    // A window longer than the held-out set is refused when it is opened.
    let long = TrainingRecipe { stages: vec![Stage { context: 16, ..recipe.stages[0].clone() }], ..recipe };
    let error = Loader::open(&long).unwrap().validation().err().unwrap().to_string();
    assert!(error.contains("13 tokens, too few for one window of 16"), "{error}");
}

#[test]
fn a_changed_context_loses_no_token_and_repeats_none() {
    let (_sets, recipe) = one_set();
    let mut loader = Loader::open(&recipe).unwrap();
    let contexts = [10, 10, 3, 64, 1, 1, 17, 40, 9];
    let changing: Vec<TrainingBatch> =
        contexts.iter().map(|context| draw(&mut loader, 0, 2, *context)).collect();
    let mut steady = Loader::open(&recipe).unwrap();
    let windows = 2 * contexts.iter().sum::<usize>() / 10;
    let steady: Vec<TrainingBatch> = (0..windows).map(|_| draw(&mut steady, 0, 1, 10)).collect();
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
