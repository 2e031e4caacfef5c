//! What is refused says where it is wrong and what to do, and leaves the run as it was.

use crate::setup::{TestFolder, assert_same_run, copy, refused, said, succeeds, wait_for};
use std::fs;
use std::path::PathBuf;
use thimble_trainer::data::token_set::HEADER_LEN;
use thimble_trainer::report::metrics::MetricsEvent;

/// A token set of the test's own, to be damaged.
fn own_set(test: &TestFolder) -> (PathBuf, String) {
    let folder = test.path("own");
    copy(&test.tokens().join("train"), &folder);
    let set = format!("data.sets.train={:?}", folder.display().to_string());
    (folder, set)
}

#[test]
fn damaged_token_sets_are_refused_with_their_place() {
    let test = TestFolder::new();
    let (folder, set) = own_set(&test);
    let pretrain = |run: &str| test.pretrain(run, &["--quiet", "--set", &set]);
    let shard = folder.join("shard-00000.tokens");
    let whole = fs::read(&shard).unwrap();

    fs::write(&shard, &whole[..whole.len() / 2]).unwrap();
    let said = refused(pretrain("a"), 1);
    let half = (whole.len() / 2).to_string();
    assert!(
        ["data.sets.train", "shard-00000.tokens", "truncated", &half].iter().all(|x| said.contains(x)),
        "{said}"
    );

    // An id beyond the vocabulary, of a document that comes early: the set's documents are shuffled, so in all of them.
    let mut bytes = whole.clone();
    let tokens = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
    for id in (4..tokens).step_by(40) {
        bytes[HEADER_LEN + 2 * id..][..2].copy_from_slice(&777u16.to_le_bytes());
    }
    fs::write(&shard, &bytes).unwrap();
    let said = refused(pretrain("b"), 1);
    for words in
        ["id 777", "vocabulary of 300", "set `train`", "shard-00000.tokens document", "token set is damaged"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    // In the held-out set too.
    let held = format!("data.sets.held={:?}", folder.display().to_string());
    let command = test.pretrain("c", &["--quiet", "--set", &held]);
    let said = refused(command, 1);
    assert!(said.contains("validation set `held`, window") && said.contains("id 777"), "{said}");
    fs::write(&shard, &whole).unwrap();

    // A tokenizer that is not the one that made the ids.
    let tokenizer = folder.join("tokenizer.json");
    let text = fs::read_to_string(&tokenizer).unwrap();
    fs::write(&tokenizer, format!("{text}\n")).unwrap();
    let said = refused(pretrain("d"), 1);
    assert!(said.contains("tokenizer.json: expected the tokenizer that made the ids"), "{said}");
    fs::write(&tokenizer, &text).unwrap();

    // A vocabulary that the model has not.
    let said = refused(test.pretrain("e", &["--quiet", "--set", "model.vocab=299"]), 1);
    assert!(said.contains("has 300 ids, the model 299 (model.vocab)"), "{said}");
    let said = refused(test.pretrain("f", &["--quiet", "--set", "data.sets.train=\"nowhere\""]), 1);
    assert!(said.contains("nowhere: there is no manifest.json"), "{said}");
    for run in ["a", "d", "e", "f"] {
        assert!(!test.path(run).exists(), "{run}: nothing was begun");
    }
}

#[test]
fn typos_in_a_recipe_are_refused_with_the_nearest_name() {
    let test = TestFolder::new();
    let recipe = fs::read_to_string(test.path("recipe.toml")).unwrap();
    for (from, to, words) in [
        (
            "micro_batch = 2",
            "micro_bacth = 2",
            &["recipe.toml", "stages.0", "micro_bacth", "`micro_batch`"][..],
        ),
        ("hidden = 32", "hiden = 32", &["hiden", "`hidden`"]),
        ("kind = \"cosine\"", "kind = \"cosin\"", &["cosin", "cosine"]),
        ("set = \"held\"", "set = \"hold\"", &["validation.set", "`hold`", "`held`"]),
        ("kv_heads = 2", "kv_heads = 3", &["model.kv_heads", "must divide model.heads = 4, found 3"]),
        ("context = 16", "context = 64", &["stages.0.context", "at most model.context = 32"]),
    ] {
        fs::write(test.path("recipe.toml"), recipe.replacen(from, to, 1)).unwrap();
        let said = refused(test.pretrain("run", &["--quiet"]), 1);
        assert!(words.iter().all(|words| said.contains(words)), "{to}: {said}");
    }
    fs::write(test.path("recipe.toml"), &recipe).unwrap();
    let said = refused(test.pretrain("run", &["--set", "optimizer.clipp=1"]), 2);
    assert!(said.contains("optimizer.clipp") && said.contains("`clip`"), "{said}");
    let said = refused(test.pretrain("run", &["--threads", "0"]), 2);
    assert!(said.contains("--threads"), "{said}");
    let said = refused(test.command(&["pretrain", "tiny-cpi"]), 2);
    assert!(said.contains("`tiny-cpu`"), "{said}");
    assert!(!test.path("run").exists());
}

#[test]
fn a_run_is_neither_overwritten_nor_gone_on_with_as_another() {
    let test = TestFolder::new();
    succeeds(test.pretrain("run", &["--quiet"]));
    let before = test.metrics("run");
    let said = refused(test.pretrain("run", &["--quiet"]), 2);
    assert!(said.contains("holds a run that reached step 40") && said.contains("--resume"), "{said}");
    let said = refused(test.pretrain("run", &["--quiet", "--resume", "--set", "optimizer.beta2=0.99"]), 1);
    for words in
        ["started with another recipe", "- optimizer.beta2 = 0.95", "+ optimizer.beta2 = 0.99", "--run"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Other token sets under the same recipe: another tokenizer, and another text.
    let (folder, set) = own_set(&test);
    succeeds(test.pretrain("sets", &["--quiet", "--set", &set]));
    fs::remove_dir_all(&folder).unwrap();
    copy(&test.tokens().join("other"), &folder);
    fs::remove_dir_all(test.path("sets/checkpoints/step-00000040")).unwrap();
    let said = refused(test.pretrain("sets", &["--quiet", "--resume", "--set", &set]), 1);
    assert!(said.contains("set `train` had") && said.contains("restore the original set"), "{said}");
    assert_eq!(test.metrics("run"), before);
    // Made anew with another tokenizer.
    let remake = |vocab: &str| {
        fs::remove_dir_all(test.path("mine")).ok();
        for set in ["train", "other", "held"] {
            let source = test.tokens().join(format!("{set}.jsonl")).display().to_string();
            if set == "train" {
                let train = ["train-tokenizer", &source, "--vocab", vocab, "-o", "mine/tokenizer"];
                succeeds(test.command(&train));
            }
            let own = format!("mine/{set}");
            succeeds(test.command(&["tokenize", &source, "--tokenizer", "mine/tokenizer", "-o", &own]));
        }
    };
    let mine = ["train", "other", "held"].map(|set| format!("data.sets.{set}=\"mine/{set}\""));
    let mine = ["--quiet", "--set", &mine[0], "--set", &mine[1], "--set", &mine[2]];
    remake("300");
    succeeds(test.pretrain("mine-run", &mine));
    remake("299");
    let said = refused(test.pretrain("mine-run", &[&mine[..], &["--resume"]].concat()), 1);
    let words = ["made with another tokenizer (hash ", "restore the original data"];
    assert!(words.iter().all(|words| said.contains(words)), "{said}");
    // What is shown and kept may change.
    succeeds(
        test.pretrain(
            "run",
            &["--quiet", "--resume", "--set", "checkpoint.last=5", "--set", "sample.tokens=3"],
        ),
    );
}

#[test]
fn a_shard_that_is_truncated_in_training_leaves_the_checkpoint_before() {
    let test = TestFolder::new();
    let (folder, set) = own_set(&test);
    let more = ["--quiet", "--set", &set];
    succeeds(test.pretrain("whole", &more));
    let shard = folder.join("shard-00000.tokens");
    let whole = fs::read(&shard).unwrap();
    let mut child = test.pretrain("run", &more).spawn().unwrap();
    assert!(wait_for(&mut child, || test.steps("run") >= 3));
    fs::OpenOptions::new().write(true).open(&shard).unwrap().set_len(HEADER_LEN as u64).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let found = format!("expected {} bytes, as when it was opened, found {HEADER_LEN}", whole.len());
    assert!(said.contains("shard-00000.tokens") && said.contains(&found), "{said}");
    // With the shard put back, the run comes to the same end.
    fs::write(&shard, &whole).unwrap();
    succeeds(test.pretrain("run", &[&more[..], &["--resume"]].concat()));
    assert_same_run(&test, "whole", "run");
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_one_before_it_is_good() {
    let test = TestFolder::new();
    succeeds(test.pretrain("whole", &["--quiet"]));
    let files = ["model.safetensors", "optimizer.safetensors", "recipe.toml", "state.json", "checksums.json"];
    let mut next = crate::setup::numbers(9);
    for file in files {
        copy(&test.path("whole"), &test.path("run"));
        let path = test.path("run/checkpoints/step-00000040").join(file);
        let whole = fs::read(&path).unwrap();
        let export = || test.command(&["export", "run", "-o", "exported", "--checkpoint", "last"]);
        for turn in 0..4 {
            let mut bytes = whole.clone();
            let at = if turn == 0 { whole.len() - 1 } else { next(whole.len()) };
            // A flipped bit; or the last byte gone.
            bytes[at] ^= 1 << next(7);
            if turn == 3 {
                bytes.pop();
            }
            fs::write(&path, bytes).unwrap();
            for command in [test.pretrain("run", &["--quiet", "--resume"]), export()] {
                let said = refused(command, 1);
                let what_to_do =
                    "remove the folder run/checkpoints/step-00000040 to resume from the previous checkpoint";
                assert!(said.contains(what_to_do), "{file}, byte {at}: {said}");
                assert!(said.contains(file), "{file}, byte {at}: {said}");
            }
        }
        fs::remove_file(&path).unwrap();
        let said = refused(test.pretrain("run", &["--quiet", "--resume"]), 1);
        assert!(said.contains(file) && said.contains("remove the folder"), "{file}: {said}");
        assert!(!test.path("exported").exists());
        // It does as it says.
        fs::remove_dir_all(test.path("run/checkpoints/step-00000040")).unwrap();
        succeeds(test.pretrain("run", &["--quiet", "--resume"]));
        assert_same_run(&test, "whole", "run");
        fs::remove_dir_all(test.path("run")).unwrap();
    }
}

/// A limit on the size of files stands in for a full disk: the system refuses the write in the same place.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_checkpoint_before() {
    let test = TestFolder::new();
    let more = ["--quiet", "--set", "checkpoint.every=15", "--set", "validation.every=1000"];
    succeeds(test.pretrain("whole", &more));
    let limited = |run: &str, kilobytes: u64| {
        let command = test.pretrain(run, &[&more[..], &["--resume"]].concat());
        let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$0\" \"$@\"");
        let mut limited = std::process::Command::new("bash");
        limited.arg("-c").arg(script).arg(command.get_program()).args(command.get_args());
        limited.current_dir(command.get_current_dir().unwrap());
        limited
    };
    let size = |file: &str| test.kept("whole", "step-00000040", file).len() as u64 / 1024;
    // No room for the weights; room for them, but not for the moments, which are twice as long.
    for kilobytes in [size("model.safetensors") - 1, size("optimizer.safetensors") - 1] {
        let run = format!("run-{kilobytes}");
        let said = refused(limited(&run, kilobytes), 1);
        assert!(said.contains("checkpoint of step 15 could not be written"), "{said}");
        assert!(said.contains("there is no earlier one: free some space"), "{said}");
        let mut child = test.pretrain("kept", &more).spawn().unwrap();
        assert!(wait_for(&mut child, || test.newest("kept").is_some()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(test.checkpoints("kept"), ["step-00000015"]);
        let before = test.kept("kept", "step-00000015", "optimizer.safetensors");
        let said = refused(limited("kept", kilobytes), 1);
        assert!(said.contains("checkpoint of step 30 could not be written"), "{said}");
        assert!(said.contains(".safetensors") && said.contains("File too large"), "{said}");
        assert!(
            said.contains("the checkpoint of step 15 is whole: free some space and continue with --resume"),
            "{said}"
        );
        assert_eq!(test.checkpoints("kept"), ["step-00000015"]);
        assert!(test.kept("kept", "step-00000015", "optimizer.safetensors") == before);
        succeeds(test.pretrain("kept", &[&more[..], &["--resume"]].concat()));
        assert_same_run(&test, "whole", "kept");
        fs::remove_dir_all(test.path("kept")).unwrap();
    }
}

#[test]
fn a_run_that_diverges_stops_with_its_data_and_a_good_checkpoint() {
    let test = TestFolder::new();
    // The first step of the second stage throws the weights away: too far to learn from, and beyond f32, where the
    // held-out loss shows it or, when none is measured, the checkpoint.
    let cases = [
        ("1e30", "1000", "norm is NaN"),
        ("1e300", "5", "held-out loss is NaN"),
        ("1e300", "1000", "finite"),
    ];
    for (number, (peak, every, trouble)) in cases.iter().enumerate() {
        let run = format!("run-{number}");
        let (peak, every) = (format!("stages.1.schedule.peak={peak}"), format!("validation.every={every}"));
        let more = ["--quiet", "--set", &peak, "--set", &every];
        let said = refused(test.pretrain(&run, &more), 1);
        assert!(said.contains(trouble), "{said}");
        for words in ["stage `long`", "set `", "shard-00000.tokens document", "epoch 0", "learning rate"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let newest = test.newest(&run).unwrap();
        let step: u64 = newest["step-".len()..].parse().unwrap();
        assert!(said.contains(&format!("the checkpoint of step {step} is intact")), "{said}");
        // Every number in it can be gone on with.
        let path = test.path(&run).join("checkpoints").join(&newest);
        let (state, recipe) = thimble_trainer::checkpoint::open(&path).unwrap();
        let parameters = thimble_trainer::model::Parameters::new(&recipe.model.config());
        let numbers = thimble_trainer::checkpoint::read_tensors(&path, &parameters).unwrap();
        assert!(state.step == step && numbers.weights.iter().all(|weight| weight.is_finite()));
        assert!(test.metrics(&run).iter().all(|event| match event {
            MetricsEvent::Step(step) => step.loss.is_finite() && step.gradient_norm.is_finite(),
            MetricsEvent::Validation(point) => point.loss.is_finite(),
            _ => true,
        }));
        // It comes to the same end again.
        let again = refused(test.pretrain(&run, &[&more[..], &["--resume"]].concat()), 1);
        assert_eq!(again.lines().next(), said.lines().next());
    }
    // So does the guard against spikes.
    let more = [
        "--quiet",
        "--set",
        "stages.1.schedule.peak=1.0",
        "--set",
        "guard.loss_spike=1.0",
        "--set",
        "guard.window=5",
    ];
    let said = refused(test.pretrain("spike", &more), 1);
    assert!(said.contains("more than guard.loss_spike = 1 above the mean of the last 5 steps"), "{said}");
    assert!(said.contains("  sample ") && said.contains(": set `"), "{said}");
}

#[test]
fn a_run_folder_belongs_to_one_process_at_a_time() {
    let test = TestFolder::new();
    fs::create_dir(test.path("run")).unwrap();
    let lock = fs::File::create(test.path("run").join(".lock")).unwrap();
    lock.lock().unwrap();
    let said = refused(test.pretrain("run", &["--quiet"]), 1);
    assert!(said.contains("another thimble-train is using"), "{said}");
    drop(lock);
    succeeds(test.pretrain("run", &["--quiet"]));
}

#[test]
fn files_that_are_not_a_runs_stay() {
    let test = TestFolder::new();
    let readme = test.path("project").join("README.md");
    fs::create_dir(test.path("project")).unwrap();
    fs::write(&readme, "mine").unwrap();
    let said = refused(test.pretrain("project", &["--quiet"]), 2);
    assert!(said.contains("holds files that are not a run's"), "{said}");
    assert_eq!(fs::read_to_string(&readme).unwrap(), "mine");
    assert_eq!(fs::read_dir(test.path("project")).unwrap().count(), 1);
    let source = test.tokens().join("train.jsonl").display().to_string();
    let train = |vocab: &str| test.command(&["train-tokenizer", &source, "--vocab", vocab, "-o", "made"]);
    succeeds(train("300"));
    let made = fs::read(test.path("made").join("tokenizer.json")).unwrap();
    assert!(refused(train("280"), 2).contains("exists already"));
    assert_eq!(fs::read(test.path("made").join("tokenizer.json")).unwrap(), made);
}

#[test]
fn a_set_may_move_but_not_change() {
    let test = TestFolder::new();
    let (folder, set) = own_set(&test);
    let stop = ["--quiet", "--set", "stages.1.length={steps=1}"];
    succeeds(test.pretrain("run", &stop));
    // All steps are done: resuming checks the data and ends. The same content elsewhere is the same set.
    succeeds(test.pretrain("run", &[&stop[..], &["--set", &set, "--resume"]].concat()));
    let manifest = folder.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let checksum = text.split("\"xxh3\": \"").last().unwrap().split('"').next().unwrap().to_owned();
    fs::write(&manifest, text.replace(&checksum, "0123456789abcdef")).unwrap();
    let said = refused(test.pretrain("run", &[&stop[..], &["--set", &set, "--resume"]].concat()), 1);
    assert!(said.contains("set `train` had other content"), "{said}");
}
