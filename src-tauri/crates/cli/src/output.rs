//! What is printed where: results on standard output, remarks and errors on standard error; with `--json` all of it is JSON
//! on standard output.

use domain::ApiError;
use serde::Serialize;
use std::io::{IsTerminal, Write, stderr, stdout};

/// How this run prints.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    pub json: bool,
    pub quiet: bool,
}

impl Printer {
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// A result: the object itself with `--json`, else the words for it.
    pub fn result(&self, value: &impl Serialize, words: impl FnOnce() -> String) {
        if self.json {
            self.json_line(value);
        } else {
            self.text(&words());
        }
    }

    /// One JSON object on a line of its own.
    pub fn json_line(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(json) => print(&format!("{json}\n")),
            Err(error) => self.error(&ApiError::internal(error)),
        }
    }

    /// Text on standard output, with a line end.
    pub fn text(&self, text: &str) {
        print(&format!("{}\n", text.trim_end_matches('\n')));
    }

    /// Part of a line, at once.
    pub fn piece(&self, text: &str) {
        print(text);
    }

    /// A remark for a person; not a result.
    pub fn remark(&self, text: &str) {
        if !self.json && !self.quiet {
            let _ = writeln!(stderr(), "{text}");
        }
    }

    pub fn error(&self, error: &ApiError) {
        if self.json {
            print(&format!("{}\n", serde_json::json!({ "error": error })));
            return;
        }
        let mut lines = vec![format!("error: {}", error.message)];
        if error.detail.len() > 1 {
            lines.extend(error.detail.iter().map(|fault| format!("  {}: {}", fault.field, fault.message)));
        }
        lines.extend(error.hint.iter().map(|hint| format!("hint: {hint}")));
        let _ = writeln!(stderr(), "{}", lines.join("\n"));
    }

    /// Whether a person watches standard output.
    pub fn watched(&self) -> bool {
        !self.json && stdout().is_terminal()
    }

    /// Whether a progress bar makes sense.
    pub fn bars(&self) -> bool {
        !self.json && !self.quiet && stderr().is_terminal()
    }
}

/// A closed pipe (`inkling runs | head -1`) is no error of ours.
fn print(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Lines with columns as wide as their widest cell; the last column is not padded.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = widths[column]));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A name in JSON (`not_now`, `completed`) of a value that has one.
pub fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// `75` is "1 min 15 s".
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) if seconds < 10.0 => format!("{:.1} s", seconds.max(0.0)),
        (0, 0, rest) => format!("{rest} s"),
        (0, minutes, rest) => format!("{minutes} min {rest} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_end_without_spaces() {
        let rows = [["a", "long one", "x"], ["bcd", "b", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "a    long one  x\nbcd  b");
    }

    #[test]
    fn durations_are_read_by_people() {
        assert_eq!([0.26, 42.4, 75.0, 7300.0].map(duration), ["0.3 s", "42 s", "1 min 15 s", "2 h 1 min"]);
    }
}
