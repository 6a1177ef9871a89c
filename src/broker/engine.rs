//! The APIs' view of the logs, wherever they are: at home a direct call, on another shard a hop.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use corelane_shards::clock::{self, Moment};
use corelane_shards::core::effect::Millis;
use corelane_shards::core::partition::SegmentTime;
use corelane_shards::engine::Log;
use corelane_shards::memory::Slice;
use corelane_shards::net::ListenerIndex;
use corelane_shards::router::Logs;
use corelane_shards::throttle::Throttle;
use corelane_shards::types::{LeaderEpoch, Offset, PartitionId, ProducerId, Timestamp, TopicId};

use super::control::Control;
use crate::api::Context;
use crate::api::api_versions::Identity;
use crate::api::engine::{
    Acks, AppendError, Appended, Batch, Engine, EpochEnd, FetchError, Fetched, Offsets, Position,
    TimestampOffset,
};
use crate::cluster::image::{
    ChangeError, ImageSubscription, MetadataImage, NewTopic, Topic, random_topic_id,
};
use crate::config::Settings;

/// What every shard's engine knows alike.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) images: ImageSubscription,
    pub(super) control: Control,
    /// The epoch of this start.
    pub(super) epoch: LeaderEpoch,
    pub(super) settings: Arc<Settings>,
}

/// The engine of the APIs on one shard.
pub(super) struct BrokerEngine {
    logs: Logs,
    shared: Shared,
    /// Without staging memory that outlives the process, acks=1 has to wait for the flush.
    is_staged: bool,
    producer_ids: std::cell::Cell<i64>,
    /// The frame of the request that is being taken.
    frame: RefCell<Option<Slice>>,
    closed: Throttle,
}

/// Bits of a producer id below the start's epoch: ten for the shard, the rest counts.
const PRODUCER_SHARD_SHIFT: u32 = 22;
const PRODUCER_EPOCH_SHIFT: u32 = 32;

impl BrokerEngine {
    /// The engine over a shard's logs.
    pub(super) fn new(logs: Logs, shared: Shared, is_staged: bool) -> BrokerEngine {
        BrokerEngine {
            logs,
            shared,
            is_staged,
            producer_ids: std::cell::Cell::new(0),
            frame: RefCell::new(None),
            closed: Throttle::default(),
        }
    }

    /// The time of the shard's turn.
    pub(super) fn moment(&self) -> Moment {
        self.logs.home().shard().now()
    }

    /// Runs a request that has to wait.
    pub(super) fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>) {
        self.logs.home().shard().spawn_local(future);
    }

    /// Runs `take`, the part of a request in which its batches are handed over; they lie in `frame`.
    pub(super) fn with_frame<T>(&self, frame: Slice, take: impl FnOnce() -> T) -> T {
        self.frame.replace(Some(frame));
        let taken = take();
        self.frame.replace(None);
        taken
    }

    /// The batch as memory that can be lent: a part of its request's frame. One that the broker made itself lies in none
    /// and is copied.
    fn slice(&self, batch: Batch<'_>) -> Slice {
        let frame = self.frame.borrow();
        let lies_in = |frame: &&Slice| {
            frame.get(batch.range.clone()).is_some_and(|part| std::ptr::eq(part, batch.bytes))
        };
        match frame.as_ref().filter(lies_in) {
            Some(frame) => frame.narrow(batch.range),
            None => Slice::from_vec(batch.bytes.to_vec()),
        }
    }

    /// The lines about connections closed for their requests.
    pub(super) fn closed(&self) -> &Throttle {
        &self.closed
    }

    /// The cluster's id, as clients are told it.
    pub(super) fn cluster_id(&self) -> String {
        self.shared.images.latest().cluster_id().map(|id| id.to_string()).unwrap_or_default()
    }

    /// What a request of this listener is served within.
    pub(super) fn context<'a>(&'a self, cluster_id: &'a str, listener: ListenerIndex) -> Context<'a> {
        let settings = &*self.shared.settings;
        let at = usize::from(listener.0).min(settings.listeners.len() - 1);
        Context {
            identity: Identity { cluster_id, node_id: Some(settings.node_id) },
            listener: &settings.listeners[at].name,
            settings,
        }
    }

    /// Where to look for the first record that is not before `from` and not older than `timestamp`, if there may be one.
    pub(super) async fn seek(
        &self,
        partition: PartitionId,
        timestamp: Timestamp,
        from: Offset,
    ) -> Result<Option<Offset>, FetchError> {
        self.logs.seek(partition, timestamp, from).await
    }

    /// How late the segments of a log are that hold anything from `start` on.
    pub(super) async fn segment_times(
        &self,
        partition: PartitionId,
        start: Offset,
    ) -> Result<Vec<SegmentTime>, FetchError> {
        let look = move |log: &Log| log.with_partition(partition, |p| p.segment_times(start));
        let times = self.logs.ask(partition, look).await.ok().flatten();
        times.ok_or(FetchError::UnknownPartition)
    }
}

impl Engine for BrokerEngine {
    type Slice = Slice;

    fn now(&self) -> Millis {
        clock::wall_millis()
    }

    fn image(&self) -> Arc<MetadataImage> {
        self.shared.images.latest()
    }

