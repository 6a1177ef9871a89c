//! Which keys were given, with what value and where; and the view of them that DescribeConfigs answers with.
//!
//! Invariant: every key has an entry, and each entry's value was allowed by its key's kind.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::keys::{self, Importance, Key};
use crate::config::kind::{Value, ValueType};
use crate::config::{Address, Cpus, Error, Listener, Spin};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// The configuration file.
    File {
        /// Its path, as it was given.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// A flag of its own, without the dashes.
    Flag(String),
    /// `--set`.
    Set,
    /// A topic's own setting.
    Topic,
}

impl Origin {
    /// Whether a value from here would stand beside one from there, so that neither is meant to override the other.
    fn is_beside(&self, other: &Self) -> bool {
        let on_command_line = |origin: &Self| matches!(origin, Self::Flag(_) | Self::Set);
        let in_file = |origin: &Self| matches!(origin, Self::File { .. });
        (on_command_line(self) && on_command_line(other)) || (in_file(self) && in_file(other))
    }

    /// The name under which a value from here was given.
    pub(crate) fn name_of(&self, key: &Key) -> &'static str {
        match self {
            Self::Topic => key.topic_name().unwrap_or(key.name),
            _ => key.name,
        }
    }

    /// How DescribeConfigs names it.
    pub fn source(&self) -> Source {
        match self {
            Self::Default => Source::Default,
            Self::File { .. } | Self::Flag(_) | Self::Set => Source::StaticBroker,
            Self::Topic => Source::Topic,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Set => f.write_str("--set"),
            Self::Topic => f.write_str("topic"),
        }
    }
}

/// Kafka's names for where a value comes from, as far as they occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The topic's own.
    Topic,
    /// Given to the broker at its start.
    StaticBroker,
    /// Nobody gave one.
    Default,
}

impl Source {
    /// Its number in DescribeConfigs responses (KIP-226).
    pub fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// One value that a setting has or falls back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The name under which the value was given.
    pub name: &'static str,
    /// As Kafka prints it.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
}

/// A setting as DescribeConfigs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The broker's or the topic's name for it.
    pub name: &'static str,
    /// As Kafka prints it; absent where not giving it means something.
    pub value: Option<String>,
    /// The default, likewise.
    pub default: Option<String>,
    /// Where the value comes from.
    pub source: Source,
    /// The value and all that it would fall back to, first come first.
    pub synonyms: Vec<Synonym>,
    /// Kafka's type.
    pub value_type: ValueType,
    /// Whether it can only be changed by a restart.
    pub read_only: bool,
    /// How often one needs it.
    pub importance: Importance,
    /// One sentence.
    pub doc: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    value: Option<Value>,
    origin: Origin,
}

/// A value for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    entries: BTreeMap<&'static str, Entry>,
}

impl Default for Values {
    fn default() -> Self {
        let entry = |key: &Key| Entry { value: default_value(key), origin: Origin::Default };
        Self { entries: keys::ALL.iter().map(|key| (key.name, entry(key))).collect() }
    }
}

fn default_value(key: &Key) -> Option<Value> {
    key.default.map(|text| key.kind.parse(text).expect("a unit test reads every default"))
}

impl Values {
    /// Gives a value to a key by its full name. What comes later overrides; twice on one level is an error.
    pub fn set(&mut self, name: &str, text: &str, origin: Origin) -> Result<(), Error> {
        match keys::find(name) {
            Some(key) => self.set_key(key, text, origin),
            None => Err(Error::no_such_key(name, origin)),
        }
    }

    /// Gives a value to a key.
    pub fn set_key(&mut self, key: &'static Key, text: &str, origin: Origin) -> Result<(), Error> {
        let first = &self.entry(key).origin;
        if first.is_beside(&origin) {
            return Err(Error::Twice { key: key.name, first: first.clone(), second: origin });
        }
        match key.kind.parse(text) {
            Ok(value) => {
                self.entries.insert(key.name, Entry { value: Some(value), origin });
                Ok(())
            }
            Err(reason) => Err(Error::bad_value(key, text, origin, reason)),
        }
    }

    /// Every setting of the broker, in the registry's order.
    pub fn describe(&self) -> impl Iterator<Item = Described> {
        keys::ALL.iter().map(|key| {
            let synonyms = self.synonyms(key);
            Described {
                name: key.name,
                value: self.get(key).map(Value::to_string),
                default: default_value(key).map(|value| value.to_string()),
                source: self.origin(key).source(),
                synonyms,
                value_type: key.value_type(),
                read_only: !key.dynamic,
                importance: key.importance,
                doc: key.doc,
            }
        })
    }

    /// The broker's value and its default, as far as they are there.
    pub(crate) fn synonyms(&self, key: &Key) -> Vec<Synonym> {
        let mut synonyms = Vec::new();
        if *self.origin(key) != Origin::Default {
            let value = self.get(key).map(Value::to_string);
            synonyms.push(Synonym { name: key.name, value, source: self.origin(key).source() });
        }
        if let Some(value) = default_value(key) {
            let value = Some(value.to_string());
            synonyms.push(Synonym { name: key.name, value, source: Source::Default });
        }
        synonyms
    }

