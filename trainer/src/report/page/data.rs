//! The counts of the data: `data.json` of a run, an object with the counts of each part (training, held out).

use super::chart::{Bar, ChartView, histogram};
use super::view::{TableView, counted, percent, title};
use crate::units::grouped;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The part that is trained on.
const TRAINING: &str = "train";
/// The count of examples that train a token which ends an answer.
const END_TRAINED: &str = "end_trained";
/// The count of examples with an answer without text.
const EMPTY_ANSWERS: &str = "empty_answers";
/// The count of held-out examples that are trained on.
const SHARED: &str = "held_out_in_training";
/// Share of truncated examples above which a warning says so.
const MOST_TRUNCATED: f64 = 0.05;

/// The counts of one part of the data.
#[derive(Clone, Debug, Deserialize)]
struct Part {
    /// Conversations, or pairs of answers.
    #[serde(default, alias = "pairs")]
    examples: u64,
    #[serde(default)]
    truncated: u64,
    #[serde(default)]
    dropped: u64,
    /// How many examples have which length before truncation.
    #[serde(default)]
    lengths: Vec<Length>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Length {
    /// Most tokens of these examples; the next smaller entry, half of it, has those below.
    up_to: u64,
    examples: u64,
}

/// What `data.json` says.
#[derive(Clone, Debug, Default)]
pub(super) struct DataParts {
    /// Each part by its name.
    parts: Vec<(String, Part)>,
    /// Held-out examples that are trained on.
    shared: u64,
}

impl DataParts {
    /// Reads the file; entries that are no counts are left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<DataParts, String> {
        let whole: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let shared = whole.get(SHARED).and_then(Value::as_u64).unwrap_or_default();
        let mut parts: Vec<(String, Value)> =
            whole.into_iter().filter(|(_, value)| value.is_object()).collect();
        parts.sort_by(|(a, _), (b, _)| (a != TRAINING, a).cmp(&(b != TRAINING, b)));
        let part = |(name, value): (String, Value)| {
            serde_json::from_value(value)
                .map(|part| (title(&name), part))
                .map_err(|error| format!("{name}: {error}"))
        };
        let parts = parts.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
        Ok(DataParts { parts, shared })
    }

    /// A column for each part, a row for each count.
    pub(super) fn table(&self) -> Option<TableView> {
        let mut keys: Vec<&str> = vec!["examples", "truncated", "dropped"];
        for (_, part) in &self.parts {
            let scalar = |value: &Value| !value.is_array() && !value.is_object();
            for (key, _) in part.others.iter().filter(|(_, value)| scalar(value)) {
                if !keys.contains(&key.as_str()) {
                    keys.push(key);
                }
            }
        }
        let row = |key: &&str| {
            let cells = self.parts.iter().map(|(_, part)| part.cell(key));
            std::iter::once(title(key)).chain(cells).collect::<Vec<String>>()
        };
        let heads: Vec<&str> =
            std::iter::once("Count").chain(self.parts.iter().map(|(name, _)| name.as_str())).collect();
        let rows = if self.parts.is_empty() { Vec::new() } else { keys.iter().map(row).collect() };
        TableView::of("What was read", &heads, rows)
    }

    /// The lengths of the examples of each part.
    pub(super) fn histograms(&self) -> Vec<ChartView> {
        let chart = |(name, part): &(String, Part)| {
            let bars: Vec<Bar> = part.lengths.iter().map(|length| length.bar()).collect();
            histogram(&format!("{name}: tokens of an example, before truncation"), "examples", &bars)
        };
        self.parts.iter().filter_map(chart).collect()
    }

