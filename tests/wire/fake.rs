//! An engine of logs in memory, driven by a script: what the handlers are tested over.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use corelane::api::api_versions::Identity;
use corelane::api::engine::{
    Acks, AppendError, Appended, Batch, EpochEnd, FetchError, Fetched, Offsets, Position, TimestampOffset,
};
use corelane::api::{Answer, CloseReason, Context, Dispatch, Engine, dispatch, serve};
use corelane::cluster::image::{
    Broker, ChangeError, ClusterId, Endpoint, MetadataImage, NewTopic, NodeId, Topic,
};
use corelane::cluster::store::{Change, Committed, Operation, Transaction};
use corelane::config::{CpuId, Origin, Settings, Values};
use corelane_shards::format::batch::BatchView;
use corelane_shards::types::{
    LeaderEpoch, Offset, PartitionId, PartitionIndex, ProducerId, Timestamp, TopicId,
};

/// One log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) batches: Vec<Bytes>,
    pub(crate) log_start: i64,
    pub(crate) high_watermark: i64,
    /// Answers by timestamp; -3 for the greatest.
    pub(crate) by_time: BTreeMap<i64, TimestampOffset>,
    /// Answers by epoch.
    pub(crate) ends: BTreeMap<i32, (i32, i64)>,
}

type Wake = Box<dyn FnOnce(&Fake) -> Vec<usize>>;

/// The engine. Where the script has no answer, the logs answer.
pub(crate) struct Fake {
    pub(crate) image: RefCell<Arc<MetadataImage>>,
    pub(crate) start_epoch: i32,
    pub(crate) logs: RefCell<BTreeMap<PartitionId, Log>>,
    pub(crate) clock: Cell<i64>,
    pub(crate) handed_over: RefCell<Vec<(PartitionId, Vec<u8>, Acks)>>,
    pub(crate) append_answers: RefCell<VecDeque<Result<Appended, AppendError>>>,
    pub(crate) fetches: RefCell<Vec<(PartitionId, i64, usize)>>,
    pub(crate) waits: RefCell<Vec<Vec<Position>>>,
    pub(crate) wakes: RefCell<VecDeque<Wake>>,
    pub(crate) topic_ids: RefCell<VecDeque<TopicId>>,
    pub(crate) producer_id: Cell<i64>,
}

impl Default for Fake {
    fn default() -> Self {
        let fake = Self {
            image: RefCell::default(),
            start_epoch: 0,
            logs: RefCell::default(),
            clock: Cell::new(1_000),
            handed_over: RefCell::default(),
            append_answers: RefCell::default(),
            fetches: RefCell::default(),
            waits: RefCell::default(),
            wakes: RefCell::default(),
            topic_ids: RefCell::default(),
            producer_id: Cell::new(4_000),
        };
        let image = MetadataImage::default();
        fake.commit(image.initialise(ClusterId([7; 16])).expect("an empty image"));
        let endpoint = Endpoint { listener: "PLAINTEXT".into(), host: "here".into(), port: 9092 };
        let broker =
            Broker { node_id: NodeId(1), incarnation: [1; 16], rack: None, endpoints: vec![endpoint] };
        let (transaction, _) = fake.latest().start_broker(&broker).expect("a small broker");
        fake.commit(transaction);
        fake
    }
}

impl Fake {
    pub(crate) fn latest(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    fn commit(&self, transaction: Transaction) {
        let change = |operation| match operation {
            Operation::Put { key, value } => Change { key, value: Some(value) },
            Operation::Delete { key } => Change { key, value: None },
        };
        let changes = transaction.operations.into_iter().map(change).collect();
        let image = self.latest();
        let committed = Committed { revision: image.revision().next(), changes };
        let image = image.advance(&committed).expect("a change of the image's own");
        *self.image.borrow_mut() = Arc::new(image);
    }

    /// Creates a topic with an empty log for each partition.
    pub(crate) fn with_topic(self, name: &str, id: u8, partitions: i32) -> Self {
        self.add_topic(NewTopic {
            name: name.into(),
            id: TopicId([id; 16]),
            partitions,
            replication_factor: 1,
            overrides: BTreeMap::new(),
        })
        .expect("a topic to create");
        self
    }

    pub(crate) fn add_topic(&self, new: NewTopic) -> Result<Arc<Topic>, ChangeError> {
        let (transaction, topic) = self.latest().create_topic(new)?;
        self.commit(transaction);
        for index in 0..topic.partitions {
            let id = PartitionId { topic: topic.id, index: PartitionIndex(index) };
            self.logs.borrow_mut().insert(id, Log::default());
        }
        Ok(topic)
    }

    /// The partition of a topic that exists.
    pub(crate) fn partition(&self, topic: &str, index: i32) -> PartitionId {
        let topic = self.latest().topic_by_name(topic).expect("the topic exists").id;
        PartitionId { topic, index: PartitionIndex(index) }
    }

    /// Changes the log of a partition.
    pub(crate) fn log<T>(&self, topic: &str, index: i32, change: impl FnOnce(&mut Log) -> T) -> T {
        let id = self.partition(topic, index);
        change(self.logs.borrow_mut().entry(id).or_default())
    }

    fn read<T>(&self, id: PartitionId, read: impl FnOnce(&Log) -> T) -> Result<T, FetchError> {
        self.logs.borrow().get(&id).map(read).ok_or(FetchError::UnknownPartition)
    }
}

impl Engine for Fake {
    type Slice = Bytes;

    fn now(&self) -> i64 {
        self.clock.get()
    }

    fn image(&self) -> Arc<MetadataImage> {
        self.latest()
    }

