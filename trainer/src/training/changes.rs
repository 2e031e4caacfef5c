//! What a resumed run may change in its recipe: learning rates, clipping and the guard, each change recorded.

use crate::error::{Error, Result};
use crate::recipe::TrainingRecipe;
use crate::report::recovery::{RecipeChange, read_history, unix_time, write_history};
use std::collections::BTreeMap;
use std::path::Path;
use toml::Value;

/// A resumed run's recipe and how it was asked for.
pub(super) struct Resumed<'a> {
    pub(super) run: &'a Path,
    /// Steps finished.
    pub(super) step: u64,
    /// The `KEY=VALUE` of each `--set`.
    pub(super) overrides: &'a [String],
    /// The command that resumes the run.
    pub(super) command: &'a str,
}

impl Resumed<'_> {
    /// The keys that `now` changes, recorded in the run's history.
    ///
    /// Errors: it changes a key that decides what was computed so far, or one that may change but was not asked for with
    /// `--set`; the history cannot be read or written.
    pub(super) fn changes(&self, then: &TrainingRecipe, now: &TrainingRecipe) -> Result<Vec<RecipeChange>> {
        let differences = differences(then, now)?;
        let history = read_history(self.run)?;
        // A run that was killed after a change and before its next checkpoint has the change in its recipe already.
        let known = |key: &str, to: &str| {
            let mut here = history.iter().filter(|change| change.step == self.step);
            here.find(|change| change.key == key && change.to == to)
        };
        let asked = |key: &str| self.overrides.iter().any(|set| names(set, key));
        let refused = differences
            .iter()
            .any(|(key, _, to)| !may_change(key) || !(asked(key) || known(key, to).is_some()));
        if refused {
            let lines: Vec<String> = differences
                .iter()
                .flat_map(|(key, from, to)| [format!("- {key} = {from}"), format!("+ {key} = {to}")])
                .collect();
            return Err(Error::Invalid(format!(
                "the run was started with another recipe (- then, + now); `{}` continues it, with --set of a schedule's peak \
                 or floor, optimizer.clip or [guard] where these are to change; or start another run with --run:\n{}",
                self.command,
                lines.join("\n")
            )));
        }
        let (step, time) = (self.step, unix_time());
        let change = |(key, from, to): (String, String, String)| {
            known(&key, &to).cloned().unwrap_or(RecipeChange { step, time, key, from, to })
        };
        let changes: Vec<RecipeChange> = differences.into_iter().map(change).collect();
        // What was changed after this step did not lead to the weights that the run goes on with.
        let mut kept: Vec<RecipeChange> =
            history.iter().filter(|change| change.step < step).cloned().collect();
        kept.extend(changes.iter().cloned());
        if kept != history {
            write_history(self.run, &kept)?;
        }
        Ok(changes)
    }
}

/// Whether a resumed run may have another value.
fn may_change(key: &str) -> bool {
    let parts: Vec<&str> = key.split('.').collect();
    matches!(
        parts.as_slice(),
        ["optimizer", "clip"] | ["guard", _] | ["stages", _, "schedule", "peak" | "floor"]
    )
}

/// Whether the `KEY=VALUE` of a `--set` writes this key, a table around it, or all of a list.
fn names(set: &str, key: &str) -> bool {
    let path = set.split('=').next().unwrap_or_default().trim();
    let mut parts = key.split('.');
    path.split('.').all(|part| parts.next().is_some_and(|other| part == other || part == "*"))
}

/// Key, value then and value now of everything that decides the numbers and differs.
fn differences(then: &TrainingRecipe, now: &TrainingRecipe) -> Result<Vec<(String, String, String)>> {
    let [then, now] = [values(then)?, values(now)?];
    let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let value = |values: &BTreeMap<String, String>, key| {
        values.get(key).cloned().unwrap_or_else(|| "none".to_owned())
    };
    let differs = keys.into_iter().map(|key| (key.clone(), value(&then, key), value(&now, key)));
    Ok(differs.filter(|(_, from, to)| from != to).collect())
}

