//! The types of values: what each allows, how it is read from text, and how it is written as Kafka prints it.

use std::fmt;

use crate::config::{Address, Cpus, Listener, Spin};

/// Sizes of Corelane's own keys are whole blocks of this many bytes, as direct I/O needs them.
const BLOCK_BYTES: u64 = 4096;

/// The longest path that Linux takes.
const PATH_BYTES_MAX: usize = 4095;

/// What the values of a key are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A number that Kafka calls an int.
    Int {
        /// The smallest value.
        min: i64,
        /// The largest value.
        max: i64,
    },
    /// A number that Kafka calls a long.
    Long {
        /// The smallest value.
        min: i64,
        /// The largest value.
        max: i64,
    },
    /// A number of bytes that may carry a unit and is a multiple of 4096. Kafka's own keys take plain numbers.
    Size {
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The path of one directory; Kafka's type is a list.
    Directory,
    /// `NAME://host:port`, several with commas.
    Listeners,
    /// `host:port`.
    Address,
    /// `all`, or a list such as `0-3,6`.
    Cpus,
    /// `park`, a time such as `50us`, or `always`.
    Spin,
}

/// A value that its kind allows. Its `Display` is what DescribeConfigs prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Boolean`].
    Boolean(bool),
    /// Of [`Kind::Int`] and [`Kind::Long`].
    Integer(i64),
    /// Of [`Kind::Size`].
    Size(u64),
    /// Of [`Kind::OneOf`] and [`Kind::Directory`].
    Text(String),
    /// Of [`Kind::Listeners`].
    Listeners(Vec<Listener>),
    /// Of [`Kind::Address`].
    Address(Address),
    /// Of [`Kind::Cpus`].
    Cpus(Cpus),
    /// Of [`Kind::Spin`].
    Spin(Spin),
}

/// Kafka's types of settings, as far as they occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// Several values with commas.
    List,
}

impl ValueType {
    /// Its number in DescribeConfigs responses (KIP-569).
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::List => 7,
        }
    }
}

impl Kind {
    /// Reads a value; the error says what is wrong with it, not what would be right: that is [`Kind::allowed`].
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        match self {
            Self::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => Err("neither true nor false".to_owned()),
            },
            Self::Int { min, max } | Self::Long { min, max } => {
                parse_integer(text, min, max).map(Value::Integer)
            }
            Self::Size { min, max } => parse_size(text, min, max).map(Value::Size),
            Self::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::OneOf(_) => Err("not one of the words".to_owned()),
            Self::Directory => parse_directory(text).map(Value::Text),
            Self::Listeners => Listener::parse_list(text).map(Value::Listeners),
            Self::Address => Address::parse(text).map(Value::Address),
            Self::Cpus => Cpus::parse(text).map(Value::Cpus),
            Self::Spin => Spin::parse(text).map(Value::Spin),
        }
    }

    /// What values are allowed, in words.
    pub fn allowed(self) -> String {
        match self {
            Self::Boolean => "true or false".to_owned(),
            Self::Int { min, max } | Self::Long { min, max } => format!("a whole number from {min} to {max}"),
            Self::Size { min, max } => {
                format!("a multiple of 4KiB from {} to {}, such as 64MiB", size_text(min), size_text(max))
            }
            Self::OneOf(words) => words.join(" or "),
            Self::Directory => "the path of exactly one directory".to_owned(),
            Self::Listeners => "NAME://host:port, several with commas".to_owned(),
            Self::Address => "host:port".to_owned(),
            Self::Cpus => "all, or a list of CPUs such as 0-3,6".to_owned(),
            Self::Spin => "park, a time such as 50us, or always".to_owned(),
        }
    }

    /// What stands for the value in the help text.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Boolean => "BOOL",
            Self::Int { .. } | Self::Long { .. } => "NUMBER",
            Self::Size { .. } => "SIZE",
            Self::OneOf(_) => "WORD",
            Self::Directory => "DIRECTORY",
            Self::Listeners => "LISTENERS",
            Self::Address => "HOST:PORT",
            Self::Cpus => "CPUS",
            Self::Spin => "SPIN",
        }
    }

    /// Whether the file may give the value as an array.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Directory | Self::Listeners | Self::Cpus)
    }

    /// The type that DescribeConfigs reports.
    pub fn value_type(self) -> ValueType {
        match self {
            Self::Boolean => ValueType::Boolean,
            Self::Int { .. } => ValueType::Int,
            Self::Long { .. } | Self::Size { .. } => ValueType::Long,
            Self::OneOf(_) | Self::Address | Self::Spin | Self::Cpus => ValueType::String,
            Self::Directory | Self::Listeners => ValueType::List,
        }
    }
}

