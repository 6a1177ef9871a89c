//! Fetch 4-16, the request by hand: a view in its frame. The response is [`response`].
//!
//! [`Request::parse`] walks the whole request once; after it, every iterator is infallible and allocates nothing.
//!
//! Versions: 5 names the follower's log start offset, 7 brings sessions (KIP-227), 9 the current leader epoch
//! (KIP-320), 11 the consumer's rack (KIP-392), 12 is flexible and names the last fetched epoch (KIP-595), 13 names
//! topics by id (KIP-516), 15 moves the replica into a tagged field (KIP-903), 16 hints at a new leader (KIP-951).

pub mod response;

use super::{Encoding, Error, Reader, Result, Uuid};

/// The first flexible version.
pub const FLEXIBLE_FROM: i16 = 12;
/// The first version that names topics by id.
pub const TOPIC_IDS_FROM: i16 = 13;
/// The versions that this codec reads and writes.
pub const VERSIONS: std::ops::RangeInclusive<i16> = 4..=16;

/// A validated Fetch request in its frame.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The cluster the client believes in, from version 12 and only where it says so.
    pub cluster_id: Option<&'a str>,
    /// The replica that asks.
    pub replica: Replica,
    /// How long to wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes make an answer worth sending.
    pub min_bytes: i32,
    /// How many bytes of records the client wants at most.
    pub max_bytes: i32,
    /// 0: up to the high watermark; 1: up to the last stable offset.
    pub isolation_level: i8,
    /// The fetch session, 0 outside of one.
    pub session_id: i32,
    /// The step of the session: -1 none, 0 the first.
    pub session_epoch: i32,
    /// The consumer's rack, empty if it has none.
    pub rack_id: &'a str,
    version: i16,
    topics: List<'a>,
    forgotten: List<'a>,
}

/// The replica that asks: -1 a consumer, else a broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Replica {
    /// The broker's node id, or -1.
    pub id: i32,
    /// The broker's epoch, or -1.
    pub epoch: i64,
}

/// An array walked once: how many elements, and where they begin.
#[derive(Clone, Copy, Debug)]
struct List<'a> {
    count: usize,
    reader: Reader<'a>,
}

/// How a version names a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TopicRef<'a> {
    /// By name, below version 13.
    Name(&'a str),
    /// By id, from version 13 on.
    Id(Uuid),
}

impl<'a> Request<'a> {
    /// Checks the request whose body begins at byte `body_at` of `frame`. Bytes behind it are ignored, as by Kafka.
    pub fn parse(frame: &'a [u8], body_at: usize, version: i16) -> Result<Self> {
        if !VERSIONS.contains(&version) {
            return Err(Error::Version { what: "Fetch", version });
        }
        let mut reader = Reader::new(frame, body_at, Encoding::of(version, FLEXIBLE_FROM));
        let replica_id = if version < 15 { reader.i32("replica id")? } else { -1 };
        let mut request = Self {
            cluster_id: None,
            replica: Replica { id: replica_id, epoch: -1 },
            max_wait_ms: reader.i32("max wait")?,
            min_bytes: reader.i32("min bytes")?,
            max_bytes: reader.i32("max bytes")?,
            isolation_level: reader.i8("isolation level")?,
            session_id: if version >= 7 { reader.i32("session id")? } else { 0 },
            session_epoch: if version >= 7 { reader.i32("session epoch")? } else { -1 },
            rack_id: "",
            version,
            topics: List::read(&mut reader, "topics", version, Topic::least, |reader| {
                Topic::read(reader, version)
            })?,
            forgotten: List { count: 0, reader },
        };
        if version >= 7 {
            request.forgotten =
                List::read(&mut reader, "forgotten topics", version, ForgottenTopic::least, |reader| {
                    ForgottenTopic::read(reader, version)
                })?;
        }
        if version >= 11 {
            request.rack_id = reader.string("rack id")?;
        }
        request.read_tags(&mut reader)?;
        Ok(request)
    }

