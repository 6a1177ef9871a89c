//! The engine's nouns as types, so that an offset cannot be passed where a position is meant.

use std::fmt;

/// A newtype over an integer: ordered, printable as its number, built and read explicitly.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The plain number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// The place of a record in its partition's log: counted in records from 0, gaps allowed.
    Offset(i64)
}
number! {
    /// A partition's number within its topic, from 0.
    PartitionIndex(i32)
}
number! {
    /// Which incarnation of a log, or which start of the broker, appended a batch (Kafka's leader epoch).
    LeaderEpoch(i32)
}
number! {
    /// An idempotent producer's identity; -1 means none.
    ProducerId(i64)
}
number! {
    /// The incarnation of a producer id; -1 means none.
    ProducerEpoch(i16)
}
number! {
    /// A record's number within its producer's stream to a partition: from 0, wrapping after 2^31-1; -1 means none.
    Sequence(i32)
}
number! {
    /// Milliseconds since the Unix epoch; -1 means none.
    Timestamp(i64)
}
number! {
    /// A place in a segment file, in bytes from its start. Kafka's limit on a segment's size, 2^31-1, fits.
    Position(u32)
}
number! {
    /// The number of a journal group within a shard, dense, from 1. 0 stands for "before the first".
    JournalSequence(u64)
}
number! {
    /// One opening of a shard's journal: random, secret, never reused. What a client sends cannot contain it.
    Generation(u64)
}
number! {
    /// Which engine thread, from 0.
    ShardIndex(u16)
}

impl Offset {
    /// The offset `count` records further on; `None` past the end of the offset space.
    pub fn checked_add(self, count: i64) -> Option<Offset> {
        self.0.checked_add(count).map(Offset)
    }
}

impl JournalSequence {
    /// The following group.
    pub fn next(self) -> JournalSequence {
        JournalSequence(self.0 + 1)
    }
}

impl Sequence {
    /// The sequence `increment` records further on, wrapping from 2^31-1 to 0 as Kafka's producers do. None stays none.
    pub fn wrapping_add(self, increment: u32) -> Sequence {
        let Ok(start) = u64::try_from(self.0) else { return self };
        let wrapped = (start + u64::from(increment)) % (1 << 31);
        Sequence(i32::try_from(wrapped).expect("a remainder of 2^31 fits"))
    }
}

impl ProducerId {
    /// The batch carries no producer: nothing is deduplicated.
    pub const NONE: ProducerId = ProducerId(-1);
}

/// A topic's identity for as long as it lives; a topic deleted and created again has another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One partition of one incarnation of a topic: what journals, manifests and directories are keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic's identity.
    pub topic: TopicId,
    /// The partition's number.
    pub index: PartitionIndex,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_prints_as_a_uuid() {
        let id = TopicId([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(id.to_string(), "12345678-9abc-def0-0102-030405060708");
    }

    #[test]
    fn sequences_wrap_to_zero_and_none_stays_none() {
        assert_eq!(Sequence(5).wrapping_add(4), Sequence(9));
        assert_eq!(Sequence(i32::MAX).wrapping_add(0), Sequence(i32::MAX));
        assert_eq!(Sequence(i32::MAX).wrapping_add(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).wrapping_add(4), Sequence(2));
        assert_eq!(Sequence(-1).wrapping_add(3), Sequence(-1));
    }

    #[test]
    fn offsets_end_where_the_offset_space_ends() {
        assert_eq!(Offset(i64::MAX - 1).checked_add(1), Some(Offset(i64::MAX)));
        assert_eq!(Offset(i64::MAX).checked_add(1), None);
    }
}
