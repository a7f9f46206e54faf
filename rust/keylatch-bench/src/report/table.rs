//! The table on the terminal: a block a scenario, our rows first with their goals.

use std::fmt::Write as _;

use serde_json::Value;

use crate::goals::judge;
use crate::row::Row;
use crate::subjects::is_ours;

/// Returns a number with as many digits as a reader can use.
fn number(figure: f64) -> String {
    match figure {
        figure if figure.is_nan() => "-".into(),
        0.0 => "0".into(),
        figure if figure.abs() < 0.001 => format!("{figure:.1e}"),
        figure if figure.abs() < 0.1 => format!("{figure:.3}"),
        figure if figure.abs() < 100.0 => format!("{figure:.2}"),
        figure => {
            let digits = format!("{figure:.0}");
            let mut grouped = String::new();
            for (place, digit) in digits.char_indices() {
                if place > 0 && (digits.len() - place) % 3 == 0 {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
    }
}

fn underline(text: &str) -> String {
    "-".repeat(text.chars().count())
}

/// The heading of a run: the machine, and what the figures are multiples of.
pub(crate) fn heading(machine: &Value) -> String {
    let mut text = String::new();
    let title = "keylatch-bench";
    let _ = writeln!(text, "{title}\n{}", "=".repeat(title.len()));
    for (name, value) in machine.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(text, "{:<24}{value}", name.replace('_', " "));
    }
    let _ = writeln!(
        text,
        "\nA ratio is a multiple of the unit: one uncontended compare-and-swap and one release on a hot line,\n\
         measured in slices that take turns with the subject's. \"x parking_lot\" is a multiple of a pair on a bare\n\
         parking_lot::RwLock, measured in the same way. Times are those of the best slice."
    );
    text
}

/// The rows of one scenario: ours first, then the others from quick to slow.
pub(crate) fn block(name: &str, says: &str, columns: &[(&str, &str)], rows: &[Row]) -> String {
    let timed = [("ns", "ns"), ("ratio", "ratio"), ("allocs", "allocs")];
    let columns: Vec<_> = timed.iter().chain(columns).copied().collect();
    lay_out(name, says, &columns, &sorted(rows, "ratio"))
}

/// Returns the rows of a count: ours first, then the others from few to many.
pub(crate) fn counts(name: &str, says: &str, columns: &[(&str, &str)], rows: &[Row]) -> String {
    lay_out(name, says, columns, &sorted(rows, columns[0].0))
}

/// Rows in the order that they come in.
#[cfg(feature = "keylatch")]
pub(crate) fn series(name: &str, says: &str, columns: &[(&str, &str)], rows: &[Row]) -> String {
    lay_out(name, says, columns, &rows.iter().collect::<Vec<_>>())
}

/// Ours first, then the others, from small to large.
fn sorted<'a>(rows: &'a [Row], figure: &str) -> Vec<&'a Row> {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by(|one, other| {
        let place = |row: &Row| (!is_ours(&row.subject), row.figure(figure).unwrap_or(f64::INFINITY));
        let (one, other) = (place(one), place(other));
        one.0.cmp(&other.0).then(one.1.total_cmp(&other.1))
    });
    sorted
}

fn lay_out(name: &str, says: &str, columns: &[(&str, &str)], rows: &[&Row]) -> String {
    let shown: Vec<_> = columns.iter().filter(|(name, _)| rows.iter().any(|row| row.figure(name).is_some())).collect();

    let heading = shown.iter().map(|(_, heading)| (*heading).to_owned());
    let mut lines: Vec<Vec<String>> = vec![std::iter::once("subject".to_owned()).chain(heading).collect()];
    for row in rows {
        let figures = shown.iter().map(|(name, _)| row.figure(name).map_or_else(|| "-".into(), number));
        lines.push(std::iter::once(row.subject.clone()).chain(figures).collect());
    }
    let widths: Vec<usize> =
        (0..lines[0].len()).map(|column| lines.iter().map(|cells| cells[column].len()).max().unwrap_or(0)).collect();

    let title = format!("{name}: {says}");
    let mut text = format!("\n{title}\n{}\n", underline(&title));
    for (number, cells) in lines.iter().enumerate() {
        let _ = write!(text, "  {:<width$}", cells[0], width = widths[0]);
        for (cell, width) in cells.iter().zip(&widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        let row = number.checked_sub(1).map(|row| rows[row]);
        for (goal, verdict) in row.into_iter().flat_map(judge) {
            let _ = write!(text, "  [{}: {verdict}]", goal.says);
        }
        text.push('\n');
        if let Some(row) = row
            && !row.note.is_empty()
        {
            let _ = writeln!(text, "      {}", row.note);
        }
    }
    text
}

/// One line at the end: how many goals were reached, and which were not.
pub(crate) fn verdict(rows: &[Row]) -> String {
    let verdicts: Vec<_> =
        rows.iter().flat_map(|row| judge(row).map(move |(goal, verdict)| (row, goal, verdict))).collect();
    if verdicts.is_empty() {
        return String::new();
    }
    let reached = verdicts.iter().filter(|(_, _, verdict)| *verdict == "reached").count();
    let mut text = format!("\n{reached} of {} goals reached\n", verdicts.len());
    for (row, goal, verdict) in verdicts.iter().filter(|(_, _, verdict)| *verdict != "reached") {
        let _ = writeln!(text, "  {verdict}: {} {}: {}", row.subject, row.scenario, goal.says);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let cases = [(0.0, "0"), (0.000_02, "2.0e-5"), (0.05, "0.050"), (1.234, "1.23"), (1_234_567.8, "1,234,568")];
        for (figure, text) in cases {
            assert_eq!(number(figure), text);
        }
    }

    #[test]
    fn our_row_comes_first_with_its_goal() {
        let row = |subject, ratio| {
            let mut row =
                Row::new(subject, "same_key_shared").with("median_ns", 12.0).with("versus_parking_lot", ratio);
            row.ratio = ratio;
            row
        };
        let rows = [row("std", 1.5), row("keylatch", 3.5), row("saa", 1.1)];
        let text = block("same_key_shared", "one key", &[("median_ns", "median ns"), ("missing", "missing")], &rows);
        let lines: Vec<_> = text.lines().skip(3).collect();
        assert!(lines[1].contains("keylatch") && lines[1].contains("[at most 3.0 x parking_lot: missed]"));
        assert!(lines[2].contains("saa") && lines[3].contains("std"));
        assert!(!text.contains("missing"), "a column that no row fills is left out");
        assert!(verdict(&rows).contains("1 of 2 goals reached"));
    }
}