fn parse_integer(text: &str, min: i64, max: i64) -> Result<i64, String> {
    // A number that no long can hold is as far out of range as it is a number.
    let number: i128 = text.parse().map_err(|_| "not a whole number".to_owned())?;
    match i64::try_from(number) {
        Ok(number) if number < min => Err("too small".to_owned()),
        Ok(number) if number <= max => Ok(number),
        _ if number < 0 => Err("too small".to_owned()),
        _ => Err("too large".to_owned()),
    }
}

fn parse_size(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        unit => return Err(format!("`{unit}` is not a unit: they are KiB, MiB, GiB and TiB")),
    };
    let number: u64 = number.parse().map_err(|_| "not a number of bytes".to_owned())?;
    let bytes = number.checked_mul(1 << shift).ok_or("too large")?;
    if bytes < min {
        return Err("too small".to_owned());
    }
    if bytes > max {
        return Err("too large".to_owned());
    }
    if !bytes.is_multiple_of(BLOCK_BYTES) {
        return Err("not a multiple of 4KiB".to_owned());
    }
    Ok(bytes)
}

fn parse_directory(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    if text.contains(',') {
        return Err("more than one directory, which is not served yet".to_owned());
    }
    if text.contains('\0') || text.len() > PATH_BYTES_MAX {
        return Err("not a path".to_owned());
    }
    Ok(text.to_owned())
}

/// Writes a size with the largest unit that divides it.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Size(bytes) => bytes.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Listeners(listeners) => {
                let texts: Vec<String> = listeners.iter().map(Listener::to_string).collect();
                f.write_str(&texts.join(","))
            }
            Self::Address(address) => address.fmt(f),
            Self::Cpus(cpus) => cpus.fmt(f),
            Self::Spin(spin) => spin.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(kind: Kind, text: &str) -> Result<String, String> {
        kind.parse(text).map(|value| value.to_string())
    }

    #[test]
    fn values_print_as_kafka_prints_them() {
        let size = Kind::Size { min: 4096, max: 1 << 40 };
        for (kind, text, print) in [
            (Kind::Boolean, " TRUE ", "true"),
            (Kind::Int { min: -1, max: 9 }, "-1", "-1"),
            (Kind::Long { min: 0, max: i64::MAX }, "9223372036854775807", "9223372036854775807"),
            (size, "64MiB", "67108864"),
            (size, "4 KiB", "4096"),
            (size, "8192", "8192"),
            (size, "1TiB", "1099511627776"),
            (Kind::OneOf(&["a", "b"]), "b", "b"),
            (Kind::Directory, "/var/lib/corelane", "/var/lib/corelane"),
            (Kind::Listeners, "plaintext://:9092", "PLAINTEXT://:9092"),
            (Kind::Cpus, "0,1,2,5", "0-2,5"),
            (Kind::Spin, "50us", "50us"),
        ] {
            assert_eq!(printed(kind, text).as_deref(), Ok(print));
        }
    }

    #[test]
    fn wrong_values_say_why() {
        let int = Kind::Int { min: 1, max: 9 };
        let size = Kind::Size { min: 4096, max: 1 << 20 };
        for (kind, text, reason) in [
            (Kind::Boolean, "yes", "neither true nor false"),
            (int, "0", "too small"),
            (int, "10", "too large"),
            (int, "99999999999999999999", "too large"),
            (int, "-99999999999999999999", "too small"),
            (int, "1.5", "not a whole number"),
            (int, "1MiB", "not a whole number"),
            (int, "", "not a whole number"),
            (size, "1 MB", "`MB` is not a unit: they are KiB, MiB, GiB and TiB"),
            (size, "MiB", "not a number of bytes"),
            (size, "-1", "`-1` is not a unit: they are KiB, MiB, GiB and TiB"),
            (size, "16777216TiB", "too large"),
            (size, "5000", "not a multiple of 4KiB"),
            (size, "4095", "too small"),
            (size, "2MiB", "too large"),
            (Kind::OneOf(&["a"]), "A", "not one of the words"),
            (Kind::Directory, "", "empty"),
            (Kind::Directory, "a,b", "more than one directory, which is not served yet"),
            (Kind::Directory, "a\0b", "not a path"),
        ] {
            assert_eq!(printed(kind, text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_with_the_largest_unit() {
        for (bytes, text) in
            [(0, "0"), (1, "1"), (4096, "4KiB"), (1 << 20, "1MiB"), (3 << 29, "1536MiB"), (1 << 40, "1TiB")]
        {
            assert_eq!(size_text(bytes), text);
        }
    }
}