    /// What a reader should know of the data.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, part) in &self.parts {
            let share = part.truncated as f64 / part.examples.max(1) as f64;
            if share > MOST_TRUNCATED {
                found.push(format!(
                    "{name}: {} of the examples are longer than allowed and lost their end: a longer context keeps it",
                    percent(share)
                ));
            }
            if part.dropped > 0 {
                let dropped = counted(part.dropped, "example");
                found.push(format!(
                    "{name}: {dropped} of {} dropped for want of a target",
                    grouped(part.examples)
                ));
            }
        }
        if self.shared > 0 {
            let shared = counted(self.shared, "held-out example");
            found.push(format!(
                "{shared} trained on, too, so that the held-out loss does not tell learning from memorizing: hold out others"
            ));
        }
        let trained = self.parts.iter().find(|(name, _)| *name == title(TRAINING));
        let empty =
            trained.and_then(|(_, part)| part.others.get(EMPTY_ANSWERS)?.as_u64()).filter(|empty| *empty > 0);
        if let Some(empty) = empty {
            let empty = counted(empty, "example");
            found.push(format!("{empty} with an answer without text, which teaches to answer nothing"));
        }
        if trained.is_some_and(|(_, part)| part.others.get(END_TRAINED) == Some(&Value::from(0))) {
            found.push(
                "The end token is never trained, so that answers do not stop: allow longer examples, or check the chat template"
                    .to_owned(),
            );
        }
        found
    }
}

impl Part {
    fn cell(&self, key: &str) -> String {
        match key {
            "examples" => grouped(self.examples),
            "truncated" => grouped(self.truncated),
            "dropped" => grouped(self.dropped),
            _ => match self.others.get(key) {
                Some(Value::Number(number)) => number
                    .as_u64()
                    .map_or_else(|| format!("{:.4}", number.as_f64().unwrap_or(f64::NAN)), grouped),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => "–".to_owned(),
            },
        }
    }
}

impl Length {
    fn bar(self) -> Bar {
        Bar {
            from: if self.up_to > 1 { self.up_to / 2 + 1 } else { 0 },
            to: self.up_to,
            count: self.examples,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_columns_and_truncation_is_said() {
        let text = r#"{"train": {"examples": 1200, "truncated": 200, "dropped": 1, "tokens": 90000,
            "lengths": [{"up_to": 64, "examples": 1000}, {"up_to": 128, "examples": 200}]},
            "held_out": {"examples": 10, "truncated": 0, "dropped": 0}, "version": 1}"#;
        let parts = DataParts::parse(text).unwrap();
        let table = parts.table().unwrap();
        assert_eq!(table.heads, ["Count", "Train", "Held out"]);
        assert_eq!(table.rows[0], ["Examples", "1,200", "10"]);
        assert_eq!(table.rows[3], ["Tokens", "90,000", "–"]);
        assert_eq!(parts.histograms().len(), 1);
        let warnings = parts.warnings();
        assert!(warnings[0].starts_with("Train: 16.7% of the examples are longer"), "{warnings:?}");
        assert!(warnings[1].contains("1 example of 1,200 dropped"), "{warnings:?}");
    }

    #[test]
    fn empty_answers_and_held_out_examples_that_are_trained_on_are_said() {
        let text = r#"{"train": {"examples": 9, "empty_answers": 2}, "held_out": {"examples": 3, "empty_answers": 1},
            "held_out_in_training": 1}"#;
        let [shared, empty] = &DataParts::parse(text).unwrap().warnings()[..] else { panic!() };
        assert!(shared.starts_with("1 held-out example trained on, too"), "{shared}");
        assert!(empty.starts_with("2 examples with an answer without text"), "{empty}");
    }

    #[test]
    fn an_end_token_that_is_never_trained_is_said() {
        let warnings = |counts: &str| DataParts::parse(counts).unwrap().warnings();
        let [found] = &warnings(r#"{"train": {"examples": 9, "end_trained": 0}}"#)[..] else { panic!() };
        assert!(found.starts_with("The end token is never trained"), "{found}");
        // Not of examples that are only measured, nor where it is not counted.
        for fine in [
            r#"{"train": {"examples": 9, "end_trained": 1}, "held_out": {"examples": 1, "end_trained": 0}}"#,
            r#"{"train": {"examples": 9}}"#,
        ] {
            assert!(warnings(fine).is_empty(), "{fine}");
        }
    }

    #[test]
    fn what_is_no_count_is_an_error_with_its_part() {
        assert!(DataParts::parse("[]").is_err());
        let error = DataParts::parse(r#"{"train": {"examples": "many"}}"#).unwrap_err();
        assert!(error.starts_with("train: "), "{error}");
        assert!(DataParts::parse("{}").unwrap().table().is_none());
    }
}
