//! The table of results, in Markdown.

use std::fmt;

use crate::paired::Pairs;

const HEADINGS: [&str; 5] = ["measure", "figure", "beside", "ratio", "target"];

/// Rows of five cells.
#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 5]>,
}

impl Table {
    /// Adds a row, and says on the error output that it is there.
    pub fn add(&mut self, measure: String, figure: String, beside: String, ratio: String, asked: &str) {
        eprintln!("{measure}: {figure}");
        self.rows.push([measure, figure, beside, ratio, asked.to_owned()]);
    }

    /// Adds a row that compares the throughput of two sides.
    pub fn add_throughput(&mut self, measure: String, their_name: &str, pairs: &Pairs, asked: &str) {
        self.add(
            measure,
            format!("{:.1} texts/s", 1.0 / pairs.seconds()),
            format!("{their_name} {:.1} texts/s", 1.0 / pairs.seconds_beside()),
            format!("{:.2} ×", pairs.ratio()),
            asked,
        );
    }

    /// Adds a row that compares the processor time that two sides spent on a text.
    pub fn add_processor_time(&mut self, measure: String, their_name: &str, pairs: &Pairs) {
        self.add(
            measure,
            format!("{:.1} ms", pairs.seconds() * 1e3),
            format!("{their_name} {:.1} ms", pairs.seconds_beside() * 1e3),
            format!("{:.2} ×", pairs.ratio()),
            "",
        );
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let headings = HEADINGS.map(str::to_owned);
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&headings]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths = [0, 1, 2, 3, 4].map(width);
        let mut line = |cells: &[String; 5]| {
            for (cell, width) in cells.iter().zip(widths) {
                write!(formatter, "| {cell:<width$} ")?;
            }
            writeln!(formatter, "|")
        };
        line(&headings)?;
        line(&widths.map(|width| "-".repeat(width)))?;
        self.rows.iter().try_for_each(line)
    }
}
