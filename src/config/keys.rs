//! Every setting, once.
//!
//! Adding a key here gives it a flag, a place in the file, an entry in the reference page and an entry in the
//! answers to DescribeConfigs; what is left is to read it in `settings`. A key is named as Kafka names it where
//! Kafka has one; ours lie in the section `[corelane]` and carry that prefix.

use crate::config::Kind;
use crate::config::kind::ValueType;

/// The prefix of Corelane's own keys, and the section of the file that holds them.
pub const OWN_PREFIX: &str = "corelane.";

/// Partitions that a topic may get without anybody asking for a number.
const DEFAULT_PARTITIONS_MAX: i64 = 10_000;

const INT_MAX: i64 = i32::MAX as i64;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Its full name: `log.segment.bytes`, `corelane.cpus`.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// The value it has when nobody gives one, as one would write it; absent when "not given" means something.
    pub default: Option<&'static str>,
    /// Whether a topic may override it.
    pub scope: Scope,
    /// How often one needs it, as Kafka ranks it.
    pub importance: Importance,
    /// Whether it may change while the broker runs. None may, as long as AlterConfigs is not served.
    pub dynamic: bool,
    /// One sentence for the help text and the reference page.
    pub doc: &'static str,
}

/// Where a setting applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole broker.
    Broker,
    /// The broker's default for a topic, which a topic overrides under a name of its own.
    Topic {
        /// The name under which Kafka's topic-level settings know it.
        name: &'static str,
    },
}

/// Kafka's ranking of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Most installations set it.
    High,
    /// Some do.
    Medium,
    /// Few do.
    Low,
}

impl Key {
    /// Whether Kafka does not have it.
    pub fn is_own(&self) -> bool {
        self.name.starts_with(OWN_PREFIX)
    }

    /// The name inside its section of the file: `cpus` for `corelane.cpus`.
    pub fn short_name(&self) -> &'static str {
        self.name.strip_prefix(OWN_PREFIX).unwrap_or(self.name)
    }

    /// The flag of `corelane serve` that sets it, without dashes before it: `log-dirs`.
    pub fn flag(&self) -> String {
        self.short_name().replace('.', "-")
    }

    /// The name of the topic-level setting whose default this is.
    pub fn topic_name(&self) -> Option<&'static str> {
        match self.scope {
            Scope::Broker => None,
            Scope::Topic { name } => Some(name),
        }
    }

    /// The type that DescribeConfigs reports.
    pub fn value_type(&self) -> ValueType {
        self.kind.value_type()
    }
}

/// The key of this full name.
pub fn find(name: &str) -> Option<&'static Key> {
    ALL.iter().copied().find(|key| key.name == name)
}

/// The key that a topic overrides under this topic-level name.
pub fn find_for_topic(topic_name: &str) -> Option<&'static Key> {
    ALL.iter().copied().find(|key| key.topic_name() == Some(topic_name))
}

/// All keys, in the order of the reference page.
pub static ALL: &[&Key] = &[
    &LISTENERS,
    &ADVERTISED_LISTENERS,
    &LOG_DIRS,
    &NODE_ID,
    &NUM_PARTITIONS,
    &AUTO_CREATE_TOPICS_ENABLE,
    &MESSAGE_MAX_BYTES,
    &SOCKET_REQUEST_MAX_BYTES,
    &QUEUED_MAX_REQUEST_BYTES,
    &CONNECTIONS_MAX_IDLE_MS,
    &LOG_SEGMENT_BYTES,
    &LOG_ROLL_MS,
    &LOG_MESSAGE_TIMESTAMP_TYPE,
    &CPUS,
    &SPIN,
    &FLUSH_METHOD,
    &JOURNAL_BYTES,
    &STAGING_BYTES,
    &MEMORY_BYTES,
    &ADMIN_LISTENER,
];

/// `listeners`
pub static LISTENERS: Key = Key {
    name: "listeners",
    kind: Kind::Listeners,
    default: Some("PLAINTEXT://127.0.0.1:9092"),
    scope: Scope::Broker,
    importance: Importance::High,
    dynamic: false,
    doc: "The addresses that clients connect to. An empty host or 0.0.0.0 means every interface; port 0 means any \
          free port.",
};

/// `advertised.listeners`
pub static ADVERTISED_LISTENERS: Key = Key {
    name: "advertised.listeners",
    kind: Kind::Listeners,
    default: None,
    scope: Scope::Broker,
    importance: Importance::High,
    dynamic: false,
    doc: "The addresses that clients are told to connect to, where they differ from `listeners`. If not given, \
          the value of `listeners`.",
};

