//! What a Fetch request wants of each partition, each named once.

use std::collections::HashMap;

use super::super::engine::Engine;
use super::super::located::Located;
use crate::api::ErrorCode;
use crate::wire::fetch::{Partition, Replica, Request, TopicRef};

/// One partition of the request.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Its topic, as the request names it.
    pub(super) topic: TopicRef<'a>,
    /// Its number.
    pub(super) index: i32,
    /// Where it is, or why it cannot be read.
    pub(super) located: Result<Located, ErrorCode>,
    /// Whether that was already known before it was looked at as a log; Kafka waits on for the others then.
    is_known: bool,
    /// The leader epoch that the client believes in, -1 for none.
    pub(super) current_leader_epoch: i32,
    /// The epoch of the client's last record, -1 for none.
    pub(super) last_fetched_epoch: i32,
    /// The first offset wanted.
    pub(super) offset: i64,
    /// How many bytes are wanted at most.
    pub(super) bytes_max: usize,
}

impl<'a> Wanted<'a> {
    fn new(topic: TopicRef<'a>, asked: &Partition, located: Result<Located, ErrorCode>) -> Self {
        Self {
            topic,
            index: asked.index,
            is_known: located.is_ok(),
            located,
            current_leader_epoch: asked.current_leader_epoch,
            last_fetched_epoch: asked.last_fetched_epoch,
            offset: asked.fetch_offset,
            bytes_max: usize::try_from(asked.partition_max_bytes).unwrap_or(0),
        }
    }

    /// Whether there is a log to read.
    pub(super) fn is_readable(&self) -> bool {
        self.is_known
    }

    /// Why there is none.
    pub(super) fn error(&self) -> ErrorCode {
        self.located.as_ref().err().copied().unwrap_or(ErrorCode::None)
    }
}

/// Reads the partitions in the order of the request. One that is named again counts as it is named last, in the place
/// where it is named first, as with Kafka.
pub(super) fn read<'a>(request: &Request<'a>, engine: &impl Engine) -> Vec<Wanted<'a>> {
    let image = engine.image();
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    let mut places: HashMap<(Key<'a>, i32), usize> = HashMap::new();
    for topic in request.topics() {
        for asked in topic.partitions() {
            let located = match topic.topic {
                TopicRef::Name(name) => Located::by_name(engine, &image, name, asked.index),
                TopicRef::Id(id) => Located::by_id(engine, &image, id, asked.index),
            };
            let located = located.and_then(|located| refuse_follower(request.replica, &asked, located));
            let one = Wanted::new(topic.topic, &asked, located);
            match places.get(&(Key::of(topic.topic), asked.index)) {
                Some(place) => wanted[*place] = one,
                None => {
                    places.insert((Key::of(topic.topic), asked.index), wanted.len());
                    wanted.push(one);
                }
            }
        }
    }
    wanted
}

/// A topic's name or id, to be compared.
#[derive(Eq, Hash, PartialEq)]
enum Key<'a> {
    Name(&'a str),
    Id([u8; 16]),
}

impl<'a> Key<'a> {
    fn of(topic: TopicRef<'a>) -> Self {
        match topic {
            TopicRef::Name(name) => Self::Name(name),
            TopicRef::Id(id) => Self::Id(id.0),
        }
    }
}

/// A broker that asks is a replica of nothing here: Kafka tells such a one to wait for newer metadata.
fn refuse_follower(replica: Replica, asked: &Partition, located: Located) -> Result<Located, ErrorCode> {
    if replica.id < 0 {
        return Ok(located);
    }
    located.check_epoch(asked.current_leader_epoch)?;
    Err(match asked.current_leader_epoch {
        -1 => ErrorCode::NotLeaderOrFollower,
        _ => ErrorCode::UnknownLeaderEpoch,
    })
}
