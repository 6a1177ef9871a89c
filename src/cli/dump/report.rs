//! What is found, written as it is found: facts, rows of tables, notes and damage; for people, or one JSON object a line.
//!
//! Tables are streamed. Their rows are gathered a few hundred at a time, so that columns are as wide as what stands in
//! them, and a column never gets narrower. A note or a damage stands where it was found, between the rows. Methods fail
//! only when the output cannot be written. The report does not know what any of it means.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value};

use super::cell::Cell;

/// Lines that are gathered before they are written.
const LINES_GATHERED: usize = 256;

/// A kind of row. Two tables may take turns, one inside the other: a batch and its records.
#[derive(Debug)]
pub(super) struct Table {
    /// What JSON calls a row.
    pub(super) kind: &'static str,
    /// Each column, in words joined by `_`.
    pub(super) columns: &'static [&'static str],
    /// Columns that only JSON has, because people see them from the place of the row.
    pub(super) more: &'static [&'static str],
    /// How far rows are moved to the right.
    pub(super) indent: usize,
}

/// What is known of the columns of a table that was begun.
struct Columns {
    kind: &'static str,
    widths: Vec<usize>,
    /// Whether a column holds numbers, which stand at its right, as its heading does.
    right: Vec<bool>,
}

enum Line {
    Row(&'static Table, Vec<Cell>),
    Text(String),
}

/// Where everything goes that a dump finds.
pub(super) struct Report<'o> {
    out: Box<dyn Write + 'o>,
    json: bool,
    file: String,
    /// What findings are about, where this is only a part of what the report's file is.
    part: Option<String>,
    lines: Vec<Line>,
    /// The tables whose headings were written since the last facts.
    tables: Vec<Columns>,
    /// The outer of the tables that take turns.
    outer: Option<&'static str>,
    damages: u64,
    unreadable: u64,
    is_first: bool,
}