/// `log.dirs`
pub static LOG_DIRS: Key = Key {
    name: "log.dirs",
    kind: Kind::Directory,
    default: Some("./corelane-data"),
    scope: Scope::Broker,
    importance: Importance::High,
    dynamic: false,
    doc: "The data directory: exactly one, on a disk of its own where possible. It is created if it does not exist.",
};

/// `node.id`
pub static NODE_ID: Key = Key {
    name: "node.id",
    kind: Kind::Int { min: 0, max: INT_MAX },
    default: Some("1"),
    scope: Scope::Broker,
    importance: Importance::High,
    dynamic: false,
    doc: "The number by which clients know this broker.",
};

/// `num.partitions`
pub static NUM_PARTITIONS: Key = Key {
    name: "num.partitions",
    kind: Kind::Int { min: 1, max: DEFAULT_PARTITIONS_MAX },
    default: Some("1"),
    scope: Scope::Broker,
    importance: Importance::Medium,
    dynamic: false,
    doc: "The number of partitions of a topic that is created without saying how many.",
};

/// `auto.create.topics.enable`
pub static AUTO_CREATE_TOPICS_ENABLE: Key = Key {
    name: "auto.create.topics.enable",
    kind: Kind::Boolean,
    default: Some("true"),
    scope: Scope::Broker,
    importance: Importance::High,
    dynamic: false,
    doc: "Whether a topic comes into being when a client first asks for it.",
};

/// `message.max.bytes`
pub static MESSAGE_MAX_BYTES: Key = Key {
    name: "message.max.bytes",
    kind: Kind::Int { min: 0, max: INT_MAX },
    default: Some("1048588"),
    scope: Scope::Topic { name: "max.message.bytes" },
    importance: Importance::High,
    dynamic: false,
    doc: "The largest record batch that is accepted, in bytes, after compression.",
};

/// `socket.request.max.bytes`
pub static SOCKET_REQUEST_MAX_BYTES: Key = Key {
    name: "socket.request.max.bytes",
    kind: Kind::Int { min: 1, max: INT_MAX },
    default: Some("104857600"),
    scope: Scope::Broker,
    importance: Importance::High,
    dynamic: false,
    doc: "The largest request that is read, in bytes; a connection that announces a larger one is closed.",
};

/// `queued.max.request.bytes`
pub static QUEUED_MAX_REQUEST_BYTES: Key = Key {
    name: "queued.max.request.bytes",
    kind: Kind::Long { min: -1, max: i64::MAX },
    default: Some("-1"),
    scope: Scope::Broker,
    importance: Importance::Medium,
    dynamic: false,
    doc: "How many bytes of requests may wait on each shard before no more are read there. -1 or 0: only \
          `corelane.memory.bytes` limits them.",
};

/// `connections.max.idle.ms`
pub static CONNECTIONS_MAX_IDLE_MS: Key = Key {
    name: "connections.max.idle.ms",
    kind: Kind::Long { min: -1, max: i64::MAX },
    default: Some("600000"),
    scope: Scope::Broker,
    importance: Importance::Medium,
    dynamic: false,
    doc: "How long a connection may be idle before it is closed, in milliseconds. -1: for ever.",
};

/// `log.segment.bytes`
pub static LOG_SEGMENT_BYTES: Key = Key {
    name: "log.segment.bytes",
    kind: Kind::Int { min: 1 << 20, max: INT_MAX },
    default: Some("1073741824"),
    scope: Scope::Topic { name: "segment.bytes" },
    importance: Importance::High,
    dynamic: false,
    doc: "The largest size of a segment file, in bytes; the batch that does not fit opens the next one.",
};

/// `log.roll.ms`
pub static LOG_ROLL_MS: Key = Key {
    name: "log.roll.ms",
    kind: Kind::Long { min: 1, max: i64::MAX },
    default: Some("604800000"),
    scope: Scope::Topic { name: "segment.ms" },
    importance: Importance::High,
    dynamic: false,
    doc: "How long a segment file takes records before the next one is opened, in milliseconds.",
};

/// `log.message.timestamp.type`
pub static LOG_MESSAGE_TIMESTAMP_TYPE: Key = Key {
    name: "log.message.timestamp.type",
    kind: Kind::OneOf(&["CreateTime", "LogAppendTime"]),
    default: Some("CreateTime"),
    scope: Scope::Topic { name: "message.timestamp.type" },
    importance: Importance::Medium,
    dynamic: false,
    doc: "Whether a record carries the time at which its producer made it, or at which the broker appended it.",
};

