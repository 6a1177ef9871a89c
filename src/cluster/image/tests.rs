//! The image and its changes over the embedded store on real files: lives of topics, restarts, conflicts,
//! readers on other threads.

use std::{cell::Cell, collections::BTreeMap, fs, path::PathBuf, rc::Rc};

use corelane_shards::types::{LeaderEpoch, TopicId};

use super::*;
use crate::cluster::store::{
    Change, Committed, DirectoryFiles, EmbeddedStore, Entry, Error, MetadataStore, Operation, Options, Range,
    Revision, Transaction, Watch,
};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/metadata-tests");
        let path = path.join(format!("image-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn store(&self) -> EmbeddedStore<DirectoryFiles> {
        EmbeddedStore::open(DirectoryFiles::open(&self.0.join("metadata")).unwrap(), Options::default())
            .unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const CLUSTER: ClusterId = ClusterId(*b"a cluster of one");

fn new_topic(name: &str, id: u128) -> NewTopic {
    let overrides = BTreeMap::from([("segment.bytes".to_owned(), "1048576".to_owned())]);
    NewTopic { name: name.to_owned(), id: topic_id(id), partitions: 3, replication_factor: 1, overrides }
}

fn topic_id(id: u128) -> TopicId {
    TopicId(id.to_be_bytes())
}

fn broker(node_id: i32) -> Broker {
    let endpoint = Endpoint { listener: "PLAINTEXT".into(), host: "localhost".into(), port: 9092 };
    Broker { node_id: NodeId(node_id), incarnation: [5; 16], rack: None, endpoints: vec![endpoint] }
}

/// Runs `work` beside the follower of a metadata service over `store`.
async fn with_metadata<S: MetadataStore, T>(store: S, work: impl AsyncFnOnce(&Metadata<S>) -> T) -> T {
    let (metadata, follower) = Metadata::open(store).await.unwrap();
    tokio::select! {
        error = follower.run() => panic!("the follower ended: {error}"),
        outcome = work(&metadata) => outcome,
    }
}

async fn initialise(metadata: &Metadata<impl MetadataStore>) {
    metadata.change(|image| Ok((image.initialise(CLUSTER)?, ()))).await.unwrap();
}

async fn create(
    metadata: &Metadata<impl MetadataStore>,
    name: &str,
    id: u128,
) -> Result<LeaderEpoch, ChangeError> {
    metadata.change(|image| image.create_topic(new_topic(name, id))).await.map(|topic| topic.epoch_base)
}

fn refused(error: ChangeError) -> ChangeRefused {
    let ChangeError::Refused(refused) = error else { panic!("{error}") };
    refused
}

#[tokio::test]
async fn a_topic_lives_through_restarts_with_its_id_and_is_deleted_in_two_phases() {
    let scratch = Scratch::new("life");
    with_metadata(scratch.store(), async |metadata| {
        initialise(metadata).await;
        assert_eq!(metadata.change(|image| image.start_broker(&broker(0))).await.unwrap(), LeaderEpoch(1));
        assert_eq!(create(metadata, "orders", 7).await.unwrap(), LeaderEpoch(2));
    })
    .await;
    with_metadata(scratch.store(), async |metadata| {
        assert_eq!(metadata.change(|image| image.start_broker(&broker(0))).await.unwrap(), LeaderEpoch(3));
        let image = metadata.subscribe().latest();
        assert_eq!((image.cluster_id(), image.epoch()), (Some(CLUSTER), Some(LeaderEpoch(3))));
        assert_eq!(image.broker(NodeId(0)).unwrap().endpoints[0].port, 9092);
        assert_eq!(image.brokers().len(), 1);
        let topic = image.topic_by_name("orders").unwrap();
        assert_eq!((topic.id, topic.partitions, topic.epoch_base), (topic_id(7), 3, LeaderEpoch(2)));
        assert_eq!(topic.overrides["segment.bytes"], "1048576");
        let begin = |image: &MetadataImage| Ok((image.begin_delete(topic_id(7))?.unwrap(), ()));
        metadata.change(begin).await.unwrap();
        // An image that was taken before does not change.
        assert!(image.topic_by_name("orders").is_some());
    })
    .await;
    // The start after a crash between the phases.
    with_metadata(scratch.store(), async |metadata| {
        let image = metadata.subscribe().latest();
        assert!(image.topic_by_name("orders").is_none() && image.topics().next().is_none());
        assert_eq!(image.deleting_topics().map(|topic| topic.id).collect::<Vec<_>>(), [topic_id(7)]);
        assert_eq!(image.begin_delete(topic_id(7)), Ok(None));
        // The name is free, the id is not.
        assert_eq!(
            refused(create(metadata, "orders", 7).await.unwrap_err()),
            ChangeRefused::TopicIdTaken(topic_id(7))
        );
        assert_eq!(create(metadata, "orders", 8).await.unwrap(), LeaderEpoch(4));
        metadata.change(|image| Ok((image.finish_delete(topic_id(7))?, ()))).await.unwrap();
        let image = metadata.subscribe().latest();
        assert!(image.topic_by_id(topic_id(7)).is_none());
        assert_eq!(image.topic_by_name("orders").unwrap().id, topic_id(8));
        assert_eq!(image.finish_delete(topic_id(8)), Err(ChangeRefused::NotDeleting(topic_id(8))));
        assert_eq!(image.finish_delete(topic_id(7)), Err(ChangeRefused::UnknownTopicId(topic_id(7))));
    })
    .await;
}

#[tokio::test]
async fn refuses_what_kafka_refuses() {
    let scratch = Scratch::new("refused");
    with_metadata(scratch.store(), async |metadata| {
        assert_eq!(refused(create(metadata, "early", 2).await.unwrap_err()), ChangeRefused::NotInitialised);
        initialise(metadata).await;
        let again = metadata.change(|image| Ok((image.initialise(CLUSTER)?, ()))).await.unwrap_err();
        assert_eq!(refused(again), ChangeRefused::AlreadyInitialised(CLUSTER));
        create(metadata, "a.b", 2).await.unwrap();
        let (name, existing) = ("a_b".to_owned(), "a.b".to_owned());
        let expected = [
            (new_topic("a.b", 3), ChangeRefused::TopicExists("a.b".into())),
            (new_topic("a_b", 3), ChangeRefused::NameCollides { name, existing }),
            (new_topic("", 3), NameError::Empty.into()),
            (new_topic(CLUSTER_METADATA_TOPIC, 3), ChangeRefused::ClusterMetadataTopic),
            (new_topic("c", 0), ChangeRefused::TopicIdTaken(topic_id(0))),
            (new_topic("c", 1), ChangeRefused::TopicIdTaken(topic_id(1))),
            (new_topic("c", 2), ChangeRefused::TopicIdTaken(topic_id(2))),
            (NewTopic { partitions: 0, ..new_topic("c", 3) }, ChangeRefused::Partitions(0)),
            (NewTopic { partitions: 100_001, ..new_topic("c", 3) }, ChangeRefused::Partitions(100_001)),
            (NewTopic { replication_factor: 2, ..new_topic("c", 3) }, ChangeRefused::ReplicationFactor(2)),
            (
                NewTopic { overrides: [("k".into(), "v".repeat(40_000))].into(), ..new_topic("c", 3) },
                ChangeRefused::OverridesTooLarge,
            ),
        ];
        let image = metadata.subscribe().latest();
        for (new, reason) in expected {
            assert_eq!(image.create_topic(new).unwrap_err(), reason);
        }
        assert!(image.topic_by_name("a_b").is_none(), "a colliding name is not the topic's");
        create(metadata, "__consumer_offsets", 4).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn changes_made_at_once_all_happen_with_epochs_of_their_own() {
    let scratch = Scratch::new("at-once");
    with_metadata(scratch.store(), async |metadata| {
        initialise(metadata).await;
        let create = |name: &'static str, id| create(metadata, name, id);
        let (a, b, c, d) =
            tokio::join!(create("a", 11), create("b", 12), create("x.y", 13), create("x_y", 14));
        // Which of the two colliding names comes first is nobody's promise.
        let (third, refusal) = if c.is_ok() { (c, d) } else { (d, c) };
        assert!(matches!(refused(refusal.unwrap_err()), ChangeRefused::NameCollides { .. }));
        let mut epochs = vec![a.unwrap(), b.unwrap(), third.unwrap()];
        epochs.sort();
        assert_eq!(epochs, [LeaderEpoch(1), LeaderEpoch(2), LeaderEpoch(3)]);
        assert_eq!(metadata.subscribe().latest().topics().count(), 3);
    })
    .await;
}

#[tokio::test]
async fn an_advanced_image_is_the_image_of_the_range() {
    let scratch = Scratch::new("advance");
    let store = scratch.store();
    let mut image = MetadataImage::from_range(store.range(b"").await.unwrap()).unwrap();
    let mut watch = store.watch(b"", Revision(1)).await.unwrap();
    let mut compared = 0;
    for step in 0..60u128 {
        let transaction = match step {
            0 => image.initialise(CLUSTER).unwrap(),
            _ if step % 5 == 3 => image.begin_delete(topic_id(step + 10 - 2)).unwrap().unwrap(),
            _ if step % 5 == 4 => image.finish_delete(topic_id(step + 10 - 3)).unwrap(),
            _ if step % 5 == 0 => image.start_broker(&broker(i32::try_from(step % 15).unwrap())).unwrap().0,
            _ => image.create_topic(new_topic(&format!("t.{step}"), step + 10)).unwrap().0,
        };
        store.commit(transaction).await.unwrap();
        image = image.advance(&watch.next().await.unwrap()).unwrap();
        assert_eq!(image, MetadataImage::from_range(store.range(b"").await.unwrap()).unwrap(), "step {step}");
        compared += 1;
    }
    assert_eq!(compared, 60);
    assert_eq!(image.topics().count(), 12);
}

/// A store in front of another that lets a foreign commit in before each of the first few.
struct Interrupted<S> {
    store: S,
    interruptions: Cell<u32>,
}

impl<S: MetadataStore> MetadataStore for Interrupted<S> {
    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        self.store.get(key).await
    }

    async fn range(&self, prefix: &[u8]) -> Result<Range, Error> {
        self.store.range(prefix).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, Error> {
        if let Some(left) = self.interruptions.get().checked_sub(1) {
            self.interruptions.set(left);
            let image = MetadataImage::from_range(self.range(b"").await?).unwrap();
            self.store.commit(image.start_broker(&broker(9)).unwrap().0).await?;
        }
        self.store.commit(transaction).await
    }

    async fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, Error> {
        self.store.watch(prefix, from).await
    }
}

#[tokio::test]
async fn a_change_is_decided_again_when_another_came_first_but_not_for_ever() {
    let scratch = Scratch::new("conflict");
    let store = scratch.store();
    let image = MetadataImage::default();
    store.commit(image.initialise(CLUSTER).unwrap()).await.unwrap();
    let interruptions = Rc::new(Interrupted { store, interruptions: Cell::new(0) });
    for (count, succeeds) in [(3, true), (1000, false)] {
        let store = Interrupted { store: Shared(Rc::clone(&interruptions)), interruptions: Cell::new(count) };
        with_metadata(store, async |metadata| {
            let created = create(metadata, &format!("t{count}"), u128::from(count) + 20).await;
            assert_eq!(created.is_ok(), succeeds, "{created:?}");
            assert!(succeeds || matches!(created, Err(ChangeError::Contended(16))));
        })
        .await;
    }
}

/// The same store for several services.
#[derive(Debug)]
struct Shared<S>(Rc<S>);

impl<S: MetadataStore> MetadataStore for Shared<S> {
    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        self.0.get(key).await
    }

    async fn range(&self, prefix: &[u8]) -> Result<Range, Error> {
        self.0.range(prefix).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, Error> {
        self.0.commit(transaction).await
    }

    async fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, Error> {
        self.0.watch(prefix, from).await
    }
}

#[tokio::test]
async fn a_follower_that_lagged_reads_everything_again() {
    let scratch = Scratch::new("lag");
    let shared = Rc::new(scratch.store());
    shared.commit(MetadataImage::default().initialise(CLUSTER).unwrap()).await.unwrap();
    let (metadata, follower) = Metadata::open(Shared(Rc::clone(&shared))).await.unwrap();
    let mut image = metadata.subscribe().latest().as_ref().clone();
    for _ in 0..300 {
        shared.commit(image.start_broker(&broker(1)).unwrap().0).await.unwrap();
        image = MetadataImage::from_range(shared.range(b"").await.unwrap()).unwrap();
    }
    let mut images = metadata.subscribe();
    let reached = tokio::select! {
        error = follower.run() => panic!("{error}"),
        reached = images.reached(image.revision()) => reached.unwrap(),
    };
    assert_eq!(*reached, image);
}

#[tokio::test]
async fn a_value_from_elsewhere_is_an_error_and_ends_what_waits() {
    let scratch = Scratch::new("foreign");
    let shared = Rc::new(scratch.store());
    let (metadata, follower) = Metadata::open(Shared(Rc::clone(&shared))).await.unwrap();
    shared.commit(Transaction::new().put("acl/7", "?")).await.unwrap();
    let error = follower.run().await;
    assert_eq!(error.to_string(), "the metadata key acl/7 is not one that this version knows");
    let change = metadata.change(|image| Ok((image.initialise(CLUSTER)?, ()))).await;
    assert!(matches!(change, Err(ChangeError::Closed)), "{change:?}");
    let reopened = Metadata::open(Shared(shared)).await.unwrap_err();
    assert!(matches!(reopened, MetadataError::Image(_)), "{reopened}");
}

#[tokio::test]
async fn an_image_that_contradicts_itself_is_refused() {
    let scratch = Scratch::new("contradiction");
    let store = scratch.store();
    store.commit(MetadataImage::default().initialise(CLUSTER).unwrap()).await.unwrap();
    let image = MetadataImage::from_range(store.range(b"").await.unwrap()).unwrap();
    let (whole, _) = image.create_topic(new_topic("t", 5)).unwrap();
    let reason = |left_out: usize| {
        let mut part = whole.operations.clone();
        part.remove(left_out);
        let changes = part.into_iter().map(|operation| match operation {
            Operation::Put { key, value } => Change { key, value: Some(value) },
            Operation::Delete { key } => Change { key, value: None },
        });
        let committed = Committed { revision: Revision(2), changes: changes.collect() };
        image.advance(&committed).unwrap_err().reason
    };
    assert_eq!(reason(0), "is of an epoch not yet reached");
    assert_eq!(reason(1), "names no live topic of that name");
    assert_eq!(reason(2), "is a live topic that its name does not lead to");
}

#[test]
fn a_subscription_is_polled_from_another_thread_without_a_runtime() {
    let (publisher, images) = publication(MetadataImage::default());
    let mut shard_images = images.clone();
    assert!(shard_images.poll_changed().is_none());
    let empty = images.latest();
    let committed = |revision: u64| {
        let put = |key: &'static str, value| Change { key: key.into(), value: Some(value) };
        let changes =
            vec![put("epoch", bytes::Bytes::copy_from_slice(&[1, u8::try_from(revision).unwrap(), 0, 0, 0]))];
        Committed { revision: Revision(revision), changes }
    };
    let shard = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while seen.last() != Some(&LeaderEpoch(5)) {
            assert!(std::time::Instant::now() < deadline, "only {seen:?} were seen");
            match shard_images.poll_changed() {
                Some(image) => seen.push(image.epoch().unwrap()),
                None => std::thread::yield_now(),
            }
        }
        assert!(shard_images.poll_changed().is_none());
        seen
    });
    for revision in 1..=5 {
        publisher.publish(publisher.latest().advance(&committed(revision)).unwrap());
    }
    drop(publisher);
    let seen = shard.join().unwrap();
    assert!(seen.is_sorted() && !seen.is_empty());
    assert_eq!((empty.revision(), images.latest().revision()), (Revision(0), Revision(5)));
}
