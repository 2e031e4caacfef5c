//! The parts of the page as the template reads them: text that it escapes, never markup.

use serde::Serialize;

/// A table with a heading for each column; the first cell of a row names the row.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TableView {
    pub(super) caption: String,
    pub(super) heads: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl TableView {
    /// The table; none without rows.
    pub(super) fn of(caption: &str, heads: &[&str], rows: Vec<Vec<String>>) -> Option<TableView> {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        (!rows.is_empty()).then(|| TableView { caption: caption.to_owned(), heads, rows })
    }
}

/// A labelled value.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Fact {
    label: String,
    value: String,
    /// A smaller line below the value.
    note: Option<String>,
}

impl Fact {
    pub(super) fn new(label: &str, value: impl Into<String>) -> Fact {
        Fact { label: label.to_owned(), value: value.into(), note: None }
    }

    pub(super) fn with_note(self, note: impl Into<String>) -> Fact {
        Fact { note: Some(note.into()), ..self }
    }
}

/// A share in percent: `3.4%`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// `1 step`, `1,200 steps`.
pub(super) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", crate::units::grouped(number), if number == 1 { "" } else { "s" })
}

/// A name in snake_case as a title: `token_accuracy` becomes `Token accuracy`.
pub(super) fn title(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut characters = words.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}