    fn read_tags(&mut self, reader: &mut Reader<'a>) -> Result<()> {
        for _ in 0..reader.tag_count()? {
            match reader.tag()? {
                (0, mut field) => self.cluster_id = field.nullable_string("cluster id")?,
                (1, mut field) if self.version >= 15 => {
                    self.replica =
                        Replica { id: field.i32("replica id")?, epoch: field.i64("replica epoch")? };
                    field.skip_tags()?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The topics to fetch, in the order of the request, which is the order of service.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = Topic<'a>> + use<'a> {
        let (mut reader, version) = (self.topics.reader, self.version);
        (0..self.topics.count).map(move |_| Topic::read(&mut reader, version).expect("parse has walked it"))
    }

    /// The topics that leave the session.
    pub fn forgotten_topics(&self) -> impl ExactSizeIterator<Item = ForgottenTopic<'a>> + use<'a> {
        let (mut reader, version) = (self.forgotten.reader, self.version);
        (0..self.forgotten.count)
            .map(move |_| ForgottenTopic::read(&mut reader, version).expect("parse has walked it"))
    }
}

impl<'a> List<'a> {
    /// Reads a count, keeps the place, and walks the elements.
    fn read<T>(
        reader: &mut Reader<'a>,
        what: &'static str,
        version: i16,
        least: fn(i16) -> usize,
        element: impl Fn(&mut Reader<'a>) -> Result<T>,
    ) -> Result<Self> {
        let count = reader.count(what, least(version))?;
        let list = Self { count, reader: *reader };
        for _ in 0..count {
            element(reader)?;
        }
        Ok(list)
    }
}

impl<'a> TopicRef<'a> {
    fn least(version: i16) -> usize {
        if version >= TOPIC_IDS_FROM { 16 } else { Encoding::of(version, FLEXIBLE_FROM).least_string() }
    }

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<Self> {
        if version >= TOPIC_IDS_FROM {
            reader.uuid("topic id").map(Self::Id)
        } else {
            reader.string("topic name").map(Self::Name)
        }
    }
}

/// One topic to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// Its name or id.
    pub topic: TopicRef<'a>,
    version: i16,
    partitions: List<'a>,
}

impl<'a> Topic<'a> {
    fn least(version: i16) -> usize {
        let encoding = Encoding::of(version, FLEXIBLE_FROM);
        TopicRef::least(version) + encoding.least_array() + encoding.least_tags()
    }

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<Self> {
        let topic = TopicRef::read(reader, version)?;
        let element = |reader: &mut Reader<'a>| Partition::read(reader, version);
        let partitions = List::read(reader, "partitions", version, Partition::least, element)?;
        reader.skip_tags()?;
        Ok(Self { topic, version, partitions })
    }

    /// The partitions, in the order of the request.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = Partition> + use<'a> {
        let (mut reader, version) = (self.partitions.reader, self.version);
        (0..self.partitions.count)
            .map(move |_| Partition::read(&mut reader, version).expect("parse has walked it"))
    }
}

/// One partition to fetch. Epochs and offsets of -1 mean none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partition {
    /// Its number within the topic.
    pub index: i32,
    /// The leader epoch that the client knows. From version 9.
    pub current_leader_epoch: i32,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The epoch of the last record the client has. From version 12.
    pub last_fetched_epoch: i32,
    /// A follower's first offset. From version 5.
    pub log_start_offset: i64,
    /// How many bytes are wanted of this partition at most.
    pub partition_max_bytes: i32,
}

impl Partition {
    fn least(version: i16) -> usize {
        let fields = [(9, 4), (4, 8), (12, 4), (5, 8), (4, 4)];
        let present = fields.iter().filter(|(since, _)| version >= *since);
        4 + present.map(|(_, bytes)| bytes).sum::<usize>() + Encoding::of(version, FLEXIBLE_FROM).least_tags()
    }

    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self> {
        let partition = Self {
            index: reader.i32("partition")?,
            current_leader_epoch: if version >= 9 { reader.i32("current leader epoch")? } else { -1 },
            fetch_offset: reader.i64("fetch offset")?,
            last_fetched_epoch: if version >= 12 { reader.i32("last fetched epoch")? } else { -1 },
            log_start_offset: if version >= 5 { reader.i64("log start offset")? } else { -1 },
            partition_max_bytes: reader.i32("partition max bytes")?,
        };
        reader.skip_tags()?;
        Ok(partition)
    }
}

/// One topic that leaves the session.
#[derive(Clone, Copy, Debug)]
pub struct ForgottenTopic<'a> {
    /// Its name or id.
    pub topic: TopicRef<'a>,
    partitions: List<'a>,
}

impl<'a> ForgottenTopic<'a> {
    fn least(version: i16) -> usize {
        Topic::least(version)
    }

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<Self> {
        let topic = TopicRef::read(reader, version)?;
        let partitions = List::read(
            reader,
            "forgotten partitions",
            version,
            |_| 4,
            |reader| reader.i32("forgotten partition"),
        )?;
        reader.skip_tags()?;
        Ok(Self { topic, partitions })
    }

    /// The partitions' numbers.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = i32> + use<'a> {
        let mut reader = self.partitions.reader;
        (0..self.partitions.count).map(move |_| reader.i32("partition").expect("parse has walked it"))
    }
}