    fn start_epoch(&self) -> LeaderEpoch {
        self.shared.epoch
    }

    fn start_append<'a>(
        &'a self,
        partition: PartitionId,
        batch: Batch<'a>,
        acks: Acks,
    ) -> impl Future<Output = Result<Appended, AppendError>> + use<'a> {
        let acks = if self.is_staged { acks } else { Acks::All };
        let bytes = self.slice(batch);
        self.logs.append(partition, &bytes, acks)
    }

    fn start_fetch<'a>(
        &'a self,
        partition: PartitionId,
        offset: Offset,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Fetched<Slice>, FetchError>> + use<'a> {
        let reply = self.logs.fetch(partition, offset, bytes_max);
        async move {
            let fetched = reply.await?;
            let corelane_shards::core::Fetched { batches, high_watermark, log_start } = fetched;
            Ok(Fetched { batches, high_watermark, log_start })
        }
    }

    async fn wait_for_data(&self, positions: &[Position], deadline: Millis) -> Vec<usize> {
        let watch = |position: &Position| self.logs.watch(position.partition, position.offset);
        let mut watches: Vec<_> = positions.iter().map(watch).collect();
        let wait = Duration::from_millis(u64::try_from(deadline - self.now()).unwrap_or(0));
        let mut alarm = self.logs.home().alarm(self.moment().after(wait));
        std::future::poll_fn(|context| {
            let mut due = Vec::new();
            for (at, watch) in watches.iter_mut().enumerate() {
                if Pin::new(watch).poll(context).is_ready() {
                    due.push(at);
                }
            }
            let late = Pin::new(&mut alarm).poll(context).is_ready();
            if due.is_empty() && !late { Poll::Pending } else { Poll::Ready(due) }
        })
        .await
    }

    async fn offsets(&self, partition: PartitionId) -> Result<Offsets, FetchError> {
        let look = move |log: &Log| log.offsets(partition);
        let offsets = self.logs.ask(partition, look).await.ok().flatten();
        let offsets = offsets.ok_or(FetchError::UnknownPartition)?;
        let corelane_shards::engine::Offsets { log_start, high_watermark, end, first_epoch } = offsets;
        Ok(Offsets { log_start, high_watermark, end, first_epoch })
    }

    async fn offset_for_timestamp(
        &self,
        partition: PartitionId,
        timestamp: Timestamp,
    ) -> Result<Option<TimestampOffset>, FetchError> {
        super::times::first_at_or_after(self, partition, timestamp).await
    }

    async fn max_timestamp_offset(
        &self,
        partition: PartitionId,
    ) -> Result<Option<TimestampOffset>, FetchError> {
        super::times::latest(self, partition).await
    }

    async fn end_offset_for_epoch(
        &self,
        partition: PartitionId,
        epoch: LeaderEpoch,
    ) -> Result<EpochEnd, FetchError> {
        let look = move |log: &Log| log.with_partition(partition, |p| (p.epochs.clone(), p.high_watermark));
        let found = self.logs.ask(partition, look).await.ok().flatten();
        let (epochs, end) = found.ok_or(FetchError::UnknownPartition)?;
        Ok(end_of_epoch(&epochs, end, epoch))
    }

    fn new_topic_id(&self) -> std::io::Result<TopicId> {
        random_topic_id()
    }

    async fn create_topic(&self, topic: NewTopic) -> Result<Arc<Topic>, ChangeError> {
        self.shared.control.create_topic(topic).await
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), ChangeError> {
        self.shared.control.delete_topic(topic).await
    }

    /// Made of this start's epoch, the shard, and a count, so no other start or shard gives the same.
    async fn new_producer_id(&self) -> Result<ProducerId, ChangeError> {
        let count = self.producer_ids.get();
        if count >> PRODUCER_SHARD_SHIFT != 0 {
            return Err(ChangeError::Contended(0));
        }
        self.producer_ids.set(count + 1);
        let epoch = i64::from(self.shared.epoch.get()) << PRODUCER_EPOCH_SHIFT;
        let shard = i64::from(self.logs.home().shard().index().get()) << PRODUCER_SHARD_SHIFT;
        Ok(ProducerId(epoch | shard | count))
    }
}

/// The greatest known epoch up to `epoch`, and where the one behind it begins; see `Engine::end_offset_for_epoch`.
fn end_of_epoch(epochs: &[(LeaderEpoch, Offset)], end: Offset, epoch: LeaderEpoch) -> EpochEnd {
    let behind = epochs.partition_point(|(known, _)| *known <= epoch);
    let end = epochs.get(behind).map_or(end, |(_, start)| *start);
    let epoch = behind.checked_sub(1).map_or(epoch, |at| epochs[at].0);
    EpochEnd { epoch, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let epochs = [(LeaderEpoch(3), Offset(0)), (LeaderEpoch(5), Offset(10))];
        let found = |epoch| {
            let EpochEnd { epoch, end } = end_of_epoch(&epochs, Offset(17), LeaderEpoch(epoch));
            (epoch.get(), end.get())
        };
        assert_eq!(
            [found(2), found(3), found(4), found(5), found(9)],
            [(2, 0), (3, 10), (3, 10), (5, 17), (5, 17)]
        );
    }
}