/// `corelane.cpus`
pub static CPUS: Key = Key {
    name: "corelane.cpus",
    kind: Kind::Cpus,
    default: Some("all"),
    scope: Scope::Broker,
    importance: Importance::High,
    dynamic: false,
    doc: "The CPUs that get a shard each. `all`: every CPU that the process may use. One that is named several times \
          gets so many shards, which share it: meant for tests and small machines, because latency suffers.",
};

/// `corelane.spin`
pub static SPIN: Key = Key {
    name: "corelane.spin",
    kind: Kind::Spin,
    default: Some("50us"),
    scope: Scope::Broker,
    importance: Importance::Medium,
    dynamic: false,
    doc: "What a shard without work does: sleep at once, look for work for that long and then sleep, or never sleep.",
};

/// `corelane.flush.method`
pub static FLUSH_METHOD: Key = Key {
    name: "corelane.flush.method",
    kind: Kind::OneOf(&["auto", "dsync", "fdatasync"]),
    default: Some("dsync"),
    scope: Scope::Broker,
    importance: Importance::Medium,
    dynamic: false,
    doc: "How the journal reaches the disk: by writes that are durable when they complete, by a flush after the \
          write, or (`auto`, not served yet) by whichever suits the device and the CPUs.",
};

/// `corelane.journal.bytes`
pub static JOURNAL_BYTES: Key = Key {
    name: "corelane.journal.bytes",
    kind: Kind::Size { min: MIB, max: 16 * GIB },
    default: Some("16MiB"),
    scope: Scope::Broker,
    importance: Importance::Medium,
    dynamic: false,
    doc: "The size at which each shard's journal starts; it grows when it fills faster than it is emptied.",
};

/// `corelane.staging.bytes`
pub static STAGING_BYTES: Key = Key {
    name: "corelane.staging.bytes",
    kind: Kind::Size { min: 2 * MIB, max: 64 * GIB },
    default: Some("64MiB"),
    scope: Scope::Broker,
    importance: Importance::Medium,
    dynamic: false,
    doc: "The memory of each shard, a file on tmpfs, in which records wait for the disk; it outlives a killed process.",
};

/// `corelane.memory.bytes`
pub static MEMORY_BYTES: Key = Key {
    name: "corelane.memory.bytes",
    kind: Kind::Size { min: 16 * MIB, max: 1024 * GIB },
    default: Some("256MiB"),
    scope: Scope::Broker,
    importance: Importance::High,
    dynamic: false,
    doc: "The most memory that each shard takes for requests, and as much again for large batches and reads; it is \
          touched when first used.",
};

/// `corelane.admin.listener`
pub static ADMIN_LISTENER: Key = Key {
    name: "corelane.admin.listener",
    kind: Kind::Address,
    default: Some("127.0.0.1:9644"),
    scope: Scope::Broker,
    importance: Importance::Medium,
    dynamic: false,
    doc: "The address of the HTTP listener for /ready, /health and /metrics.",
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::kafka;

    #[test]
    fn every_name_is_unique_and_every_default_is_valid() {
        let mut names = BTreeSet::new();
        for key in ALL {
            assert!(names.insert(key.name), "{} is there once", key.name);
            if let Some(topic_name) = key.topic_name() {
                assert!(names.insert(topic_name), "{topic_name} is there once");
            }
            if let Some(default) = key.default {
                key.kind.parse(default).unwrap_or_else(|reason| panic!("{}: {reason}", key.name));
            }
            assert!(key.doc.ends_with('.'), "{} is documented in sentences", key.name);
        }
    }

    #[test]
    fn no_key_is_served_and_listed_as_not_served() {
        for name in kafka::NOT_SERVED {
            assert!(find(name).is_none(), "{name} is served");
        }
        let unique: BTreeSet<_> = kafka::NOT_SERVED.iter().collect();
        assert_eq!(unique.len(), kafka::NOT_SERVED.len());
        for (refused, served) in kafka::INSTEAD {
            assert!(unique.contains(refused) && find(served).is_some(), "{served} stands in for {refused}");
        }
    }

    #[test]
    fn topics_find_their_keys_by_kafka_names() {
        for (topic, broker) in [
            ("segment.bytes", "log.segment.bytes"),
            ("segment.ms", "log.roll.ms"),
            ("max.message.bytes", "message.max.bytes"),
            ("message.timestamp.type", "log.message.timestamp.type"),
        ] {
            assert_eq!(find_for_topic(topic).map(|key| key.name), Some(broker));
        }
        assert!(find_for_topic("num.partitions").is_none());
    }
}
