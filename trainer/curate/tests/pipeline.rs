//! Recipes: what is kept and removed, tasks, killed runs, and input of every kind.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use thimble_curate::pipeline::{ArrayTask, CorpusRecipe, CurationRun, CurationSummary, Share};

/// Words that make texts of any length, different for each seed.
fn words(seed: u64, count: usize) -> Vec<String> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (0..6).map(|letter| char::from(b'a' + (state >> (30 + 5 * letter)) as u8 % 26)).collect()
    };
    (0..count).map(|_| next()).collect()
}

fn text(seed: u64) -> String {
    words(seed, 120).join(" ")
}

/// A folder with two files, a benchmark, and a recipe.
fn corpus() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    fs::create_dir(&raw).unwrap();
    let mut first = String::new();
    for id in 0..60 {
        first += &format!("{}\n", json!({ "id": id, "text": text(id), "url": format!("page {id}") }));
    }
    fs::write(raw.join("a.jsonl"), first).unwrap();
    let mut near = words(7, 120);
    near[60] = "changed".into();
    let question = words(500, 14).join(" ");
    let mut second: Vec<u8> = Vec::new();
    for (id, text) in [
        (100, text(5).to_uppercase() + "!"),
        (101, near.join(" ")),
        (102, format!("{} {question} {}", text(600), text(601))),
        (103, String::new()),
        (104, "short".into()),
        (105, text(700)),
    ] {
        second.extend(format!("{}\n", json!({ "id": id, "text": text })).bytes());
    }
    second.extend(b"{\"text\": \"bad \xff\"}\nno json\n");
    fs::write(raw.join("b.jsonl"), second).unwrap();
    fs::write(folder.path().join("benchmark.jsonl"), json!({ "question": question }).to_string()).unwrap();
    folder
}

fn recipe(folder: &Path, output: &str) -> CorpusRecipe {
    let text = format!(
        "input = [\"raw\"]\noutput = \"{output}\"\npart-bytes = 9000\nkeep-removed = true\n\
         [[stage]]\nkind = \"length\"\nleast = 6\n\
         [[stage]]\nkind = \"exact\"\n\
         [[stage]]\nkind = \"decontaminate\"\nbenchmarks = [\"benchmark.jsonl\"]\n\
         [[stage]]\nkind = \"minhash\"\npreset = \"fineweb\"\n"
    );
    let path = folder.join(format!("{output}.toml"));
    fs::write(&path, text).unwrap();
    CorpusRecipe::read(&path).unwrap()
}

fn run(recipe: &CorpusRecipe, share: Share, threads: usize) -> CurationSummary {
    CurationRun { recipe, share, threads }.run(&mut |_, _| {}).unwrap()
}

