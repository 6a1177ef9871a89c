//! What every metadata store must do. The suite is generic; it runs over real files and over the simulated
//! disk.

use std::{fs, path::PathBuf};

use super::{disk::SimulatedFiles, workload::OPTIONS};
use crate::cluster::{
    limits::{HISTORY_COMMITS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX, WATCH_QUEUE_COMMITS, WATCHES_MAX},
    store::{
        Change, Committed, DirectoryFiles, EmbeddedStore, Entry, Error, Expected, MetadataStore, Revision,
        Transaction, WatchEnd,
    },
};

/// The whole suite; each part begins with an empty store.
async fn contract<S: MetadataStore>(mut empty: impl FnMut() -> S) -> u32 {
    reads_what_was_committed(empty()).await;
    compares_before_it_sets(empty()).await;
    refuses_what_no_store_takes(empty()).await;
    ranges_are_ordered_and_of_one_revision(empty()).await;
    watches_without_gaps(empty()).await;
    tells_a_slow_watcher(empty()).await;
    forgets_old_changes_explicitly(empty()).await;
    bounds_its_watches(empty()).await;
    8
}

/// What a reopened store must show, whatever the implementation keeps it in.
async fn survives_reopening<S: MetadataStore>(mut open: impl FnMut() -> S) {
    let store = open();
    for number in 0..60 {
        store.commit(Transaction::new().put(format!("k{}", number % 10), vec![number; 200])).await.unwrap();
        store.commit(Transaction::new().delete(format!("k{}", (number + 5) % 10))).await.unwrap();
    }
    let before = store.range(b"").await.unwrap();
    assert_eq!(before.revision, Revision(120));
    drop(store);
    for _ in 0..3 {
        assert_eq!(open().range(b"").await.unwrap(), before);
    }
    let store = open();
    let last = before.entries.last().unwrap();
    let stale = Transaction::new().expect(last.key.clone(), Expected::Absent).put("x", "");
    assert!(store.commit(stale).await.unwrap_err().is_conflict());
    let current = Transaction::new().expect(last.key.clone(), Expected::Revision(last.revision)).put("x", "");
    assert_eq!(store.commit(current).await.unwrap(), Revision(121));
}

async fn reads_what_was_committed(store: impl MetadataStore) {
    assert_eq!(store.get(b"a").await.unwrap(), None);
    assert_eq!(store.range(b"").await.unwrap().revision, Revision(0));
    let first = store.commit(Transaction::new().put("a", "1").put("b", "")).await.unwrap();
    assert_eq!(first, Revision(1));
    let entry = |key: &'static str, value: &'static str, revision| Entry {
        key: key.into(),
        value: value.into(),
        revision,
    };
    assert_eq!(store.get(b"a").await.unwrap(), Some(entry("a", "1", first)));
    assert_eq!(store.get(b"b").await.unwrap(), Some(entry("b", "", first)));
    let second =
        store.commit(Transaction::new().put("a", "2").delete("b").delete("never there")).await.unwrap();
    assert_eq!(store.get(b"a").await.unwrap(), Some(entry("a", "2", second)));
    assert_eq!(store.get(b"b").await.unwrap(), None);
}

async fn compares_before_it_sets(store: impl MetadataStore) {
    let create = || Transaction::new().expect("a", Expected::Absent).put("a", "1").put("side", "1");
    let created = store.commit(create()).await.unwrap();
    let refused = store.commit(create()).await.unwrap_err();
    assert!(matches!(&refused, Error::Conflict { key } if key == "a"), "{refused}");
    let replace = |revision| Transaction::new().expect("a", Expected::Revision(revision)).put("a", "2");
    let replaced = store.commit(replace(created)).await.unwrap();
    let stale = Transaction::new().expect("a", Expected::Revision(created)).delete("a").put("side", "2");
    assert!(store.commit(stale).await.unwrap_err().is_conflict());
    let missing = Transaction::new().expect("no such key", Expected::Revision(created)).put("side", "3");
    assert!(store.commit(missing).await.unwrap_err().is_conflict());
    let one_of_two =
        Transaction::new().expect("a", Expected::Revision(replaced)).expect("side", Expected::Absent);
    assert!(store.commit(one_of_two.put("side", "4")).await.unwrap_err().is_conflict());
    // Refused transactions left no trace, not even a revision.
    let range = store.range(b"").await.unwrap();
    assert_eq!(range.revision, replaced);
    assert_eq!(range.entries.iter().map(|entry| &entry.value[..]).collect::<Vec<_>>(), [b"2", b"1"]);
    // A key that was removed and set again is not what it was.
    store.commit(Transaction::new().delete("a")).await.unwrap();
    store.commit(Transaction::new().put("a", "2")).await.unwrap();
    assert!(store.commit(replace(replaced)).await.unwrap_err().is_conflict());
}

