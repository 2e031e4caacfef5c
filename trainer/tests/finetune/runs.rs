//! Whole runs: the same bits in any way, and what they leave behind.

use crate::setup::{GOLDEN, Home, refused, succeeds};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use thimble_trainer::data::conversations::ConversationEncoder;

const LONG: [&str; 10] = [
    "--batch",
    "3",
    "--context",
    "96",
    "--epochs",
    "20",
    "--held-out",
    "0.25",
    "--set",
    "checkpoint.every=2",
];

fn home() -> (Home, PathBuf) {
    let home = Home::new();
    home.rows_of(Path::new(GOLDEN), "chats.jsonl");
    (home, Path::new(GOLDEN).join("model"))
}

fn assert_same(home: &Home, expected: &str, found: &str) {
    for file in ["model.safetensors", "optimizer.safetensors", "state.json"] {
        let read = |run: &str| fs::read(home.newest(run).join(file)).unwrap();
        assert!(read(expected) == read(found), "{found}: {file} differs");
    }
    assert_eq!(home.steps(found), home.steps(expected));
}

/// Packed and shuffled, with held-out conversations, all weights and adapters; killed with SIGKILL at several moments and
/// continued with other numbers of threads.
#[test]
fn threads_and_kills_change_nothing() {
    let (home, model) = home();
    for (kind, more) in [("all", &[][..]), ("lora", &["--lora", "4"][..])] {
        let flags = |extra: &[&'static str]| [&LONG[..], more, extra].concat();
        let whole = format!("whole-{kind}");
        succeeds(home.finetune(&model, &whole, &flags(&["--threads", "1"])));
        let steps = home.steps(&whole).len();
        assert!(steps >= 20, "{steps}");
        let threaded = format!("threaded-{kind}");
        succeeds(home.finetune(&model, &threaded, &flags(&["--threads", "3"])));
        assert_same(&home, &whole, &threaded);
        let killed = format!("killed-{kind}");
        for (index, threads) in ["2", "3", "1", "2"].into_iter().enumerate() {
            let mut child =
                home.finetune(&model, &killed, &flags(&["--resume", "--threads", threads])).spawn().unwrap();
            let until = (index + 1) * steps / 5;
            while child.try_wait().unwrap().is_none() && home.steps(&killed).len() < until {
                std::thread::sleep(Duration::from_micros(500));
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        succeeds(home.finetune(&model, &killed, &flags(&["--resume"])));
        assert_same(&home, &whole, &killed);
    }
}

#[test]
fn a_run_leaves_its_recipe_its_counts_and_a_model_that_stops_where_its_source_did() {
    let (home, model) = home();
    let output = succeeds(home.finetune(&model, "run", &LONG));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("thimble convert run/export") && said.contains("thimble chat"), "{said}");
    let json = |path: &str| -> Value { serde_json::from_slice(&fs::read(home.path(path)).unwrap()).unwrap() };
    let counts = json("run/data.json");
    assert_eq!((&counts["kind"], &counts["train"]["rows"]), (&"conversations".into(), &6.into()), "{counts}");
    assert_eq!(counts["held_out"]["examples"], 2, "{counts}");
    let rows = counts["stages"][0]["rows"].as_u64().unwrap();
    assert!((1..6).contains(&rows), "six examples share rows: {counts}");
    assert_eq!(json("run/export/config.json")["eos_token_id"], 2);
    let hash = |model: &Path| ConversationEncoder::open(model).unwrap().hash().to_owned();
    assert_eq!(hash(&home.path("run/export")), hash(&model), "tokenizer and template");
    let recipe = fs::read_to_string(home.path("run/recipe.toml")).unwrap();
    assert!(recipe.contains("kind = \"sft\"") && recipe.contains("held_out = 0.25"), "{recipe}");
    // The run is complete: resuming does nothing but say so.
    let before = fs::read(home.path("run/export/model.safetensors")).unwrap();
    succeeds(home.finetune(&model, "run", &[&LONG[..], &["--resume"]].concat()));
    assert!(before == fs::read(home.path("run/export/model.safetensors")).unwrap());
    // Rows of other files are not taken for those of the run.
    let rows = fs::read_to_string(home.path("chats.jsonl")).unwrap();
    fs::write(home.path("chats.jsonl"), rows.replacen("Five", "Six", 1)).unwrap();
    let said = refused(home.finetune(&model, "run", &[&LONG[..], &["--resume"]].concat()));
    assert!(said.contains("expected one in these examples, found one in other examples"), "{said}");
}

/// The recipe of another model gives its keys, not its shape; the run and its model are what to go on with from anywhere.
#[test]
fn a_built_in_recipe_tunes_another_model_and_resumes_from_another_folder() {
    let (home, model) = home();
    fs::create_dir(home.path("elsewhere")).unwrap();
    let recipe = ["--recipe", "laptop-lora", "--context", "96", "--held-out", "0.25"];
    let keys = ["--set", "checkpoint.every=1", "--set", "checkpoint.last=99"];
    succeeds(home.finetune(&model, "run", &[&recipe[..], &keys].concat()));
    let text = fs::read_to_string(home.path("run/recipe.toml")).unwrap();
    assert!(text.contains(&format!("{:?}", home.path("chats.jsonl").display().to_string())), "{text}");
    let newest = home.newest("run");
    let before = fs::read(newest.join("model.safetensors")).unwrap();
    fs::remove_dir_all(&newest).unwrap();
    let train = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
        command.current_dir(home.path("elsewhere")).args(arguments);
        command
    };
    let resume = ["pretrain", "../run/recipe.toml", "--run", "../run", "--device", "cpu", "--resume"];
    let output = succeeds(train(&resume));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("exported before"), "{said}");
    assert!(home.newest("run") == newest && fs::read(newest.join("model.safetensors")).unwrap() == before);
    // The commands of the run's page work beside what the run wrote itself.
    let page = fs::read_to_string(home.path("run/README.md")).unwrap();
    let lines = page.lines().filter_map(|line| line.split_once("`thimble-train ")?.1.strip_suffix("` |"));
    let exports: Vec<&str> = lines.filter(|line| line.starts_with("export")).collect();
    assert_eq!(exports.len(), 2, "{page}");
    for line in exports {
        succeeds(train(&line.split(' ').collect::<Vec<_>>()));
    }
    assert!(home.path("run/export-last/model.safetensors").exists());
    assert!(home.path("run/adapter/adapter_model.safetensors").exists());
    let report = fs::read_to_string(home.path("run/report.html")).unwrap();
    let config = thimble_trainer::export::read_config(&model.join("config.json")).unwrap();
    let own = thimble_trainer::model::Parameters::new(&config).len;
    assert!(report.contains(&format!(", {} parameters", grouped(own))), "the base alone");
    // A run is no model and no recipe.
    let said = refused(home.finetune(&home.path("run"), "again", &[]));
    assert!(said.contains("found the folder of a run; give its export, "), "{said}");
    let said = refused(train(&["pretrain", "../run"]));
    assert!(
        said.contains("../run: expected a recipe, found the folder of a run") && said.contains("--resume"),
        "{said}"
    );
}

fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let parts = std::iter::once(&digits[..first]).filter(|part| !part.is_empty());
    let parts =
        parts.chain(digits.as_bytes()[first..].chunks(3).map(|part| std::str::from_utf8(part).unwrap()));
    parts.collect::<Vec<_>>().join(",")
}

/// The answers are learned, with their end tokens.
#[test]
fn training_lowers_the_loss() {
    let (home, model) = home();
    let more = ["--batch", "4", "--context", "96", "--epochs", "60", "--learning-rate", "1e-2"];
    succeeds(home.finetune(&model, "run", &more));
    let steps = home.steps("run");
    let (first, last) = (steps[0].loss, steps[steps.len() - 1].loss);
    assert!(last < first / 2.0, "{first} to {last}");
}

/// The answers are longer than the context, so that nothing would teach the model to stop.
#[test]
fn an_end_token_that_is_never_trained_is_warned_of() {
    let (home, model) = home();
    let warned = |run: &str, context: &str| {
        let output = succeeds(home.finetune(&model, run, &["--context", context, "--epochs", "1"]));
        let said = String::from_utf8(output.stderr).unwrap();
        let read = |file: &str| fs::read_to_string(home.path(run).join(file)).unwrap();
        let counts: Value = serde_json::from_str(&read("data.json")).unwrap();
        let reported =
            read("report.html").contains("The end token is never trained, so that answers do not stop");
        let said = said.contains("warning: no example trains the end token, so that answers do not stop");
        assert_eq!(said, reported, "on stderr and in the report");
        (counts["train"]["end_trained"].as_u64(), said)
    };
    let (trained, said) = warned("whole", "96");
    assert!(trained > Some(0) && !said, "{trained:?}");
    let row = serde_json::json!({"prompt": "Hi", "completion": "Hello ".repeat(99)});
    fs::write(home.path("chats.jsonl"), format!("{row}\n").repeat(4)).unwrap();
    assert_eq!(warned("cut", "96"), (Some(0), true));
}