impl<'o> Report<'o> {
    /// A report to `out`.
    pub(super) fn new(out: Box<dyn Write + 'o>, json: bool) -> Report<'o> {
        let (file, lines, tables) = (String::new(), Vec::new(), Vec::new());
        Report {
            out,
            json,
            file,
            part: None,
            lines,
            tables,
            outer: None,
            damages: 0,
            unreadable: 0,
            is_first: true,
        }
    }

    /// What comes is about this file, which is a `what`.
    pub(super) fn file(&mut self, path: &Path, what: &str) -> io::Result<()> {
        self.flush_lines()?;
        self.tables.clear();
        self.file = path.display().to_string();
        self.part = None;
        if self.json {
            return Ok(());
        }
        let gap = if std::mem::take(&mut self.is_first) { "" } else { "\n" };
        writeln!(self.out, "{gap}{}: {what}", self.file)
    }

    /// The findings that come are about one file of the directory that the report is about; or about all of it again.
    pub(super) fn about(&mut self, part: Option<&Path>) {
        self.part = part.map(|part| part.display().to_string());
    }

    /// Things that are said once.
    pub(super) fn facts(&mut self, kind: &'static str, facts: Vec<(&'static str, Cell)>) -> io::Result<()> {
        self.flush_lines()?;
        if !self.tables.is_empty() && !self.json {
            writeln!(self.out)?;
        }
        self.tables.clear();
        if self.json {
            return self.object(kind, facts.iter().map(|(name, cell)| (*name, cell.json())));
        }
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, cell) in facts {
            writeln!(self.out, "  {:width$}  {}", name.replace('_', " "), cell.human())?;
        }
        Ok(())
    }

    /// One row: a cell for each of the table's columns, then one for each that only JSON has.
    pub(super) fn row(&mut self, table: &'static Table, cells: Vec<Cell>) -> io::Result<()> {
        assert_eq!(
            cells.len(),
            table.columns.len() + table.more.len(),
            "a cell for each column of {}",
            table.kind
        );
        if self.json {
            let names = table.columns.iter().chain(table.more).copied();
            return self.object(table.kind, names.zip(cells.iter().map(Cell::json)));
        }
        let outer = self.outer.filter(|_| table.indent == 0);
        if outer.is_some_and(|outer| outer != table.kind) {
            self.flush_lines()?;
            self.tables.clear();
        }
        self.outer = if table.indent == 0 { Some(table.kind) } else { self.outer };
        self.line(Line::Row(table, cells))
    }

    /// Something worth knowing that is no damage.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        if self.json {
            return self.object("note", [("text", Value::from(text))]);
        }
        let about = self.part.as_ref().map(|part| format!("{part}: ")).unwrap_or_default();
        self.line(Line::Text(format!("note: {about}{text}")))
    }

    /// Something is not as it was written. `position`, in bytes from the file's start, is where this was noticed.
    pub(super) fn damage(&mut self, position: Option<u64>, reason: &str) -> io::Result<()> {
        self.damages += 1;
        if self.json {
            let position = position.map_or(Value::Null, Value::from);
            return self.object("damage", [("position", position), ("reason", Value::from(reason))]);
        }
        let within = self.part.as_ref().map(|part| format!(" in {part}")).unwrap_or_default();
        let at = position.map(|position| format!(" at byte {position}")).unwrap_or_default();
        self.line(Line::Text(format!("DAMAGE{within}{at}: {reason}")))
    }

    /// A file that should be read cannot be.
    pub(super) fn unreadable(&mut self, path: &Path, reason: &str) -> io::Result<()> {
        self.unreadable += 1;
        if self.json {
            let path = Value::from(path.display().to_string());
            return self.object("unreadable", [("path", path), ("reason", Value::from(reason))]);
        }
        self.line(Line::Text(format!("UNREADABLE {}: {reason}", path.display())))
    }

    /// How many damages were told, and how many files that cannot be read.
    pub(super) fn troubles(&self) -> (u64, u64) {
        (self.damages, self.unreadable)
    }

    /// Writes what was gathered.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.flush_lines()?;
        self.out.flush()
    }

    fn object<'n>(
        &mut self,
        kind: &str,
        fields: impl IntoIterator<Item = (&'n str, Value)>,
    ) -> io::Result<()> {
        let mut object = Map::new();
        object.insert("kind".to_owned(), kind.into());
        object.insert("file".to_owned(), self.part.as_ref().unwrap_or(&self.file).as_str().into());
        object.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        writeln!(self.out, "{}", Value::Object(object))
    }

    fn line(&mut self, line: Line) -> io::Result<()> {
        self.lines.push(line);
        if self.lines.len() >= LINES_GATHERED { self.flush_lines() } else { Ok(()) }
    }

    fn flush_lines(&mut self) -> io::Result<()> {
        let lines = std::mem::take(&mut self.lines);
        let mut begun = Vec::new();
        for line in &lines {
            if let Line::Row(table, cells) = line
                && self.widen(table, cells)
            {
                begun.push(*table);
            }
        }
        // Where tables take turns, their headings stand above the first row, one below the other as their rows will.
        for table in begun {
            let titles = table.columns.iter().map(|column| column.replace('_', " ")).collect();
            let gap = if table.indent == 0 { "\n" } else { "" };
            let line = self.aligned(table, titles);
            writeln!(self.out, "{gap}{line}")?;
        }
        for line in lines {
            let line = match line {
                Line::Row(table, cells) => {
                    self.aligned(table, shown(table, &cells).map(Cell::human).collect())
                }
                Line::Text(text) => format!("  {text}"),
            };
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// Makes the columns as wide as these cells; whether the table is a new one.
    fn widen(&mut self, table: &'static Table, cells: &[Cell]) -> bool {
        let lengths = shown(table, cells).map(|cell| cell.human().chars().count());
        if let Some(known) = self.tables.iter_mut().find(|known| known.kind == table.kind) {
            known.widths.iter_mut().zip(lengths).for_each(|(width, length)| *width = length.max(*width));
            known.right.iter_mut().zip(cells).for_each(|(right, cell)| *right |= cell.is_number());
            return false;
        }
        let widths =
            table.columns.iter().zip(lengths).map(|(column, length)| length.max(column.len())).collect();
        let right = shown(table, cells).map(Cell::is_number).collect();
        self.tables.push(Columns { kind: table.kind, widths, right });
        true
    }

    fn aligned(&self, table: &'static Table, texts: Vec<String>) -> String {
        let known = self.tables.iter().find(|known| known.kind == table.kind).expect("rows widen first");
        let mut line = " ".repeat(2 + table.indent);
        for ((text, width), right) in texts.iter().zip(&known.widths).zip(&known.right) {
            let cell = if *right { format!("{text:>width$}  ") } else { format!("{text:width$}  ") };
            line.push_str(&cell);
        }
        line.trim_end().to_owned()
    }
}

/// The cells that people see.
fn shown<'c>(table: &Table, cells: &'c [Cell]) -> impl Iterator<Item = &'c Cell> {
    cells[..table.columns.len()].iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    static OUTER: Table =
        Table { kind: "batch", columns: &["position", "codec"], more: &["file_of"], indent: 0 };
    static INNER: Table = Table { kind: "record", columns: &["key"], more: &[], indent: 4 };

    fn sample(json: bool) -> String {
        let mut out = Vec::new();
        let mut report = Report::new(Box::new(&mut out), json);
        report.file(Path::new("a"), "segment").unwrap();
        report.facts("segment", vec![("bytes", Cell::Number(7)), ("in_use", Cell::Flag(false))]).unwrap();
        report.row(&OUTER, vec![0i32.into(), Cell::text("none"), Cell::Absent]).unwrap();
        report.row(&INNER, vec![Cell::Bytes(b"k".to_vec())]).unwrap();
        report.damage(Some(61), "its checksum is wrong").unwrap();
        report.row(&OUTER, vec![1_234_567_890i64.into(), Cell::text("lz4"), Cell::Absent]).unwrap();
        report.note("that is all").unwrap();
        assert_eq!(report.troubles(), (1, 0));
        report.finish().unwrap();
        drop(report);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_get_aligned_tables_with_findings_in_place() {
        let expected = "a: segment\n  bytes   7\n  in use  no\n\n    position  codec\n      key\n           0  none\n      \
            \"k\"\n  DAMAGE at byte 61: its checksum is wrong\n  1234567890  lz4\n  note: that is all\n";
        assert_eq!(sample(false), expected);
    }

    #[test]
    fn tables_that_follow_each_other_have_their_headings_above_their_rows() {
        static SECOND: Table = Table { kind: "second", columns: &["a_b"], more: &[], indent: 0 };
        let mut out = Vec::new();
        let mut report = Report::new(Box::new(&mut out), false);
        report.row(&OUTER, vec![1i32.into(), Cell::Absent, Cell::Absent]).unwrap();
        report.row(&SECOND, vec![2i32.into()]).unwrap();
        report.facts("end", vec![("x", Cell::Absent)]).unwrap();
        drop(report);
        let expected = "\n  position  codec\n         1  -\n\n  a b\n    2\n\n  x  -\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn programs_get_one_object_a_line() {
        let lines: Vec<Value> =
            sample(true).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["segment", "batch", "record", "damage", "batch", "note"]);
        assert_eq!(lines[3]["position"], 61);
        assert_eq!(
            (&lines[4]["position"], &lines[4]["file_of"]),
            (&Value::from(1_234_567_890), &Value::Null)
        );
        assert!(lines.iter().all(|line| line["file"] == "a"));
    }
}
