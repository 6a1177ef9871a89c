//! The metadata store of a single node: one directory, an append-only log of commits and snapshots of the
//! state.
//!
//! Runs on the control thread and blocks it: a commit is one write and one fdatasync, rare (a topic created,
//! a broker started), and nothing on the data path waits for that thread. Opening reads one snapshot and the
//! log behind it.
//!
//! Durability, step by step:
//! - a commit is one record, written and flushed before it is applied, shown to a watcher or answered;
//! - behind it goes a *seal*, without a flush: if it is found later, a record before it that is not whole is
//!   damage and not a torn end. The next record overwrites the seal, and then vouches in its place;
//! - a new file is written under a temporary name, flushed, renamed, and its directory flushed; only then
//!   does anything rely on it;
//! - a snapshot is followed by a new log. The snapshot before it and the logs behind that one stay until the
//!   next, as the way back if the newer snapshot is damaged;
//! - what recovery shows was perhaps never answered, so it is flushed, names included, before anyone sees it.
//!
//! A failed write or flush poisons the store: it goes on answering reads with what is committed, and commits
//! nothing until the broker restarts. A flush is never tried again, because the kernel may have dropped what
//! it could not write.
//!
//! Cancellation: the futures never wait, so there is no point at which one could be dropped half-way.

use std::cell::RefCell;

use tracing::error;

use super::{
    contract::MetadataStore,
    error::Error,
    files::Files,
    layout::{
        LogHeader, RecordKind, encode_operations, encode_record, encode_snapshot, log_name, snapshot_name,
        temporary_name,
    },
    memory::Memory,
    recovery::{Inventory, LogEnd, io, recover},
    transaction::{Entry, Range, Revision, Transaction},
    watch::Watch,
};
use crate::cluster::limits::LOG_BYTES_BEFORE_SNAPSHOT;

/// How the store uses its directory.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A log longer than this many bytes is followed by a snapshot.
    pub log_bytes_before_snapshot: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { log_bytes_before_snapshot: LOG_BYTES_BEFORE_SNAPSHOT }
    }
}

/// The store over the files of one directory, which belongs to it alone.
#[derive(Debug)]
pub struct EmbeddedStore<F: Files> {
    inner: RefCell<Inner<F>>,
}

#[derive(Debug)]
struct Inner<F: Files> {
    files: F,
    options: Options,
    memory: Memory,
    log: Log<F::File>,
    /// The newest snapshot known to be whole; 0 for none.
    base: Revision,
    poison: Option<String>,
}

#[derive(Debug)]
struct Log<File> {
    name: String,
    file: File,
    salt: u64,
    /// Where the next record goes; a seal may lie there.
    end: u64,
}

impl<F: Files> EmbeddedStore<F> {
    /// Opens what the directory holds, or begins an empty store in an empty directory. [`Error::Damaged`]
    /// says where the files are not what was written to them; nothing is changed then.
    pub fn open(files: F, options: Options) -> Result<EmbeddedStore<F>, Error> {
        let inventory = Inventory::take(&files)?;
        let recovered = recover(&files, &inventory)?;
        for name in &inventory.temporaries {
            files.remove(name).map_err(io("remove", name))?;
        }
        // A killed process may have renamed or removed files without having flushed the directory.
        files.flush_directory().map_err(io("flush", "the directory"))?;
        let (memory, base, log) = match recovered {
            Some(found) => (found.memory, found.base, reopen_log(&files, &found.log)?),
            None => {
                let log = create_log(&files, Revision(1))?;
                (Memory::new(Revision(0), Default::default()), Revision(0), log)
            }
        };
        let inner = Inner { files, options, memory, log, base, poison: None };
        inner.write_seal().map_err(io("write", &inner.log.name))?;
        Ok(EmbeddedStore { inner: RefCell::new(inner) })
    }

    /// Flushes the last seal, so that damage to the last commit is told from a torn write even after a power
    /// cut. Not needed for the durability of any commit.
    pub fn close(self) -> Result<(), Error> {
        let Inner { files, log, poison, .. } = self.inner.into_inner();
        match poison {
            Some(reason) => Err(Error::Poisoned { reason }),
            None => files.flush(&log.file).map_err(io("flush", &log.name)),
        }
    }
}

impl<F: Files> MetadataStore for EmbeddedStore<F> {
    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        Ok(self.inner.borrow().memory.get(key))
    }

    async fn range(&self, prefix: &[u8]) -> Result<Range, Error> {
        Ok(self.inner.borrow().memory.range(prefix))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, Error> {
        self.inner.borrow_mut().commit(transaction)
    }

    async fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, Error> {
        self.inner.borrow_mut().memory.watch(prefix, from)
    }
}