    /// The value of a key, if it has one.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.entry(key).value.as_ref()
    }

    /// Where the value of a key comes from.
    pub fn origin(&self, key: &Key) -> &Origin {
        &self.entry(key).origin
    }

    /// The key, its value and its origin, for an error: `` `node.id` = `1` (default) ``.
    pub(crate) fn shown(&self, key: &Key) -> String {
        let value = self.get(key).map_or_else(|| "not given".to_owned(), |value| format!("`{value}`"));
        format!("`{}` = {value} ({})", self.origin(key).name_of(key), self.origin(key))
    }

    fn entry(&self, key: &Key) -> &Entry {
        self.entries.get(key.name).expect("every key has an entry")
    }
}

/// Typed readers for keys that always have a value; a key of another kind is a mistake in this program.
impl Values {
    pub(crate) fn boolean(&self, key: &Key) -> bool {
        match self.get(key) {
            Some(Value::Boolean(value)) => *value,
            other => wrong_kind(key, other),
        }
    }

    pub(crate) fn integer<N: TryFrom<i64>>(&self, key: &Key) -> N {
        let number = match self.get(key) {
            Some(Value::Integer(value)) => *value,
            other => wrong_kind(key, other),
        };
        N::try_from(number)
            .unwrap_or_else(|_| panic!("{} = {number}: its range fits the type it is read as", key.name))
    }

    pub(crate) fn size(&self, key: &Key) -> u64 {
        match self.get(key) {
            Some(Value::Size(bytes)) => *bytes,
            other => wrong_kind(key, other),
        }
    }

    pub(crate) fn text(&self, key: &Key) -> &str {
        match self.get(key) {
            Some(Value::Text(text)) => text,
            other => wrong_kind(key, other),
        }
    }

    /// None if the key has no value.
    pub(crate) fn listeners(&self, key: &Key) -> Option<&[Listener]> {
        match self.get(key) {
            Some(Value::Listeners(listeners)) => Some(listeners),
            None => None,
            other => wrong_kind(key, other),
        }
    }

    pub(crate) fn address(&self, key: &Key) -> &Address {
        match self.get(key) {
            Some(Value::Address(address)) => address,
            other => wrong_kind(key, other),
        }
    }

    pub(crate) fn cpus(&self, key: &Key) -> &Cpus {
        match self.get(key) {
            Some(Value::Cpus(cpus)) => cpus,
            other => wrong_kind(key, other),
        }
    }

    pub(crate) fn spin(&self, key: &Key) -> Spin {
        match self.get(key) {
            Some(Value::Spin(spin)) => *spin,
            other => wrong_kind(key, other),
        }
    }
}

fn wrong_kind(key: &Key, value: Option<&Value>) -> ! {
    panic!("{} is read as another kind than {:?}: {value:?}", key.name, key.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(line: usize) -> Origin {
        Origin::File { path: "c.toml".to_owned(), line }
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let mut values = Values::default();
        values.set("num.partitions", "3", file(1)).unwrap();
        values.set("num.partitions", "5", Origin::Set).unwrap();
        assert_eq!(values.integer::<u32>(&keys::NUM_PARTITIONS), 5);
        assert_eq!(values.shown(&keys::NUM_PARTITIONS), "`num.partitions` = `5` (--set)");
        assert_eq!(values.shown(&keys::ADVERTISED_LISTENERS), "`advertised.listeners` = not given (default)");
    }

    #[test]
    fn one_level_gives_a_key_once() {
        let mut values = Values::default();
        values.set("num.partitions", "3", file(1)).unwrap();
        let twice = values.set("num.partitions", "3", file(7)).unwrap_err();
        assert_eq!(twice.to_string(), "`num.partitions` is given twice: c.toml:1 and c.toml:7");
        values.set("node.id", "3", Origin::Flag("node-id".to_owned())).unwrap();
        let twice = values.set("node.id", "3", Origin::Set).unwrap_err();
        assert_eq!(twice.to_string(), "`node.id` is given twice: --node-id and --set");
    }

    #[test]
    fn settings_are_described_as_kafka_describes_them() {
        let mut values = Values::default();
        values.set("corelane.staging.bytes", "128MiB", file(1)).unwrap();
        let described: Vec<Described> = values.describe().collect();
        assert_eq!(described.len(), keys::ALL.len());
        let find = |name| described.iter().find(|one| one.name == name).unwrap();

        let staging = find("corelane.staging.bytes");
        assert_eq!(staging.value.as_deref(), Some("134217728"));
        assert_eq!(staging.default.as_deref(), Some("67108864"));
        assert_eq!((staging.source, staging.source.code()), (Source::StaticBroker, 4));
        assert_eq!((staging.value_type.code(), staging.read_only), (5, true));
        let sources: Vec<Source> = staging.synonyms.iter().map(|synonym| synonym.source).collect();
        assert_eq!(sources, [Source::StaticBroker, Source::Default]);

        let advertised = find("advertised.listeners");
        assert_eq!((&advertised.value, &advertised.default), (&None, &None));
        assert!(advertised.synonyms.is_empty());
        assert_eq!(advertised.source.code(), 5);
    }
}
