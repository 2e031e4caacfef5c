//! The report as one page of HTML.

use super::{Report, plot};
use crate::ConvertError;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:64rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e3e3e3}th{border-bottom:2px solid #999}\
th:first-child,td:first-child,.last th:last-child,.last td:last-child{text-align:left}svg{max-width:100%;height:auto}\
tr.made td{font-weight:600}details{margin-top:2rem}summary{cursor:pointer;font-size:1.2rem;font-weight:600}";

/// The whole page, self-contained.
pub(super) fn page(report: &Report) -> Result<String, ConvertError> {
    let title = format!("{}: size and divergence", report.source);
    let made = report.trials.first().map_or("", |trial| trial.recipe.as_str());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n\
         <style>{STYLE}</style>\n<h1>{0}</h1>\n<p>{1}</p>\n{2}\n",
        escaped(&title),
        escaped(&report.explanation()),
        plot::draw(report)?,
    );
    table(&mut page, "last", &Report::HEADS, &report.rows(), Some(made));
    page.push_str(&format!("<details open><summary>Tensors of {}</summary>\n", escaped(made)));
    table(&mut page, "", &Report::TENSOR_HEADS, &report.tensors(), None);
    page.push_str("</details>\n</html>\n");
    Ok(page)
}

fn table<const N: usize>(
    page: &mut String,
    class: &str,
    heads: &[&str; N],
    rows: &[[String; N]],
    made: Option<&str>,
) {
    let cells = |name: &str, cells: &[String]| -> String {
        cells.iter().map(|cell| format!("<{name}>{}</{name}>", escaped(cell))).collect()
    };
    page.push_str(&format!(
        "<table class=\"{class}\">\n<tr>{}</tr>\n",
        cells("th", &heads.map(str::to_owned))
    ));
    for row in rows {
        let class = if made == Some(row[0].as_str()) { " class=\"made\"" } else { "" };
        page.push_str(&format!("<tr{class}>{}</tr>\n", cells("td", row)));
    }
    page.push_str("</table>\n");
}

/// Escapes names from files.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
