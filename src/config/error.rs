//! What can be wrong with settings, told so that the user finds the place and the remedy.

use std::path::PathBuf;

use crate::config::{Key, Origin, kafka, keys};
use crate::errors::{Explained, Page};

/// How alike two names must be, from 0 to 1, before one is offered for the other.
const LIKENESS_MIN: f64 = 0.6;

/// The longest value that an error repeats in full.
const SHOWN_CHARS_MAX: usize = 200;

/// An error in the settings.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No such key.
    #[error("{origin}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// As it was given.
        key: String,
        /// Where.
        origin: Origin,
        /// What may have been meant, as the end of the sentence; empty if nothing is near.
        hint: String,
    },
    /// Kafka has the key; here it would have no effect.
    #[error("{origin}: `{key}` is known to Kafka, not served by Corelane yet{hint}")]
    NotServed {
        /// As it was given.
        key: String,
        /// Where.
        origin: Origin,
        /// What is served instead, as the end of the sentence; empty if nothing is.
        hint: String,
    },
    /// A value that its key does not allow.
    #[error("{origin}: `{key}` = `{value}`: {reason}; allowed: {allowed}")]
    BadValue {
        /// The key's name, or the topic's name for it.
        key: &'static str,
        /// The value as it was given, shortened if it is very long.
        value: Box<str>,
        /// Where.
        origin: Origin,
        /// What is wrong.
        reason: Box<str>,
        /// What would be right.
        allowed: Box<str>,
    },
    /// One key, given twice on one level.
    #[error("`{key}` is given twice: {first} and {second}")]
    Twice {
        /// The key's name.
        key: &'static str,
        /// The earlier place.
        first: Origin,
        /// The later place.
        second: Origin,
    },
    /// Values that are allowed but do not fit together.
    #[error("{values}: {rule}")]
    Contradiction {
        /// The keys with their values and places.
        values: String,
        /// The rule that they break.
        rule: String,
    },
    /// A listener with a protocol that is not served.
    #[error("{setting}: the protocol {protocol} is not served yet; PLAINTEXT is")]
    ListenerNotServed {
        /// The key with its value and place.
        setting: String,
        /// The listener's name.
        protocol: String,
    },
    /// CPUs that the process may not run on.
    #[error("{setting}: this process may not run on CPU {refused}; it may run on {allowed}")]
    CpuNotAllowed {
        /// The key with its value and place.
        setting: String,
        /// The CPUs that were asked for in vain, written short.
        refused: String,
        /// The CPUs that it may use, written short.
        allowed: String,
    },
    /// The configuration file cannot be used at all.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// As it was given.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        reason: String,
    },
}

impl Error {
    /// Of a name that no key has.
    pub(crate) fn no_such_key(name: &str, origin: Origin) -> Self {
        let key = shortened(name);
        if kafka::NOT_SERVED.contains(&name) {
            let instead = kafka::INSTEAD.iter().find(|(refused, _)| *refused == name);
            let hint = instead.map(|(_, served)| format!("; `{served}` is")).unwrap_or_default();
            return Self::NotServed { key, origin, hint };
        }
        Self::UnknownKey { hint: broker_hint(name), key, origin }
    }

    /// Of a name that no topic-level setting has.
    pub(crate) fn no_such_topic_key(name: &str) -> Self {
        let (key, origin) = (shortened(name), Origin::Topic);
        let broker_name = format!("log.{name}");
        if kafka::NOT_SERVED.iter().any(|known| *known == name || *known == broker_name) {
            return Self::NotServed { key, origin, hint: String::new() };
        }
        Self::UnknownKey { key, origin, hint: String::new() }
    }

    /// Of a value that this key does not allow.
    pub(crate) fn bad_value(key: &Key, value: &str, origin: Origin, reason: String) -> Self {
        let value = shortened(value).into();
        let (reason, allowed) = (reason.into(), key.kind.allowed().into());
        Self::BadValue { key: origin.name_of(key), value, origin, reason, allowed }
    }
}

