//! One value: a number, a time, a text. People read it in a table, programs as JSON.

use serde_json::{Value, json};

const MS_PER_DAY: i64 = 86_400_000;

/// Of a key or value, people see so much. JSON has all of it. Bytes.
const SHOWN_BYTES: usize = 120;

/// A value of a report.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// There is none.
    Absent,
    /// A count, an offset, a size.
    Number(i128),
    /// A checksum.
    Checksum(u32),
    /// Milliseconds since 1970; -1 for none.
    Time(i64),
    /// Our own words, or text that was checked to be harmless.
    Text(String),
    /// Bytes that a client chose.
    Bytes(Vec<u8>),
    /// Several texts.
    List(Vec<String>),
    /// Yes or no.
    Flag(bool),
    /// The headers of a record.
    Headers(Vec<(Vec<u8>, Option<Vec<u8>>)>),
}

impl Cell {
    /// A text.
    pub(super) fn text(text: impl ToString) -> Cell {
        Cell::Text(text.to_string())
    }

    /// A cell of what may be missing.
    pub(super) fn of<T: Into<Cell>>(value: Option<T>) -> Cell {
        value.map_or(Cell::Absent, T::into)
    }

    /// Numbers stand at the right of their column.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Cell::Number(_))
    }

    /// For people. Nothing in it can move a terminal's cursor.
    pub(super) fn human(&self) -> String {
        match self {
            Cell::Absent | Cell::Time(-1) => "-".to_owned(),
            Cell::Number(number) => number.to_string(),
            Cell::Checksum(sum) => format!("{sum:08x}"),
            Cell::Time(ms) => time(*ms),
            Cell::Text(text) => text.clone(),
            Cell::Bytes(bytes) => quoted(bytes),
            Cell::List(items) if items.is_empty() => "-".to_owned(),
            Cell::List(items) => items.join(", "),
            Cell::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Cell::Headers(headers) => {
                let value = |value: &Option<Vec<u8>>| value.as_ref().map_or("-".to_owned(), |v| quoted(v));
                let headers: Vec<String> =
                    headers.iter().map(|(name, v)| format!("{}={}", quoted(name), value(v))).collect();
                if headers.is_empty() { "-".to_owned() } else { headers.join(" ") }
            }
        }
    }

    /// For programs: nothing is left out or rounded. Bytes that are no text are an object with their hexadecimal digits.
    pub(super) fn json(&self) -> Value {
        match self {
            Cell::Absent => Value::Null,
            Cell::Number(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => json!(number),
                (_, Ok(number)) => json!(number),
                _ => json!(number.to_string()),
            },
            Cell::Checksum(sum) => json!(format!("{sum:08x}")),
            Cell::Time(ms) => json!(ms),
            Cell::Text(text) => json!(text),
            Cell::Bytes(bytes) => bytes_json(bytes),
            Cell::List(items) => json!(items),
            Cell::Flag(flag) => json!(flag),
            Cell::Headers(headers) => headers
                .iter()
                .map(|(name, value)| json!([bytes_json(name), value.as_ref().map(|value| bytes_json(value))]))
                .collect(),
        }
    }
}

impl From<Vec<u8>> for Cell {
    fn from(bytes: Vec<u8>) -> Cell {
        Cell::Bytes(bytes)
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl From<$type> for Cell {
            fn from(number: $type) -> Cell {
                Cell::Number(number.into())
            }
        }
    )*};
}

numbers!(i16, i32, i64, u16, u32, u64);

/// The length of something in memory or in a list.
pub(super) fn count(count: usize) -> Cell {
    Cell::Number(i128::try_from(count).expect("a length fits"))
}

fn quoted(bytes: &[u8]) -> String {
    let more = bytes.len().saturating_sub(SHOWN_BYTES);
    let more = if more == 0 { String::new() } else { format!("+{more} bytes") };
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{:?}{more}", &text[..text.floor_char_boundary(SHOWN_BYTES)]),
        Err(_) => format!("b\"{}\"{more}", bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii()),
    }
}

fn bytes_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
    }
}

/// A time of day in UTC, in the form of RFC 3339. What no calendar reaches stays a number.
fn time(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY));
    let Some((year, month, day)) = date(days) else { return format!("{ms} ms") };
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The day that lies so many days after 1970-01-01, in the Gregorian calendar, for the years 0 to 9999.
fn date(days: i64) -> Option<(i64, i64, i64)> {
    const YEAR_ZERO: i64 = -719_528;
    if !(YEAR_ZERO..2_932_897).contains(&days) {
        return None;
    }
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut rest = days - YEAR_ZERO;
    // 400 years have as many days wherever they begin, so what is left to count is little.
    let (mut year, days_of_400) = (rest / 146_097 * 400, 146_097);
    rest %= days_of_400;
    while rest >= 365 + i64::from(is_leap(year)) {
        rest -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    Some((year, i64::try_from(month).ok()? + 1, rest + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_007, "2023-11-14T22:13:20.007Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (-1_001, "1969-12-31T23:59:58.999Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "253402300800000 ms"),
            (i64::MIN, "-9223372036854775808 ms"),
        ] {
            assert_eq!(time(ms), text);
        }
        assert_eq!(Cell::Time(-1).human(), "-");
    }

    #[test]
    fn what_clients_chose_cannot_reach_the_terminal() {
        assert_eq!(Cell::Bytes(b"\x1b[2J\xe2\x80\xae".to_vec()).human(), "\"\\u{1b}[2J\\u{202e}\"");
        assert_eq!(Cell::Bytes(b"\x1b\xff".to_vec()).human(), "b\"\\x1b\\xff\"");
        assert_eq!(
            Cell::Bytes("ä".repeat(100).into_bytes()).human(),
            format!("{:?}+80 bytes", "ä".repeat(60))
        );
    }

    #[test]
    fn json_leaves_nothing_out() {
        assert_eq!(Cell::Bytes(vec![0xff; 200]).json(), json!({"hex": "ff".repeat(200)}));
        assert_eq!(Cell::Number(u64::MAX.into()).json(), json!(u64::MAX));
        let headers = Cell::Headers(vec![(b"h".to_vec(), None), (b"h".to_vec(), Some(b"v".to_vec()))]);
        assert_eq!(headers.json(), json!([["h", null], ["h", "v"]]));
        assert_eq!(headers.human(), "\"h\"=- \"h\"=\"v\"");
    }
}