async fn refuses_what_no_store_takes(store: impl MetadataStore) {
    let refused = [
        Transaction::new(),
        Transaction::new().expect("a", Expected::Absent),
        Transaction::new().put("", "1"),
        Transaction::new().put(vec![b'k'; KEY_BYTES_MAX + 1], "1"),
        Transaction::new().put("a", vec![0; VALUE_BYTES_MAX + 1]),
        Transaction::new().put("a", "1").delete("a"),
        (0..9).fold(Transaction::new(), |all, i| all.put(format!("{i}"), vec![0; VALUE_BYTES_MAX])),
        (0..1025).fold(Transaction::new(), |all, i| all.put(format!("{i}"), "")),
    ];
    for transaction in refused {
        let error = store.commit(transaction).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
    let largest = Transaction::new().put(vec![b'k'; KEY_BYTES_MAX], vec![1; VALUE_BYTES_MAX]);
    assert_eq!(store.commit(largest).await.unwrap(), Revision(1));
}

async fn ranges_are_ordered_and_of_one_revision(store: impl MetadataStore) {
    let keys: [&[u8]; 7] = [b"b/2", b"a", b"b/", b"b", b"b/10", b"c", b"b\xff"];
    for key in keys {
        store.commit(Transaction::new().put(key, "")).await.unwrap();
    }
    let range = store.range(b"b/").await.unwrap();
    assert_eq!(range.revision, Revision(7));
    assert_eq!(
        range.entries.iter().map(|entry| &entry.key[..]).collect::<Vec<_>>(),
        [&b"b/"[..], b"b/10", b"b/2"]
    );
    assert_eq!(store.range(b"").await.unwrap().entries.len(), 7);
    assert_eq!(store.range(b"b\xff").await.unwrap().entries.len(), 1);
    assert!(store.range(b"d").await.unwrap().entries.is_empty());
}

async fn watches_without_gaps(store: impl MetadataStore) {
    let set = |key: &'static str, value: &'static str| Transaction::new().put(key, value);
    store.commit(set("a/1", "1").put("b/1", "1")).await.unwrap();
    let mut all = store.watch(b"", Revision(1)).await.unwrap();
    let mut some = store.watch(b"a/", Revision(2)).await.unwrap();
    store.commit(set("b/1", "2")).await.unwrap();
    store.commit(set("b/2", "3").put("a/2", "3").delete("a/1")).await.unwrap();
    let future = store.watch(b"", Revision(5)).await.unwrap_err();
    assert!(matches!(future, Error::FutureRevision(Revision(5))), "{future}");
    let change = |key: &'static str, value: Option<&'static str>| Change {
        key: key.into(),
        value: value.map(Into::into),
    };
    let third =
        Committed { revision: Revision(3), changes: vec![change("a/2", Some("3")), change("a/1", None)] };
    assert_eq!(some.next().await.unwrap(), third);
    for revision in 1..=3 {
        assert_eq!(all.next().await.unwrap().revision, Revision(revision));
    }
    drop(store);
    assert_eq!(all.next().await, Err(WatchEnd::Closed));
    assert_eq!(some.next().await, Err(WatchEnd::Closed));
    assert_eq!(some.next().await, Err(WatchEnd::Closed));
}

async fn tells_a_slow_watcher(store: impl MetadataStore) {
    let mut slow = store.watch(b"a", Revision(1)).await.unwrap();
    let mut elsewhere = store.watch(b"b", Revision(1)).await.unwrap();
    for _ in 0..WATCH_QUEUE_COMMITS + 10 {
        store.commit(Transaction::new().put("a", "")).await.unwrap();
    }
    for revision in 1..=WATCH_QUEUE_COMMITS as u64 {
        assert_eq!(slow.next().await.unwrap().revision, Revision(revision));
    }
    assert_eq!(slow.next().await, Err(WatchEnd::Lagged));
    assert_eq!(slow.next().await, Err(WatchEnd::Lagged));
    // It resynchronises: a range, and a watch that continues it.
    let range = store.range(b"a").await.unwrap();
    let mut again = store.watch(b"a", range.revision.next()).await.unwrap();
    let next = store.commit(Transaction::new().put("a", "").put("b", "")).await.unwrap();
    assert_eq!(again.next().await.unwrap().revision, next);
    assert_eq!(elsewhere.next().await.unwrap().revision, next);
}

async fn forgets_old_changes_explicitly(store: impl MetadataStore) {
    for _ in 0..HISTORY_COMMITS_MAX + 3 {
        store.commit(Transaction::new().put("a", "")).await.unwrap();
    }
    let error = store.watch(b"", Revision(1)).await.unwrap_err();
    let Error::Compacted { oldest } = error else { panic!("{error}") };
    let mut watch = store.watch(b"", oldest).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, oldest);
}

async fn bounds_its_watches(store: impl MetadataStore) {
    let mut watches = Vec::new();
    for _ in 0..WATCHES_MAX {
        watches.push(store.watch(b"", Revision(1)).await.unwrap());
    }
    let error = store.watch(b"", Revision(1)).await.unwrap_err();
    assert!(matches!(error, Error::TooManyWatches(WATCHES_MAX)), "{error}");
    watches.pop();
    store.watch(b"", Revision(1)).await.unwrap();
}

/// A directory of the build's own file system, empty and removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/metadata-tests");
        let path = path.join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn open(&self, name: &str) -> EmbeddedStore<DirectoryFiles> {
        EmbeddedStore::open(DirectoryFiles::open(&self.0.join(name)).unwrap(), OPTIONS).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[tokio::test]
async fn over_real_files() {
    let scratch = Scratch::new("contract");
    let mut number = 0;
    let parts = contract(|| {
        number += 1;
        scratch.open(&format!("{number}"))
    });
    assert_eq!(parts.await, 8);
    survives_reopening(|| scratch.open("reopened")).await;
}

#[tokio::test]
async fn over_the_simulated_disk() {
    let open = |files: &SimulatedFiles| EmbeddedStore::open(files.clone(), OPTIONS).unwrap();
    assert_eq!(contract(|| open(&SimulatedFiles::new())).await, 8);
    let files = SimulatedFiles::new();
    survives_reopening(|| open(&files)).await;
}

#[test]
fn a_second_name_in_the_directory_does_no_harm_and_a_stale_temporary_is_removed() {
    let scratch = Scratch::new("foreign");
    scratch.open("d").close().unwrap();
    let directory = scratch.0.join("d");
    fs::write(directory.join("notes.txt"), "kept").unwrap();
    fs::write(directory.join("snapshot-00000000000000000007.tmp"), "half").unwrap();
    scratch.open("d").close().unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["log-00000000000000000001.records", "notes.txt"]);
}