impl Explained for Error {
    fn page(&self) -> Page {
        match self {
            Self::UnknownKey { .. } | Self::NotServed { .. } => Page::UnknownKey,
            Self::BadValue { .. } | Self::Twice { .. } | Self::Contradiction { .. } => Page::BadValue,
            Self::ListenerNotServed { .. } => Page::ListenerNotServed,
            Self::CpuNotAllowed { .. } => Page::CpuNotAllowed,
            Self::Unreadable { .. } => Page::ConfigUnreadable,
        }
    }
}

/// Names and values come from outside and end in a terminal: control characters are shown, not sent.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(visible).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn visible(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = (!c.is_control()).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

/// What may have been meant by a name that no key has.
fn broker_hint(name: &str) -> String {
    if let Some(key) = keys::find(&format!("{}{name}", keys::OWN_PREFIX)) {
        return format!("; did you mean `{}`, in the file `{name}` under [corelane]?", key.name);
    }
    if let Some(key) = keys::find_for_topic(name) {
        return format!("; it is a setting of topics, and the broker's default for it is `{}`", key.name);
    }
    // Distances are quadratic in the length, and no key is anywhere near that long.
    if name.len() > SHOWN_CHARS_MAX {
        return String::new();
    }
    nearest(name).map(|key| format!("; did you mean `{}`?", key.name)).unwrap_or_default()
}

fn nearest(name: &str) -> Option<&'static Key> {
    let likeness = |key: &Key| {
        let [full, short] =
            [key.name, key.short_name()].map(|known| strsim::normalized_damerau_levenshtein(name, known));
        full.max(short)
    };
    let candidates = keys::ALL.iter().map(|key| (likeness(key), *key));
    let (best, key) = candidates.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best >= LIKENESS_MIN).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> String {
        Error::no_such_key(name, Origin::Set).to_string()
    }

    #[test]
    fn unknown_keys_name_the_near_one() {
        for (name, message) in [
            (
                "log.segmant.bytes",
                "--set: unknown key `log.segmant.bytes`; did you mean `log.segment.bytes`?",
            ),
            ("log_dirs", "--set: unknown key `log_dirs`; did you mean `log.dirs`?"),
            (
                "cpus",
                "--set: unknown key `cpus`; did you mean `corelane.cpus`, in the file `cpus` under [corelane]?",
            ),
            ("flush.metod", "--set: unknown key `flush.metod`; did you mean `corelane.flush.method`?"),
            ("corelane.cpu", "--set: unknown key `corelane.cpu`; did you mean `corelane.cpus`?"),
            (
                "segment.bytes",
                "--set: unknown key `segment.bytes`; it is a setting of topics, and the broker's default for it is \
                 `log.segment.bytes`",
            ),
            ("favourite.colour", "--set: unknown key `favourite.colour`"),
            (
                "log.retention.hours",
                "--set: `log.retention.hours` is known to Kafka, not served by Corelane yet",
            ),
            ("broker.id", "--set: `broker.id` is known to Kafka, not served by Corelane yet; `node.id` is"),
            ("a\x1b[31m", "--set: unknown key `a\\u{1b}[31m`"),
        ] {
            assert_eq!(told(name), message);
        }
        assert!(told(&"x".repeat(100_000)).len() < 300, "a long name is shortened");
    }

    #[test]
    fn topic_settings_that_kafka_has_are_told_apart() {
        for (name, message) in [
            ("retention.ms", "topic: `retention.ms` is known to Kafka, not served by Corelane yet"),
            (
                "min.insync.replicas",
                "topic: `min.insync.replicas` is known to Kafka, not served by Corelane yet",
            ),
            ("colour", "topic: unknown key `colour`"),
        ] {
            assert_eq!(Error::no_such_topic_key(name).to_string(), message);
        }
    }
}
