//! Tables, for a terminal and as Markdown.

use std::fmt::Write as _;

/// How tables are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Markdown,
}

/// A table with a title.
#[derive(Clone, Debug)]
pub(super) struct Table {
    title: String,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(title: impl Into<String>, header: &[&'static str]) -> Self {
        Self { title: title.into(), header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, with as many cells as the header has.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Nothing, where there are no rows.
    pub(super) fn print(&self, format: Format) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let header: Vec<String> = self.header.iter().map(ToString::to_string).collect();
        let mut text = String::new();
        let lines = std::iter::once(&header).chain(&self.rows);
        // Writing to a String cannot fail.
        match format {
            Format::Markdown => {
                let _ = writeln!(text, "### {}\n", self.title);
                for (number, line) in lines.enumerate() {
                    let cells: Vec<String> = line.iter().map(|cell| cell.replace('|', "\\|")).collect();
                    let _ = writeln!(text, "| {} |", cells.join(" | "));
                    if number == 0 {
                        let _ = writeln!(text, "|{}", "---|".repeat(header.len()));
                    }
                }
            }
            Format::Text => {
                let _ = writeln!(text, "{}", self.title);
                let widths: Vec<usize> = (0..header.len())
                    .map(|column| {
                        lines
                            .clone()
                            .filter_map(|line| line.get(column))
                            .map(|cell| cell.chars().count())
                            .max()
                            .unwrap_or(0)
                    })
                    .collect();
                for line in lines {
                    let cells: Vec<String> =
                        line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                    let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
                }
            }
        }
        text.push('\n');
        text
    }
}

/// What is not known is a dash, never 0.
pub(super) fn or_dash<T>(value: Option<T>, words: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "—".to_owned(), words)
}

/// A number with its thousands apart.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in MiB.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_have_every_cell() {
        let mut table = Table::new("Drain", &["publisher", "events/s"]);
        assert_eq!(table.print(Format::Text), "");
        table.row(["relay".to_owned(), thousands(123_456.7)]);
        table.row(["a|b".to_owned(), or_dash(None::<f64>, thousands)]);
        assert_eq!(
            table.print(Format::Text),
            "Drain\n  publisher  events/s\n  relay      123,457\n  a|b        —\n\n"
        );
        assert_eq!(
            table.print(Format::Markdown),
            "### Drain\n\n| publisher | events/s |\n|---|---|\n| relay | 123,457 |\n| a\\|b | — |\n\n"
        );
    }

    #[test]
    fn thousands_are_apart() {
        for (value, text) in [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(thousands(value), text);
        }
    }
}