    fn start_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.start_epoch)
    }

    fn start_append<'a>(
        &'a self,
        partition: PartitionId,
        batch: Batch<'a>,
        acks: Acks,
    ) -> impl Future<Output = Result<Appended, AppendError>> + use<'a> {
        self.handed_over.borrow_mut().push((partition, batch.bytes.to_vec(), acks));
        let place = self.handed_over.borrow().len() - 1;
        let scripted = self.append_answers.borrow_mut().pop_front();
        let base_offset = Offset(i64::try_from(place).expect("few appends"));
        let usual = Appended { base_offset, append_time: -1, log_start: Offset(0) };
        std::future::ready(scripted.unwrap_or(Ok(usual)))
    }

    fn start_fetch<'a>(
        &'a self,
        partition: PartitionId,
        offset: Offset,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Fetched<Bytes>, FetchError>> + use<'a> {
        self.fetches.borrow_mut().push((partition, offset.get(), bytes_max));
        let fetched = self.read(partition, |log| {
            if !(log.log_start..=log.high_watermark).contains(&offset.get()) {
                return Err(FetchError::OffsetOutOfRange);
            }
            let is_wanted =
                |batch: &&Bytes| BatchView::parse(batch).expect("a batch").0.last_offset() >= offset;
            let (mut batches, mut bytes) = (Vec::new(), 0);
            for batch in log.batches.iter().filter(is_wanted) {
                bytes += batch.len();
                if bytes > bytes_max && !batches.is_empty() {
                    break;
                }
                batches.push(batch.clone());
            }
            let (high_watermark, log_start) = (Offset(log.high_watermark), Offset(log.log_start));
            Ok(Fetched { batches, high_watermark, log_start })
        });
        std::future::ready(fetched.and_then(|fetched| fetched))
    }

    async fn wait_for_data(&self, positions: &[Position], deadline: i64) -> Vec<usize> {
        self.waits.borrow_mut().push(positions.to_vec());
        let wake = self.wakes.borrow_mut().pop_front();
        match wake {
            Some(wake) => wake(self),
            None => {
                self.clock.set(deadline);
                Vec::new()
            }
        }
    }

    async fn offsets(&self, partition: PartitionId) -> Result<Offsets, FetchError> {
        self.read(partition, |log| Offsets {
            log_start: Offset(log.log_start),
            high_watermark: Offset(log.high_watermark),
            end: Offset(log.high_watermark),
            first_epoch: None,
        })
    }

    async fn offset_for_timestamp(
        &self,
        partition: PartitionId,
        timestamp: Timestamp,
    ) -> Result<Option<TimestampOffset>, FetchError> {
        self.read(partition, |log| log.by_time.get(&timestamp.get()).copied())
    }

    async fn max_timestamp_offset(
        &self,
        partition: PartitionId,
    ) -> Result<Option<TimestampOffset>, FetchError> {
        self.read(partition, |log| log.by_time.get(&-3).copied())
    }

    async fn end_offset_for_epoch(
        &self,
        partition: PartitionId,
        epoch: LeaderEpoch,
    ) -> Result<EpochEnd, FetchError> {
        self.read(partition, |log| {
            let usual = (epoch.get(), log.high_watermark);
            let (epoch, end) = log.ends.get(&epoch.get()).copied().unwrap_or(usual);
            EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) }
        })
    }

    fn new_topic_id(&self) -> std::io::Result<TopicId> {
        Ok(self.topic_ids.borrow_mut().pop_front().unwrap_or(TopicId([0x5a; 16])))
    }

    async fn create_topic(&self, topic: NewTopic) -> Result<Arc<Topic>, ChangeError> {
        self.add_topic(topic)
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), ChangeError> {
        let image = self.latest();
        if let Some(transaction) = image.begin_delete(topic)? {
            self.commit(transaction);
        }
        self.logs.borrow_mut().retain(|id, _| id.topic != topic);
        Ok(())
    }

    async fn new_producer_id(&self) -> Result<ProducerId, ChangeError> {
        self.producer_id.set(self.producer_id.get() + 1);
        Ok(ProducerId(self.producer_id.get() - 1))
    }
}

pub(crate) fn settings(given: &[(&str, &str)]) -> Settings {
    let mut values = Values::default();
    for (name, value) in given {
        values.set(name, value, Origin::Set).expect("a setting");
    }
    Settings::new(values, &[CpuId(0)].into()).expect("settings that fit together")
}

/// Runs a future that only waits for what the fake gives at once.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

pub(crate) fn serve_with(frame: &[u8], fake: &Fake, settings: &Settings) -> Answer<Bytes> {
    let identity = Identity { cluster_id: "c", node_id: Some(1) };
    let context = Context { identity, listener: "PLAINTEXT", settings };
    match dispatch(frame) {
        Dispatch::Serve(request) => run(serve(request, &context, fake)),
        other => panic!("not served: {other:?}"),
    }
}

/// What becomes of a frame: the answer's frame without its length, if there is one.
pub(crate) fn answer(frame: &[u8], fake: &Fake) -> Result<Option<Vec<u8>>, CloseReason> {
    match serve_with(frame, fake, &settings(&[])) {
        Answer::Respond(segments) => {
            let bytes: Vec<u8> = segments.iter().flat_map(|segment| segment.as_ref().to_vec()).collect();
            let length = u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
            assert_eq!(length as usize, bytes.len() - 4, "a whole frame");
            Ok(Some(bytes[4..].to_vec()))
        }
        Answer::NoResponse => Ok(None),
        Answer::Close(reason) => Err(reason),
    }
}
