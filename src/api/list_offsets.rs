//! ListOffsets 1-10: offsets by time, and where a log begins and ends.
//!
//! | timestamp | meaning | since | answered |
//! |---|---|---|---|
//! | 0 and greater | the first record that is not older | 1 | its time, offset and epoch; -1 if there is none |
//! | -1 | latest | 1 | the high watermark and the leader's epoch |
//! | -2 | earliest | 1 | the first offset and its epoch |
//! | -3 | greatest time (KIP-734) | 7 | that record; -1 if the log is empty |
//! | -4 | earliest local (KIP-405) | 8 | as -2: all of the log is local |
//! | -5 | latest tiered (KIP-1005) | 9 | -1: nothing is tiered |
//!
//! - Any other negative timestamp, or one in a version before its own, is answered with UNSUPPORTED_VERSION.
//! - A partition named twice is answered once, with INVALID_REQUEST.
//! - Both isolation levels read the same: the last stable offset is the high watermark. Version 2 brings them, 4 the
//!   leader epoch, 6 is flexible, 10 brings a timeout for tiered storage, which is not needed here.
//! - A replica gets what a consumer gets.

use std::collections::HashMap;

use bytes::Bytes;
use corelane_shards::types::Timestamp;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::engine::{Engine, TimestampOffset};
use super::located::Located;
use super::registry::Api;
use super::{CloseReason, ErrorCode, Request};
use crate::cluster::image::MetadataImage;

/// ListOffsets.
pub const API: Api =
    Api { key: 2, name: "ListOffsets", advertised: 1..=10, served: 1..=10, flexible_from: 6 };

/// What a timestamp asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    At(Timestamp),
    Latest,
    Earliest,
    GreatestTime,
    LatestTiered,
}

impl Wanted {
    fn read(timestamp: i64, version: i16) -> Result<Self, ErrorCode> {
        match (timestamp, version) {
            (0.., _) => Ok(Self::At(Timestamp(timestamp))),
            (-1, _) => Ok(Self::Latest),
            (-2, _) | (-4, 8..) => Ok(Self::Earliest),
            (-3, 7..) => Ok(Self::GreatestTime),
            (-5, 9..) => Ok(Self::LatestTiered),
            _ => Err(ErrorCode::UnsupportedVersion),
        }
    }
}

/// Time, offset and epoch as they are answered; -1 means none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Found {
    timestamp: i64,
    offset: i64,
    epoch: i32,
}

const NOTHING: Found = Found { timestamp: -1, offset: -1, epoch: -1 };

/// Answers a request.
pub async fn handle(request: &Request<'_>, engine: &impl Engine) -> Result<Bytes, CloseReason> {
    let body: ListOffsetsRequest = request.decode()?;
    let image = engine.image();
    let mut times_named = count(&body.topics);
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let found = match times_named.remove(&(topic.name.as_str(), asked.partition_index)) {
                None => continue,
                Some(1) => find(engine, &image, &topic.name, asked, request.version()).await,
                Some(_) => Err(ErrorCode::InvalidRequest),
            };
            partitions.push(describe(asked.partition_index, found, request.version()));
        }
        let response = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
        topics.push(response.with_partitions(partitions));
    }
    request.encode(&ListOffsetsResponse::default().with_topics(topics))
}

/// How often each partition is named.
fn count(topics: &[ListOffsetsTopic]) -> HashMap<(&str, i32), usize> {
    let mut times = HashMap::new();
    for topic in topics {
        for partition in &topic.partitions {
            *times.entry((topic.name.as_str(), partition.partition_index)).or_insert(0) += 1;
        }
    }
    times
}

async fn find(
    engine: &impl Engine,
    image: &MetadataImage,
    topic: &str,
    asked: &ListOffsetsPartition,
    version: i16,
) -> Result<Found, ErrorCode> {
    let wanted = Wanted::read(asked.timestamp, version)?;
    let located = Located::by_name(engine, image, topic, asked.partition_index)?;
    located.check_epoch(asked.current_leader_epoch)?;
    Ok(match wanted {
        Wanted::At(time) => record(engine.offset_for_timestamp(located.id, time).await?),
        Wanted::GreatestTime => record(engine.max_timestamp_offset(located.id).await?),
        Wanted::LatestTiered => NOTHING,
        Wanted::Latest => {
            let offset = engine.offsets(located.id).await?.high_watermark.get();
            Found { timestamp: -1, offset, epoch: located.epoch.get() }
        }
        Wanted::Earliest => {
            let offsets = engine.offsets(located.id).await?;
            let epoch = offsets.first_epoch.unwrap_or(located.epoch).get();
            Found { timestamp: -1, offset: offsets.log_start.get(), epoch }
        }
    })
}

fn record(found: Option<TimestampOffset>) -> Found {
    found.map_or(NOTHING, |record| Found {
        timestamp: record.timestamp.get(),
        offset: record.offset.get(),
        epoch: record.epoch.get(),
    })
}

fn describe(index: i32, found: Result<Found, ErrorCode>, version: i16) -> ListOffsetsPartitionResponse {
    let error = found.err().unwrap_or(ErrorCode::None);
    let found = found.unwrap_or(NOTHING);
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(error.code())
        .with_timestamp(found.timestamp)
        .with_offset(found.offset)
        .with_leader_epoch(if version >= 4 { found.epoch } else { -1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_special_timestamp_begins_with_its_own_version() {
        for (timestamp, since, wanted) in [
            (0, 1, Wanted::At(Timestamp(0))),
            (i64::MAX, 1, Wanted::At(Timestamp(i64::MAX))),
            (-1, 1, Wanted::Latest),
            (-2, 1, Wanted::Earliest),
            (-3, 7, Wanted::GreatestTime),
            (-4, 8, Wanted::Earliest),
            (-5, 9, Wanted::LatestTiered),
        ] {
            for version in API.served {
                let expected = if version >= since { Ok(wanted) } else { Err(ErrorCode::UnsupportedVersion) };
                assert_eq!(Wanted::read(timestamp, version), expected, "{timestamp} in {version}");
            }
        }
        for unknown in [-6, -7, i64::MIN] {
            assert_eq!(Wanted::read(unknown, 10), Err(ErrorCode::UnsupportedVersion));
        }
    }
}
