//! What the APIs need of the log: the one seam between Kafka's requests and the shards that serve them.
//!
//! An [`Engine`] belongs to one shard's thread and finds the owner of each partition itself, at home or across a hop.
//! Handlers are generic over it, so production, simulation and tests run the same handlers without dynamic dispatch.
//!
//! - **Order.** `start_append` and `start_fetch` hand their work over within the call; the future that they return
//!   only waits for the answer. Two appends of one connection to one partition therefore happen in the order of the
//!   calls, however their futures are polled, and dropping such a future undoes nothing.
//! - **Back-pressure.** An engine that has no room waits and tries again; `Busy` never comes out of it.
//! - **Visibility.** Batches and offsets that are given out lie below the high watermark, except [`Offsets::end`].
//!
//! It knows no version, no topic name and no error code of Kafka's.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use corelane_shards::core::effect::Millis;
pub use corelane_shards::core::effect::{Acks, AppendError, Appended, FetchError};
use corelane_shards::types::{LeaderEpoch, Offset, PartitionId, ProducerId, Timestamp, TopicId};

use crate::cluster::image::{ChangeError, MetadataImage, NewTopic, Topic};

/// The log as its APIs see it. See the module's text for order, back-pressure and visibility.
///
/// Futures stay on the engine's thread, so none of them is `Send`.
#[allow(async_fn_in_trait)]
pub trait Engine {
    /// Lends the bytes of one record batch for as long as it lives.
    type Slice: AsRef<[u8]>;

    /// The time, in milliseconds since 1970; deadlines are told in it.
    fn now(&self) -> Millis;

    /// The newest state of the metadata.
    fn image(&self) -> Arc<MetadataImage>;

    /// The epoch of this broker's start: no log is led under an older one.
    fn start_epoch(&self) -> LeaderEpoch;

    /// Hands over one batch, exactly as its producer sent it; the future says what became of it.
    fn start_append<'a>(
        &'a self,
        partition: PartitionId,
        batch: Batch<'a>,
        acks: Acks,
    ) -> impl Future<Output = Result<Appended, AppendError>> + use<'a, Self>;

    /// Hands over a read of whole batches from the one that holds `offset` on: that one whatever its size, the others
    /// while all of them fit `bytes_max`. At the high watermark there is none, and that is no error.
    fn start_fetch<'a>(
        &'a self,
        partition: PartitionId,
        offset: Offset,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Fetched<Self::Slice>, FetchError>> + use<'a, Self>;

    /// Waits until a record at one of the positions is visible, or its partition is gone, and gives back the places in
    /// `positions` of those; none when the deadline has passed. Dropping the future ends the wait.
    async fn wait_for_data(&self, positions: &[Position], deadline: Millis) -> Vec<usize>;

    /// Where the log begins and ends.
    async fn offsets(&self, partition: PartitionId) -> Result<Offsets, FetchError>;

    /// The first visible record whose time is at least `timestamp`.
    async fn offset_for_timestamp(
        &self,
        partition: PartitionId,
        timestamp: Timestamp,
    ) -> Result<Option<TimestampOffset>, FetchError>;

    /// The visible record with the greatest time, the first of them if there are several.
    async fn max_timestamp_offset(
        &self,
        partition: PartitionId,
    ) -> Result<Option<TimestampOffset>, FetchError>;

    /// The greatest epoch up to `epoch` that the log knows, and the offset at which the next one begins, which is the
    /// log's end if there is none. Below all that it knows: `epoch` itself, and where the first one begins.
    async fn end_offset_for_epoch(
        &self,
        partition: PartitionId,
        epoch: LeaderEpoch,
    ) -> Result<EpochEnd, FetchError>;

    /// An identity for a new topic.
    fn new_topic_id(&self) -> std::io::Result<TopicId>;

    /// Creates a topic; answered when it is durable, its logs are open and [`Engine::image`] has it.
    async fn create_topic(&self, topic: NewTopic) -> Result<Arc<Topic>, ChangeError>;

    /// Deletes a topic; answered when that is durable and [`Engine::image`] has it no more.
    async fn delete_topic(&self, topic: TopicId) -> Result<(), ChangeError>;

    /// An idempotent producer's identity that was never given before, across restarts.
    async fn new_producer_id(&self) -> Result<ProducerId, ChangeError>;
}

/// One batch of a request.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Where they lie in the request's frame, for an engine that keeps the frame instead of copying the batch.
    pub range: Range<usize>,
}

/// Record batches, whole, in order, the first one holding the offset asked for.
#[derive(Clone, Debug)]
pub struct Fetched<S> {
    /// One slice for each batch.
    pub batches: Vec<S>,
    /// The offset behind the last visible record.
    pub high_watermark: Offset,
    /// The first offset of the log.
    pub log_start: Offset,
}

/// A place in a log that a fetch waits at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// The log.
    pub partition: PartitionId,
    /// The offset of the record waited for.
    pub offset: Offset,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offsets {
    /// The first offset.
    pub log_start: Offset,
    /// The offset behind the last visible record.
    pub high_watermark: Offset,
    /// The offset that the next record gets.
    pub end: Offset,
    /// The epoch of the first record, if there is one.
    pub first_epoch: Option<LeaderEpoch>,
}

/// A record found by its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimestampOffset {
    /// The record's time.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// The epoch of its batch.
    pub epoch: LeaderEpoch,
}

/// Where an epoch ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The offset behind its last record.
    pub end: Offset,
}