/// The bytes of every part and marker.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(
                files(&entry.path()).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else if !name.contains("curation.json") && name != "report.html" {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn documents(folder: &Path) -> Vec<Value> {
    let all = files(folder).into_iter().filter(|(name, _)| name.ends_with(".zst"));
    let text = all.map(|(_, bytes)| String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap());
    text.collect::<String>().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn stages_remove_what_they_are_for_and_keep_the_fields() {
    let folder = corpus();
    let CurationSummary::Complete { data, documents: kept, bad, .. } =
        run(&recipe(folder.path(), "out"), Share::All, 2)
    else {
        panic!("not complete")
    };
    assert_eq!((kept, bad), (61, 2));
    let ids: Vec<u64> = documents(&data).iter().map(|document| document["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..60).chain([105]).collect::<Vec<_>>());
    assert_eq!(documents(&data)[3]["url"], "page 3");
    let removed = documents(&folder.path().join("out/removed"));
    let why: BTreeMap<u64, String> = removed
        .iter()
        .map(|document| (document["id"].as_u64().unwrap(), document["removed"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(why[&100], "exact: copy of 5");
    assert_eq!(why[&101], "minhash: copy of 7");
    assert!(
        why[&102].starts_with("decontaminate: ") && why[&102].ends_with(", item 1, question"),
        "{}",
        why[&102]
    );
    assert_eq!(why[&103], "length: 0 bytes, fewer than 6");
    assert_eq!(why.len(), 5);
    let report = fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert!(report.contains("minhash") && report.contains("copy of 7") && report.contains("61 were kept"));
}

#[test]
fn threads_tasks_and_killed_runs_give_the_same_bytes() {
    let folder = corpus();
    run(&recipe(folder.path(), "one"), Share::All, 1);
    let expected = files(&folder.path().join("one"));
    assert!(
        expected.keys().filter(|name| name.starts_with("data/part-")).count() > 3,
        "{:?}",
        expected.keys()
    );
    run(&recipe(folder.path(), "many"), Share::All, 4);
    assert_eq!(files(&folder.path().join("many")), expected);

    for count in [1, 2, 4] {
        let name = format!("tasks{count}");
        let tasks = recipe(folder.path(), &name);
        for pass in 0..3 {
            // Too early, it does nothing.
            assert_eq!(run(&tasks, Share::Barrier, 2), CurationSummary::ShareDone { pass });
            for index in 0..count {
                let done = run(&tasks, Share::Task(ArrayTask { index, count }), 2);
                assert_eq!(done, CurationSummary::ShareDone { pass });
            }
            let done = run(&tasks, Share::Barrier, 2);
            assert_eq!(
                matches!(done, CurationSummary::Complete { documents: 61, .. }),
                pass == 2,
                "{done:?}"
            );
        }
        assert_eq!(files(&folder.path().join(name)), expected, "{count} tasks");
    }

    // A killed run leaves any prefix of the parts, and one under another name.
    let killed = recipe(folder.path(), "killed");
    run(&killed, Share::All, 2);
    for lost in [
        "data/.part-000000-00001.json",
        "data/.part-000000-00002.json",
        "duplicates-1.txt.zst",
        "report.html",
    ] {
        fs::remove_file(folder.path().join("killed").join(lost)).unwrap();
        fs::write(folder.path().join("killed/data/part-000000-00001.jsonl.zst.partial"), b"half").unwrap();
    }
    run(&killed, Share::All, 2);
    assert_eq!(files(&folder.path().join("killed")), expected);
    let done = run(&killed, Share::All, 2);
    assert!(matches!(done, CurationSummary::Complete { documents: 61, .. }));
}

#[test]
fn another_recipe_or_input_is_refused() {
    let folder = corpus();
    let mut recipe = recipe(folder.path(), "out");
    run(&recipe, Share::All, 2);
    recipe.part_bytes += 1;
    let error = CurationRun { recipe: &recipe, share: Share::All, threads: 1 }
        .run(&mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("begun with another recipe"), "{error}");
    recipe.part_bytes -= 1;
    fs::write(folder.path().join("raw/c.jsonl"), "{\"text\": \"more\"}").unwrap();
    let error = CurationRun { recipe: &recipe, share: Share::All, threads: 1 }
        .run(&mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("the input has changed"), "{error}");
}

#[test]
fn wrong_recipes_say_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    for (text, expected) in [
        ("input = [\"x\"]", "missing field `output`"),
        ("input = []\noutput = \"o\"\nunknown = 1", "unknown field `unknown`"),
        ("input = []\noutput = \"o\"\n[[stage]]\nkind = \"wash\"", "unknown variant `wash`"),
    ] {
        fs::write(&path, text).unwrap();
        let error = CorpusRecipe::read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/curation.toml");
    assert_eq!(
        (CorpusRecipe::read(&ours).unwrap().stages.len(), "2/4".parse()),
        (4, Ok(ArrayTask { index: 1, count: 4 }))
    );
    for wrong in ["", "0/2", "3/2", "1", "a/b", "1/0"] {
        assert!(wrong.parse::<ArrayTask>().is_err(), "{wrong}");
    }
}
