//! The metadata store's files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use corelane::cluster::image::MetadataImage;
use corelane::cluster::store::{EmbeddedStore, Files, MetadataStore, Options, Transaction};

use super::input::Input;

/// The salt of every log whose checksums are made here.
const SALT: u64 = 0x5a17;

/// Reads `input` as the files of a store, as they are or under right checksums, opens it, and makes a metadata image of
/// what it holds. What was opened takes a commit, and opens again to the same state.
pub fn metadata(input: &[u8]) {
    let files = MemoryFiles::default();
    let mut input = Input(input);
    while !input.is_empty() {
        let (kind, number, content) = (input.u8(), input.u64(), input.piece());
        files.insert(name(kind, number), self::content(kind, number, content));
    }
    let options = Options { log_bytes_before_snapshot: 64 };
    let Ok(store) = EmbeddedStore::open(files.clone(), options) else { return };
    let held = now(store.range(b"")).expect("a prefix of nothing is a prefix");
    let _ = MetadataImage::from_range(held.clone());
    let is_committed = now(store.commit(Transaction::new().put("k", "v"))).is_ok();
    drop(store);
    let store = EmbeddedStore::open(files, options).expect("what was opened opens again");
    let mut again = now(store.range(b"")).expect("a prefix of nothing is a prefix");
    assert!(!is_committed || again.revision == held.revision.next());
    let others = |entries: Vec<_>| {
        let is_other = |entry: &corelane::cluster::store::Entry| entry.key != "k";
        entries.into_iter().filter(is_other).collect::<Vec<_>>()
    };
    assert_eq!(others(std::mem::take(&mut again.entries)), others(held.entries));
}

/// Log, snapshot, a file that never got its name, or one that is not the store's.
fn name(kind: u8, number: u64) -> String {
    match kind & 3 {
        0 => format!("log-{number:020}.records"),
        1 => format!("snapshot-{number:020}"),
        2 => format!("log-{number:020}.records.tmp"),
        _ => format!("other-{number}"),
    }
}

/// The bytes of a file: as given, or, if `kind` says so, with headers and checksums as `docs/formats/metadata.md` has them.
fn content(kind: u8, number: u64, bytes: &[u8]) -> Vec<u8> {
    match kind & 7 {
        4 => log(number, bytes),
        5 => file(*b"CLMETSNP", &[&number.to_le_bytes()[..], bytes].concat()),
        _ => bytes.to_vec(),
    }
}

fn log(first: u64, bytes: &[u8]) -> Vec<u8> {
    let mut log = file(*b"CLMETLOG", &[first.to_le_bytes(), SALT.to_le_bytes()].concat());
    let (mut input, mut revision) = (Input(bytes), first);
    while !input.is_empty() {
        let (kind, payload) = (input.u8(), input.piece());
        log.extend(record(kind, revision, payload));
        revision = revision.wrapping_add(u64::from(kind == 1));
    }
    log
}

fn record(kind: u8, revision: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a piece is short").to_le_bytes();
    let mut record =
        [&b"CLMR"[..], &[kind, 1, 0, 0], &length, &[0; 4], &revision.to_le_bytes(), payload].concat();
    record.resize(record.len().next_multiple_of(8), 0);
    let crc = crc32fast::hash(&[&SALT.to_le_bytes()[..], &record[..12], &record[16..]].concat());
    record[12..16].copy_from_slice(&crc.to_le_bytes());
    record
}

fn file(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let prefix = [&magic[..], &1_u32.to_le_bytes(), &(body.len() as u64).to_le_bytes()].concat();
    let crc = crc32fast::hash(&[&prefix, body].concat()).to_le_bytes();
    [&prefix[..], &crc, body].concat()
}

/// The store's futures never wait.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the store waits for nothing"),
    }
}

/// Files in memory; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryFiles(Rc<RefCell<BTreeMap<String, File>>>);

/// A file's bytes, whatever its name becomes.
type File = Rc<RefCell<Vec<u8>>>;

impl MemoryFiles {
    pub(crate) fn insert(&self, name: String, bytes: Vec<u8>) {
        self.0.borrow_mut().insert(name, Rc::new(RefCell::new(bytes)));
    }

    /// All names and what is under them.
    pub(crate) fn contents(&self) -> Vec<(String, Vec<u8>)> {
        self.0.borrow().iter().map(|(name, file)| (name.clone(), file.borrow().clone())).collect()
    }
}

impl Files for MemoryFiles {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().keys().cloned().collect())
    }

    fn read(&self, name: &str, _bytes_max: u64) -> io::Result<Vec<u8>> {
        Ok(self.open(name)?.borrow().clone())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        if self.0.borrow().contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.insert(name.to_owned(), Vec::new());
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.0.borrow().get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut content, start) = (file.borrow_mut(), usize::try_from(offset).expect("64 bits"));
        let length = content.len().max(start + bytes.len());
        content.resize(length, 0);
        content[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        file.borrow_mut().truncate(usize::try_from(len).expect("64 bits"));
        Ok(())
    }

    fn flush(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    fn flush_all(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.0.borrow_mut().remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.0.borrow_mut().insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn flush_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn random(&self) -> io::Result<[u8; 8]> {
        Ok(SALT.to_le_bytes())
    }
}