#[test]
fn empty_answers_and_held_out_rows_that_are_trained_on_are_warned_of() {
    let (home, model) = home();
    let row = |answer: &str| format!("{}\n", serde_json::json!({"prompt": "Hi", "completion": answer}));
    fs::write(home.path("chats.jsonl"), [row("Hello"), row(" "), row("Hey"), row("")].concat()).unwrap();
    fs::write(home.path("held.jsonl"), [row("Hello"), row("New")].concat()).unwrap();
    let flags = ["--context", "96", "--epochs", "1", "--held-out", "held.jsonl"];
    let said = String::from_utf8(succeeds(home.finetune(&model, "run", &flags)).stderr).unwrap();
    assert!(said.contains("warning: 1 of 2 held-out examples are among those that are trained on"), "{said}");
    assert!(said.contains("warning: 2 of 4 examples have an answer without text"), "{said}");
    let report = fs::read_to_string(home.path("run/report.html")).unwrap();
    assert!(report.contains("1 held-out example trained on, too"));
    assert!(report.contains("2 examples with an answer without text"));
    let clean = ["--context", "96", "--epochs", "1"];
    fs::write(home.path("chats.jsonl"), [row("Hello"), row("Hey")].concat()).unwrap();
    let said = String::from_utf8(succeeds(home.finetune(&model, "clean", &clean)).stderr).unwrap();
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let (home, model) = home();
    let said = refused(home.finetune(&model, "run", &["--context", "8"]));
    assert!(said.contains("each of the 8 examples is without a target"), "{said}");
    // In the words that were typed.
    for (flags, expected) in [
        (&["--held-out", "0.0001"][..], "error: --held-out 0.0001: expected a share that holds out some"),
        (&["--held-out", "1.5"], "error: --held-out 1.5: expected a number from 0 to below 1, found 1.5"),
        (&["--lora", "0"], "error: --lora 0: expected at least 1, found 0\n"),
        (&["--context", "100000"], "error: --context 100000: expected at most the model's context of "),
        (&["--context", "2"], "each of the 8 examples is without a target"),
        (&["--epochs", "1e7"], "error: --epochs 10000000: expected more than 0"),
        (&["--seed", "18446744073709551615"], "invalid value '18446744073709551615' for '--seed <N>'"),
        (&["--recipe", "laptop-lroa"], "Did you mean `laptop-lora`?"),
        (&["--recipe", "smollm2-1.7b-stf"], "Did you mean `smollm2-1.7b-sft`?"),
        (
            &["--recipe", "smollm2-135m-dpo", "--context", "96"],
            "--recipe smollm2-135m-dpo: finetune expects a recipe of objective.kind = \"sft\"",
        ),
        (
            &["--set", "stages.0.context=0"],
            "--set 'stages.0.context=0': stages.0.context: expected at least 1",
        ),
    ] {
        let said = refused(home.finetune(&model, "run", flags));
        assert!(said.contains(expected), "{flags:?}: {said}");
        let keys = ["data.held_out", "adapter.", "seed:", "length.epochs", "model.context"];
        assert!(keys.iter().all(|key| !said.contains(key)), "{flags:?}: {said}");
    }
    let said = refused(home.finetune(Path::new("no-such-model"), "run", &[]));
    assert!(said.contains("error: no-such-model: expected") && said.contains("thimble pull"), "{said}");
    // MODEL behind a flag that takes several names.
    let mut swapped = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
    swapped.args(["finetune", "--data", "chats.jsonl"]).arg(&model);
    let output = swapped.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("MODEL comes first: --data and --held-out take every name"), "{said}");
    fs::write(home.path("chats.jsonl"), "{\"messages\": []}\n").unwrap();
    let said = refused(home.finetune(&model, "run", &[]));
    assert!(said.contains("chats.jsonl, line 1: messages: expected at least one message"), "{said}");
    assert!(!home.path("run").join("checkpoints").exists());
}
