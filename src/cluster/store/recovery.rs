//! From the files of the directory to the state they hold.
//!
//! What is trusted: the newest whole snapshot, then every record after it, which must follow one another
//! without a gap over all logs. What is forgiven: at the very end of the last log, bytes that are no whole
//! record and after which no record of this log is found: the write that a crash tore, which was never
//! answered. Everything else that is not as written is [`Damage`]: reported with file and offset, nothing cut
//! away. A seal behind the last commit (or the next commit in its place) is what tells damage there from a
//! torn end.
//!
//! Recovery only reads; what it finds to be cut is cut by the caller. It may be interrupted and started
//! again.

use bytes::Bytes;
use tracing::warn;

use super::{
    error::{Damage, Error},
    files::Files,
    layout::{
        FileName, Flaw, LOG_HEADER_BYTES, LogHeader, RECORD_ALIGNMENT, Record, RecordKind, State,
        decode_operations, decode_record, decode_snapshot, log_name, snapshot_name,
    },
    memory::Memory,
    transaction::{Operation, Revision},
};
use crate::cluster::limits::FILE_BYTES_MAX;

/// What the directory holds.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// First revisions, ascending.
    pub(super) logs: Vec<Revision>,
    /// Last revisions, ascending.
    pub(super) snapshots: Vec<Revision>,
    /// Files that never got their names.
    pub(super) temporaries: Vec<String>,
}

impl Inventory {
    pub(super) fn take(files: &impl Files) -> Result<Inventory, Error> {
        let mut inventory = Inventory::default();
        for name in files.list().map_err(io("list", "the directory"))? {
            match FileName::parse(&name) {
                FileName::Log(first) => inventory.logs.push(first),
                FileName::Snapshot(last) => inventory.snapshots.push(last),
                FileName::Temporary => inventory.temporaries.push(name),
                FileName::Foreign => warn!(file = name, "a file in the metadata directory is not ours"),
            }
        }
        inventory.logs.sort_unstable();
        inventory.snapshots.sort_unstable();
        Ok(inventory)
    }

    /// The logs needed to continue from `base`.
    pub(super) fn logs_after(&self, base: Revision) -> &[Revision] {
        let later = self.logs.partition_point(|first| *first <= base.next());
        &self.logs[later.saturating_sub(1)..]
    }
}

/// Where the last log ends.
#[derive(Debug)]
pub(super) struct LogEnd {
    pub(super) header: LogHeader,
    /// After the last commit: where the next record goes.
    pub(super) end: usize,
    /// The bytes after `end` are neither nothing nor exactly a seal.
    pub(super) torn: bool,
}

/// What recovery found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) memory: Memory,
    /// The snapshot it started from; 0 for none.
    pub(super) base: Revision,
    pub(super) log: LogEnd,
}

/// The state in the directory; `None` when it holds neither log nor snapshot.
pub(super) fn recover(files: &impl Files, inventory: &Inventory) -> Result<Option<Recovered>, Error> {
    if inventory.logs.is_empty() && inventory.snapshots.is_empty() {
        return Ok(None);
    }
    let (base, state, passed_over) = newest_whole_snapshot(files, inventory)?;
    let result = replay(files, inventory, base, state);
    let Some((lost, damage)) = passed_over else { return result.map(Some) };
    match result {
        Ok(recovered) if recovered.memory.revision() >= lost => {
            warn!(%damage, "a damaged snapshot is passed over: an older one and the logs hold the same");
            Ok(Some(recovered))
        }
        // Whatever else is wrong, the damaged snapshot is why it mattered.
        _ => Err(damage.into()),
    }
}

/// A damaged snapshot: the revision that it should have held, and what is wrong.
type PassedOver = Option<(Revision, Damage)>;

fn newest_whole_snapshot(
    files: &impl Files,
    inventory: &Inventory,
) -> Result<(Revision, State, PassedOver), Error> {
    let mut passed_over = None;
    for revision in inventory.snapshots.iter().rev().copied() {
        let name = snapshot_name(revision);
        match decode_snapshot(&read(files, &name)?) {
            Ok((found, state)) if found == revision => return Ok((revision, state, passed_over)),
            Ok(_) => _ = passed_over.get_or_insert((revision, damage(&name, 24, "another one's revision"))),
            Err(Flaw { offset, reason }) => {
                passed_over.get_or_insert((revision, damage(&name, offset, reason)));
            }
        }
    }
    Ok((Revision(0), State::new(), passed_over))
}