impl<F: Files> Inner<F> {
    fn commit(&mut self, transaction: Transaction) -> Result<Revision, Error> {
        if let Some(reason) = &self.poison {
            return Err(Error::Poisoned { reason: reason.clone() });
        }
        self.memory.check(&transaction)?;
        let revision = self.memory.revision().next();
        let payload = encode_operations(&transaction.operations);
        self.append(revision, &payload).map_err(|error| self.poison(error))?;
        self.memory.apply(revision, transaction.operations);
        // The commit is durable, so it is answered with `Ok` even if what follows fails; then it is the last
        // one.
        if let Err(error) = self.after_commit() {
            self.poison(error);
        }
        Ok(revision)
    }

    fn append(&mut self, revision: Revision, payload: &[u8]) -> Result<(), Error> {
        let record = encode_record(self.log.salt, RecordKind::Commit, revision, payload);
        let Log { name, file, end, .. } = &mut self.log;
        self.files.write_at(file, *end, &record).map_err(io("write", name))?;
        self.files.flush(file).map_err(io("flush", name))?;
        *end += record.len() as u64;
        Ok(())
    }

    fn after_commit(&mut self) -> Result<(), Error> {
        self.write_seal().map_err(io("write", &self.log.name))?;
        if self.log.end > self.options.log_bytes_before_snapshot { self.snapshot() } else { Ok(()) }
    }

    fn write_seal(&self) -> std::io::Result<()> {
        let Log { file, salt, end, .. } = &self.log;
        let seal = encode_record(*salt, RecordKind::Seal, self.memory.revision(), &[]);
        self.files.write_at(file, *end, &seal)
    }

    fn poison(&mut self, reason: Error) -> Error {
        error!(%reason, "the metadata store takes no more commits until the broker restarts");
        let reason = reason.to_string();
        self.poison = Some(reason.clone());
        Error::Poisoned { reason }
    }

    /// Writes the whole state, begins a new log, and removes what neither this snapshot nor the one before it
    /// needs.
    fn snapshot(&mut self) -> Result<(), Error> {
        let revision = self.memory.revision();
        let bytes = encode_snapshot(revision, self.memory.state());
        create_file(&self.files, &snapshot_name(revision), &bytes)?;
        self.log = create_log(&self.files, revision.next())?;
        self.write_seal().map_err(io("write", &self.log.name))?;
        let before = std::mem::replace(&mut self.base, revision);
        self.remove_older_than(before)
    }

    fn remove_older_than(&self, before: Revision) -> Result<(), Error> {
        let inventory = Inventory::take(&self.files)?;
        let kept_logs = inventory.logs_after(before);
        let logs = inventory.logs.iter().filter(|first| !kept_logs.contains(first)).copied().map(log_name);
        let kept_snapshots = [before, self.base];
        let snapshots = inventory.snapshots.iter().filter(|revision| !kept_snapshots.contains(revision));
        for name in logs.chain(snapshots.copied().map(snapshot_name)) {
            self.files.remove(&name).map_err(io("remove", &name))?;
        }
        self.files.flush_directory().map_err(io("flush", "the directory"))
    }
}

/// Makes durable what recovery found, and cuts a torn end off before anything can be written behind it.
fn reopen_log<F: Files>(files: &F, found: &LogEnd) -> Result<Log<F::File>, Error> {
    let name = log_name(found.header.first);
    let file = files.open(&name).map_err(io("open", &name))?;
    let end = found.end as u64;
    if found.torn {
        files.truncate(&file, end).map_err(io("truncate", &name))?;
    }
    files.flush_all(&file).map_err(io("flush", &name))?;
    Ok(Log { name, file, salt: found.header.salt, end })
}

fn create_log<F: Files>(files: &F, first: Revision) -> Result<Log<F::File>, Error> {
    let name = log_name(first);
    let salt = u64::from_le_bytes(files.random().map_err(io("draw the salt of", &name))?);
    let header = LogHeader { first, salt }.encode();
    let file = create_file(files, &name, &header)?;
    Ok(Log { name, file, salt, end: header.len() as u64 })
}

/// A file under its name is whole and durable, or is not there.
fn create_file<F: Files>(files: &F, name: &str, bytes: &[u8]) -> Result<F::File, Error> {
    let temporary = temporary_name(name);
    let file = files.create(&temporary).map_err(io("create", &temporary))?;
    files.write_at(&file, 0, bytes).map_err(io("write", &temporary))?;
    files.flush_all(&file).map_err(io("flush", &temporary))?;
    files.rename(&temporary, name).map_err(io("rename", &temporary))?;
    files.flush_directory().map_err(io("flush", "the directory"))?;
    Ok(file)
}
