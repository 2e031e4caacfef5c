//! The report in Markdown.

use super::Report;

/// Headings, tables and an explanation.
pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "# {}: size and divergence\n\n{}\n\n",
        escaped(&report.source),
        escaped(&report.explanation())
    );
    table(&mut page, &Report::HEADS, &report.rows());
    if let Some(first) = report.trials.first() {
        page.push_str(&format!("\n## Tensors of {}\n\n", escaped(&first.recipe)));
        table(&mut page, &Report::TENSOR_HEADS, &report.tensors());
    }
    page
}

fn table<const N: usize>(page: &mut String, heads: &[&str; N], rows: &[[String; N]]) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    page.push_str(&line(&heads.map(str::to_owned)));
    page.push_str(&line(&[(); N].map(|()| "---".to_owned())));
    for row in rows {
        page.push_str(&line(&row.clone().map(|cell| escaped(&cell))));
    }
}

/// Escapes names from files.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}