fn replay(
    files: &impl Files,
    inventory: &Inventory,
    base: Revision,
    state: State,
) -> Result<Recovered, Error> {
    let logs = inventory.logs_after(base);
    match logs.first() {
        Some(first) if *first <= base.next() => {}
        _ => return Err(damage(&log_name(base.next()), 0, "the log is missing").into()),
    }
    let mut memory = Memory::new(base, state);
    let mut last = None;
    for (i, first) in logs.iter().enumerate() {
        let following = logs.get(i + 1).copied();
        last = Some(replay_log(files, *first, following, &mut memory)?);
    }
    let log = last.expect("there is at least one log");
    Ok(Recovered { memory, base, log })
}

fn replay_log(
    files: &impl Files,
    first: Revision,
    following: Option<Revision>,
    memory: &mut Memory,
) -> Result<LogEnd, Error> {
    let name = log_name(first);
    let bytes = read(files, &name)?;
    let header = LogHeader::decode(&bytes).map_err(|flaw| damage(&name, flaw.offset, flaw.reason))?;
    if header.first != first {
        return Err(damage(&name, 24, "its first revision is not its name's").into());
    }
    let mut scan = Scan { name: &name, bytes: &bytes, header, offset: LOG_HEADER_BYTES, next: first };
    while let Some((revision, operations)) = scan.commit()? {
        if revision > memory.revision() {
            memory.apply(revision, operations);
        }
    }
    let torn = scan.check_end()?;
    // A log that another follows may end in the torn remains of a seal: the one that follows vouches for its
    // commits.
    let complete = following.map_or(scan.next > memory.revision(), |following| following == scan.next);
    if !complete {
        return Err(scan.damage("it ends before the commits that a later file continues").into());
    }
    Ok(LogEnd { header, end: scan.offset, torn })
}

/// A walk over one log's records.
struct Scan<'a> {
    name: &'a str,
    bytes: &'a Bytes,
    header: LogHeader,
    offset: usize,
    next: Revision,
}

impl Scan<'_> {
    /// The next commit, or `None` at the end of the commits.
    fn commit(&mut self) -> Result<Option<(Revision, Vec<Operation>)>, Damage> {
        let Some(record) = self.record(self.offset) else { return Ok(None) };
        match record.kind {
            RecordKind::Seal => Ok(None),
            RecordKind::Commit if record.revision == self.next => {
                let operations = decode_operations(record.payload)
                    .map_err(|_| self.damage("a whole record's operations are malformed"))?;
                self.offset += record.len;
                self.next = self.next.next();
                Ok(Some((record.revision, operations)))
            }
            RecordKind::Commit => Err(self.damage("a record is not of the revision that belongs here")),
        }
    }

    /// Checks what lies behind the last commit; whether it is a torn end.
    fn check_end(&self) -> Result<bool, Damage> {
        let seal = self.record(self.offset);
        let after = match &seal {
            Some(seal) if seal.revision.next() != self.next => {
                return Err(self.damage("a seal is not of the revision that belongs here"));
            }
            Some(seal) => self.offset + seal.len,
            None => self.offset,
        };
        if after == self.bytes.len() {
            return Ok(false);
        }
        let mut rest = (after..self.bytes.len()).step_by(RECORD_ALIGNMENT);
        match rest.find(|offset| self.record(*offset).is_some()) {
            Some(offset) => {
                Err(self.damage(format!("what is here is no whole record, yet one follows at byte {offset}")))
            }
            None => Ok(true),
        }
    }

    fn record(&self, offset: usize) -> Option<Record> {
        decode_record(self.header.salt, self.bytes, offset)
    }

    fn damage(&self, reason: impl Into<String>) -> Damage {
        damage(self.name, self.offset, reason)
    }
}

fn read(files: &impl Files, name: &str) -> Result<Bytes, Error> {
    files.read(name, FILE_BYTES_MAX).map(Bytes::from).map_err(io("read", name))
}

fn damage(file: &str, offset: usize, reason: impl Into<String>) -> Damage {
    Damage { file: file.to_owned(), offset: offset as u64, reason: reason.into() }
}

/// Names the operation and the file in front of an I/O error.
pub(super) fn io(action: &'static str, file: &str) -> impl FnOnce(std::io::Error) -> Error {
    let file = file.to_owned();
    move |source| Error::Io { action, file, source }
}
