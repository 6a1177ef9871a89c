//! The requests that `kafka-protocol` decodes for us, as the guard walks them.
//!
//! One table per API, after Kafka 4.4's message definitions. [`ALL`] is the list that tests walk.

use super::{Field, Kind, NEVER, Schema};

/// Every table.
pub const ALL: [&Schema; 9] = [
    &LIST_OFFSETS,
    &METADATA,
    &CREATE_TOPICS,
    &DELETE_TOPICS,
    &INIT_PRODUCER_ID,
    &OFFSET_FOR_LEADER_EPOCH,
    &DESCRIBE_CONFIGS,
    &DESCRIBE_CLUSTER,
    &FIND_COORDINATOR,
];

const BOOL: Kind = Kind::Fixed(1);
const I8: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const STRING: Kind = Kind::String { nullable_from: NEVER };

const fn string_or_null(nullable_from: i16) -> Kind {
    Kind::String { nullable_from }
}

const fn array(element: &'static Kind) -> Kind {
    Kind::Array { nullable_from: NEVER, element }
}

const fn array_or_null(nullable_from: i16, element: &'static Kind) -> Kind {
    Kind::Array { nullable_from, element }
}

/// A field of every version.
const fn always(name: &'static str, kind: Kind) -> Field {
    between(name, 0, i16::MAX, kind)
}

/// A field of this version and all later ones.
const fn since(name: &'static str, since: i16, kind: Kind) -> Field {
    between(name, since, i16::MAX, kind)
}

/// A field of these versions.
const fn between(name: &'static str, since: i16, until: i16, kind: Kind) -> Field {
    Field { name, since, until, kind }
}

/// ListOffsets 1-10.
pub const LIST_OFFSETS: Schema = Schema {
    name: "ListOffsets",
    api_key: 2,
    versions: 1..=10,
    flexible_from: 6,
    fields: &[
        always("replica id", I32),
        since("isolation level", 2, I8),
        always("topics", array(&LIST_OFFSETS_TOPIC)),
        since("timeout", 10, I32),
    ],
};

const LIST_OFFSETS_TOPIC: Kind = Kind::Struct(&[
    always("topic name", STRING),
    always(
        "partitions",
        array(&Kind::Struct(&[
            always("partition", I32),
            since("current leader epoch", 4, I32),
            always("timestamp", I64),
        ])),
    ),
]);

/// Metadata 0-13.
pub const METADATA: Schema = Schema {
    name: "Metadata",
    api_key: 3,
    versions: 0..=13,
    flexible_from: 9,
    fields: &[
        always(
            "topics",
            array_or_null(
                1,
                &Kind::Struct(&[since("topic id", 10, UUID), always("topic name", string_or_null(10))]),
            ),
        ),
        since("allow auto topic creation", 4, BOOL),
        between("include cluster authorized operations", 8, 10, BOOL),
        since("include topic authorized operations", 8, BOOL),
    ],
};

/// CreateTopics 2-7.
pub const CREATE_TOPICS: Schema = Schema {
    name: "CreateTopics",
    api_key: 19,
    versions: 2..=7,
    flexible_from: 5,
    fields: &[
        always("topics", array(&CREATABLE_TOPIC)),
        always("timeout", I32),
        always("validate only", BOOL),
    ],
};

const CREATABLE_TOPIC: Kind = Kind::Struct(&[
    always("topic name", STRING),
    always("partition count", I32),
    always("replication factor", I16),
    always(
        "assignments",
        array(&Kind::Struct(&[always("partition", I32), always("broker ids", array(&I32))])),
    ),
    always(
        "configs",
        array(&Kind::Struct(&[always("config name", STRING), always("config value", string_or_null(0))])),
    ),
]);

/// DeleteTopics 1-6.
pub const DELETE_TOPICS: Schema = Schema {
    name: "DeleteTopics",
    api_key: 20,
    versions: 1..=6,
    flexible_from: 4,
    fields: &[
        since(
            "topics",
            6,
            array(&Kind::Struct(&[always("topic name", string_or_null(6)), always("topic id", UUID)])),
        ),
        between("topic names", 0, 5, array(&STRING)),
        always("timeout", I32),
    ],
};

/// InitProducerId 0-5.
pub const INIT_PRODUCER_ID: Schema = Schema {
    name: "InitProducerId",
    api_key: 22,
    versions: 0..=5,
    flexible_from: 2,
    fields: &[
        always("transactional id", string_or_null(0)),
        always("transaction timeout", I32),
        since("producer id", 3, I64),
        since("producer epoch", 3, I16),
    ],
};

/// OffsetForLeaderEpoch 2-4.
pub const OFFSET_FOR_LEADER_EPOCH: Schema = Schema {
    name: "OffsetForLeaderEpoch",
    api_key: 23,
    versions: 2..=4,
    flexible_from: 4,
    fields: &[since("replica id", 3, I32), always("topics", array(&OFFSET_FOR_LEADER_EPOCH_TOPIC))],
};

const OFFSET_FOR_LEADER_EPOCH_TOPIC: Kind = Kind::Struct(&[
    always("topic name", STRING),
    always(
        "partitions",
        array(&Kind::Struct(&[
            always("partition", I32),
            always("current leader epoch", I32),
            always("leader epoch", I32),
        ])),
    ),
]);

/// DescribeConfigs 1-4.
pub const DESCRIBE_CONFIGS: Schema = Schema {
    name: "DescribeConfigs",
    api_key: 32,
    versions: 1..=4,
    flexible_from: 4,
    fields: &[
        always(
            "resources",
            array(&Kind::Struct(&[
                always("resource type", I8),
                always("resource name", STRING),
                always("configuration keys", array_or_null(0, &STRING)),
            ])),
        ),
        always("include synonyms", BOOL),
        since("include documentation", 3, BOOL),
    ],
};

/// DescribeCluster 0-2.
pub const DESCRIBE_CLUSTER: Schema = Schema {
    name: "DescribeCluster",
    api_key: 60,
    versions: 0..=2,
    flexible_from: 0,
    fields: &[
        always("include cluster authorized operations", BOOL),
        since("endpoint type", 1, I8),
        since("include fenced brokers", 2, BOOL),
    ],
};

/// FindCoordinator 0-6.
pub const FIND_COORDINATOR: Schema = Schema {
    name: "FindCoordinator",
    api_key: 10,
    versions: 0..=6,
    flexible_from: 3,
    fields: &[
        between("key", 0, 3, STRING),
        since("key type", 1, I8),
        since("coordinator keys", 4, array(&STRING)),
    ],
};
