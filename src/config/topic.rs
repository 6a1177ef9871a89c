//! One topic's settings: its own values over the broker's.

use std::time::Duration;

use crate::config::keys::{self, Key, Scope};
use crate::config::settings::{TimestampType, check_batch};
use crate::config::values::{Described, Source, Synonym};
use crate::config::{Error, Origin, Value, Values};

/// A topic's settings. Fields are named as Kafka's topic-level settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// The largest batch.
    pub max_message_bytes: u32,
    /// The largest segment file.
    pub segment_bytes: u32,
    /// How long a segment file takes records.
    pub segment: Duration,
    /// Which clock timestamps come from.
    pub message_timestamp_type: TimestampType,
    /// The topic's own values, which are few: a broker has many topics.
    own: Vec<(&'static Key, Value)>,
}

impl TopicSettings {
    /// Puts a topic's own values, by Kafka's topic-level names, over the broker's.
    pub fn new<'a>(
        broker: &Values,
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Error> {
        let mut values = broker.clone();
        for (name, text) in overrides {
            let key = keys::find_for_topic(name).ok_or_else(|| Error::no_such_topic_key(name))?;
            values.set_key(key, text, Origin::Topic)?;
        }
        check_batch(&values)?;
        let own = keys::ALL.iter().filter(|key| *values.origin(key) == Origin::Topic);
        Ok(Self {
            max_message_bytes: values.integer(&keys::MESSAGE_MAX_BYTES),
            segment_bytes: values.integer(&keys::LOG_SEGMENT_BYTES),
            segment: Duration::from_millis(values.integer(&keys::LOG_ROLL_MS)),
            message_timestamp_type: TimestampType::of(values.text(&keys::LOG_MESSAGE_TIMESTAMP_TYPE)),
            own: own.filter_map(|key| Some((*key, values.get(key)?.clone()))).collect(),
        })
    }

    /// Every setting of the topic, in the registry's order, over the broker's values.
    pub fn describe(&self, broker: &Values) -> impl Iterator<Item = Described> {
        keys::ALL.iter().filter_map(|key| match key.scope {
            Scope::Broker => None,
            Scope::Topic { name } => Some(self.describe_one(broker, key, name)),
        })
    }

    fn describe_one(&self, broker: &Values, key: &Key, name: &'static str) -> Described {
        let mut synonyms = broker.synonyms(key);
        let default = synonyms.first().and_then(|synonym| synonym.value.clone());
        let own = self.own.iter().find(|(other, _)| other.name == key.name);
        if let Some((_, value)) = own {
            synonyms.insert(0, Synonym { name, value: Some(value.to_string()), source: Source::Topic });
        }
        let (value, source) = match own {
            Some((_, value)) => (Some(value.to_string()), Source::Topic),
            None => (broker.get(key).map(Value::to_string), broker.origin(key).source()),
        };
        Described {
            name,
            value,
            default,
            source,
            synonyms,
            value_type: key.value_type(),
            read_only: !key.dynamic,
            importance: key.importance,
            doc: key.doc,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker() -> Values {
        let mut values = Values::default();
        values.set("log.roll.ms", "1000", Origin::Set).unwrap();
        values
    }

    #[test]
    fn a_topic_overrides_the_broker() {
        let topic = TopicSettings::new(&broker(), [("segment.bytes", "2097152")]).unwrap();
        assert_eq!((topic.segment_bytes, topic.segment), (2_097_152, Duration::from_secs(1)));

        let described: Vec<Described> = topic.describe(&broker()).collect();
        let synonyms = |name: &str| -> Vec<(&str, i8)> {
            let one = described.iter().find(|one| one.name == name).unwrap();
            one.synonyms.iter().map(|synonym| (synonym.name, synonym.source.code())).collect()
        };
        assert_eq!(described.len(), 4);
        assert_eq!(synonyms("segment.bytes"), [("segment.bytes", 1), ("log.segment.bytes", 5)]);
        assert_eq!(synonyms("segment.ms"), [("log.roll.ms", 4), ("log.roll.ms", 5)]);
        assert_eq!(synonyms("max.message.bytes"), [("message.max.bytes", 5)]);
    }

    #[test]
    fn a_topic_is_checked_by_its_own_names() {
        for (name, text, message) in [
            (
                "segment.bytes",
                "1",
                "topic: `segment.bytes` = `1`: too small; allowed: a whole number from 1048576 to 2147483647",
            ),
            ("log.segment.bytes", "2097152", "topic: unknown key `log.segment.bytes`"),
            (
                "max.message.bytes",
                "100000000",
                "`corelane.journal.bytes` = `16777216` (default) with `max.message.bytes` = `100000000` (topic): \
                 `corelane.journal.bytes` must be at least 96MiB",
            ),
        ] {
            let error = TopicSettings::new(&broker(), [(name, text)]).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
