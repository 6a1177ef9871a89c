//! The configuration file: TOML, with keys dotted or nested as one likes.
//!
//! `log.segment.bytes = 1`, `[log.segment]` with `bytes = 1`, and `"log.segment.bytes" = 1` all mean one key.
//! Numbers and booleans may also stand in quotes, as they do in files that come from Kafka.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{Error, Key, Kind, Origin, Values, keys};

/// The largest file that is read; every key with its longest sensible value takes a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file at `path` over what `values` has.
pub fn read_file(path: &Path, values: &mut Values) -> Result<(), Error> {
    let text = read_text(path).map_err(|reason| Error::Unreadable { path: path.to_owned(), reason })?;
    read(path, &text, values)
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read the file".to_owned(),
        _ => format!("cannot be opened: {error}"),
    })?;
    let metadata = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.is_dir() {
        return Err("this is a folder; a file is needed".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("longer than 1MiB, so hardly a configuration".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
        format!("line {line} is not UTF-8 text")
    })
}

fn read(path: &Path, text: &str, values: &mut Values) -> Result<(), Error> {
    let line = |offset| line_at(text.as_bytes(), offset);
    let table = DeTable::parse(text).map_err(|error| {
        let place = error.span().map(|span| format!("line {} is ", line(span.start))).unwrap_or_default();
        let message = error.message().trim_end().replace('\n', ", ");
        Error::Unreadable { path: path.to_owned(), reason: format!("{place}not TOML: {message}") }
    })?;
    let mut settings = Vec::new();
    flatten(table.get_ref(), "", &mut settings);
    settings.sort_by_key(|setting| setting.offset);
    for Setting { offset, name, value } in settings {
        let origin = Origin::File { path: path.display().to_string(), line: line(offset) };
        let key = keys::find(&name).ok_or_else(|| Error::no_such_key(&name, origin.clone()))?;
        let text = value_text(key, value)
            .map_err(|(shown, reason)| Error::bad_value(key, &shown, origin.clone(), reason.to_owned()))?;
        values.set_key(key, &text, origin)?;
    }
    Ok(())
}

/// One setting of the file, wherever it was nested.
struct Setting<'a> {
    offset: usize,
    name: String,
    value: &'a DeValue<'a>,
}

/// Joins nested names with dots. The parser limits how deep tables nest.
fn flatten<'a>(table: &'a DeTable<'a>, prefix: &str, settings: &mut Vec<Setting<'a>>) {
    for (key, value) in table.iter() {
        let name = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            // A section that is known but empty says nothing; an unknown one is an unknown key.
            DeValue::Table(inner)
                if keys::find(&name).is_none() && (!inner.is_empty() || is_section(&name)) =>
            {
                flatten(inner, &format!("{name}."), settings);
            }
            value => settings.push(Setting { offset: Spanned::span(key).start, name, value }),
        }
    }
}

fn is_section(name: &str) -> bool {
    keys::ALL.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The value as one would write it on the command line, or how it is shown and what is wrong with its type.
fn value_text(key: &Key, value: &DeValue<'_>) -> Result<String, (String, &'static str)> {
    match value {
        DeValue::Array(items) if key.kind.is_list() => {
            let texts: Result<Vec<String>, _> =
                items.iter().map(|item| scalar_text(key, item.get_ref())).collect();
            Ok(texts?.join(","))
        }
        value => scalar_text(key, value),
    }
}

fn scalar_text(key: &Key, value: &DeValue<'_>) -> Result<String, (String, &'static str)> {
    let shown = match value {
        DeValue::String(text) => return Ok(text.clone().into_owned()),
        DeValue::Integer(number) => decimal(number.as_str(), number.radix()),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => return Err(("[...]".to_owned(), "an array")),
        DeValue::Table(_) => return Err(("{...}".to_owned(), "a table")),
    };
    // Any text would do for a path, so a number in its place would pass unseen.
    if key.kind == Kind::Directory { Err((shown, "not in quotes")) } else { Ok(shown) }
}

/// TOML writes numbers to several bases; what no i128 holds is left as it is and refused by the key's kind.
fn decimal(digits: &str, radix: u32) -> String {
    i128::from_str_radix(digits, radix).map_or_else(|_| digits.to_owned(), |number| number.to_string())
}

/// The line that a byte is in, counted from 1.
fn line_at(bytes: &[u8], offset: usize) -> usize {
    1 + bytes[..offset.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CpuId;
    use crate::config::Cpus;

    fn values(text: &str) -> Result<Values, String> {
        let mut values = Values::default();
        read(Path::new("c.toml"), text, &mut values).map_err(|error| error.to_string())?;
        Ok(values)
    }

    #[test]
    fn dotted_nested_and_quoted_keys_are_one_key() {
        for text in [
            "log.segment.bytes = 2097152",
            "[log]\nsegment.bytes = 2_097_152",
            "[log.segment]\nbytes = 0x200000",
            "\"log.segment.bytes\" = \"2097152\"",
            "log = { segment = { bytes = 2097152 } }",
        ] {
            assert_eq!(values(text).unwrap().integer::<u32>(&keys::LOG_SEGMENT_BYTES), 2_097_152, "{text}");
        }
        for text in [
            "corelane.flush.method = 'auto'",
            "[corelane]\nflush.method = 'auto'",
            "[corelane.flush]\nmethod='auto'",
        ] {
            assert_eq!(values(text).unwrap().text(&keys::FLUSH_METHOD), "auto", "{text}");
        }
    }

    #[test]
    fn lists_may_be_arrays() {
        let three = Cpus::These([0, 1, 3].map(CpuId).into());
        for text in
            ["[corelane]\ncpus = [0, 1, 3]", "[corelane]\ncpus = ['0-1', 3]", "[corelane]\ncpus = '0,1,3'"]
        {
            assert_eq!(*values(text).unwrap().cpus(&keys::CPUS), three, "{text}");
        }
        assert_eq!(values("log.dirs = ['a']").unwrap().text(&keys::LOG_DIRS), "a");
    }

    #[test]
    fn an_empty_file_or_section_says_nothing() {
        for text in ["", "# nothing\n", "[corelane]\n", "[log.segment]\n"] {
            assert_eq!(values(text), Ok(Values::default()));
        }
    }

    #[test]
    fn errors_name_the_line_and_come_in_its_order() {
        for (text, message) in [
            ("\n\nzzz.zzz = 1\naaa.aaa = 2\n", "c.toml:3: unknown key `zzz.zzz`"),
            ("[nothing]\n", "c.toml:1: unknown key `nothing`"),
            ("log = 5\n", "c.toml:1: unknown key `log`"),
            (
                "log.dirs = 5",
                "c.toml:1: `log.dirs` = `5`: not in quotes; allowed: the path of exactly one directory",
            ),
            (
                "node.id = []",
                "c.toml:1: `node.id` = `[...]`: an array; allowed: a whole number from 0 to 2147483647",
            ),
            (
                "[node.id]",
                "c.toml:1: `node.id` = `{...}`: a table; allowed: a whole number from 0 to 2147483647",
            ),
            ("node.id = 1\n\"node.id\" = 2", "`node.id` is given twice: c.toml:1 and c.toml:2"),
            (
                "node.id = \n",
                "c.toml: line 1 is not TOML: string values must be quoted, expected literal string",
            ),
        ] {
            assert_eq!(values(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_byte_that_is_not_utf8_names_its_line() {
        assert_eq!(line_at(b"a\nb\nc", 4), 3);
        assert_eq!(line_at(b"", 9), 1);
    }
}