/// The values that decide the numbers, by their dotted keys. What is shown or kept may change, and data and the model may have
/// moved: hashes of their content identify them.
fn values(recipe: &TrainingRecipe) -> Result<BTreeMap<String, String>> {
    let recipe = recipe.with_absolute_paths()?;
    let numbers = TrainingRecipe {
        data: Default::default(),
        init_from: recipe.init_from.as_ref().map(|_| "a model".to_owned()),
        checkpoint: Default::default(),
        sample: None,
        ..recipe
    };
    let value = Value::try_from(&numbers).map_err(|error| Error::Invalid(format!("the recipe: {error}")))?;
    let mut flat = BTreeMap::new();
    flatten(&value, String::new(), &mut flat);
    Ok(flat)
}

fn flatten(value: &Value, key: String, into: &mut BTreeMap<String, String>) {
    let inner = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(name, value)| flatten(value, inner(name), into)),
        Value::Array(items) if items.iter().all(Value::is_table) => {
            items.iter().enumerate().for_each(|(index, item)| flatten(item, inner(&index.to_string()), into));
        }
        Value::String(text) => {
            into.insert(key, text.clone());
        }
        other => {
            into.insert(key, other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(overrides: &[&str]) -> TrainingRecipe {
        let overrides: Vec<String> = overrides.iter().map(|set| (*set).to_owned()).collect();
        TrainingRecipe::load("tiny-cpu", &overrides).unwrap()
    }

    /// Resumes `tiny-cpu` with overrides of which only those `asked` for come from `--set`.
    fn resume(run: &Path, overrides: &[&str], asked: &[&str]) -> Result<Vec<RecipeChange>> {
        let sets: Vec<String> = asked.iter().map(|set| (*set).to_owned()).collect();
        let resumed = Resumed { run, step: 7, overrides: &sets, command: "resume it" };
        resumed.changes(&recipe(&[]), &recipe(overrides))
    }

    #[test]
    fn learning_rates_clipping_and_guard_change_and_are_recorded_once() {
        let run = tempfile::tempdir().unwrap();
        let sets = ["stages.*.schedule.peak=1e-3", "optimizer.clip=none", "guard={on_bad_step=\"skip\"}"];
        let changes = resume(run.path(), &sets, &sets).unwrap();
        let shown: Vec<(&str, &str, &str)> =
            changes.iter().map(|c| (c.key.as_str(), c.from.as_str(), c.to.as_str())).collect();
        let expected = [
            ("guard.on_bad_step", "stop", "skip"),
            ("optimizer.clip", "1.0", "none"),
            ("stages.0.schedule.peak", "0.003", "0.001"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(read_history(run.path()).unwrap(), changes);
        // The run's own recipe has them: a second resume from the same checkpoint needs no --set and adds no line.
        assert_eq!(resume(run.path(), &sets, &[]).unwrap().len(), 3);
        assert_eq!(read_history(run.path()).unwrap(), changes);
        // A kill may come before the run's own recipe has them: then they did not happen.
        assert_eq!(resume(run.path(), &[], &[]).unwrap(), []);
        assert_eq!(read_history(run.path()).unwrap(), []);
        // What is shown or kept changes without a record.
        let free = ["checkpoint.every=1", "sample=none", "data.sets.train=elsewhere"];
        assert_eq!(resume(run.path(), &free, &[]).unwrap(), []);
    }

    #[test]
    fn everything_else_is_refused_with_its_key() {
        let run = tempfile::tempdir().unwrap();
        for (overrides, asked, line) in [
            (&["optimizer.beta2=0.99"][..], &["optimizer.beta2=0.99"][..], "+ optimizer.beta2 = 0.99"),
            (&["seed=2"], &["seed=2"], "- seed = 1\n+ seed = 2"),
            (
                &["stages.0.schedule.warmup=5"],
                &["stages.0.schedule.warmup=5"],
                "+ stages.0.schedule.warmup = 5",
            ),
            // It may change, but nobody asked for it.
            (&["optimizer.clip=0.5"], &["optimizer.beta1=0.9"], "+ optimizer.clip = 0.5"),
            // One that may not change refuses all.
            (&["optimizer.clip=0.5", "seed=2"], &["optimizer.clip=0.5", "seed=2"], "+ seed = 2"),
        ] {
            let error = resume(run.path(), overrides, asked).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains("`resume it` continues it"), "{error}");
        }
        assert_eq!(read_history(run.path()).unwrap(), []);
    }
}
