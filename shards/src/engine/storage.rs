//! Carries out what the core asks for: journal and segment operations on the shard's ring, everything rare on its pool
//! thread. The driver's [`Engine`].
//!
//! Each turn the core is turned once, and what it asked for goes out before the network's answers do. An operation that the
//! ring has no room for, or whose file is still being opened, waits here in order; the core does not notice.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::figures::Figures;
use super::files::{Files, Use, until_descriptors};
use super::log::{Answers, Inner};
use super::notices::Notices;
use crate::background;
use crate::clock::{Every, Moment, wall_millis};
use crate::core::effect::{Completion, SegmentFile};
use crate::core::recovery::{Disk, DiskError, IndexFiles};
use crate::core::{Effect, Operation, OperationError, Shard as Core};
use crate::directory::layout::SegmentPart;
use crate::directory::{Layout, RealDisk};
use crate::driver::{Context, Engine};
use crate::format::index::SparseIndex;
use crate::net::DiskOperation;
use crate::ring::StorageEvent;
use crate::runtime::Shard;
use crate::types::{PartitionId, ShardIndex};

/// How often a shard looks after itself with nobody asking: a quiet journal, a stop under way.
const TICK_NANOSECONDS: u64 = 10_000_000;

/// Between two looks for expired producers, as with Kafka.
const EXPIRY_PAUSE: Duration = Duration::from_secs(600);

/// What the storage of one shard stands on.
pub struct StorageSettings {
    /// The data directory.
    pub layout: Layout,
    /// The shard's manifest, which checkpoints replace.
    pub manifest: String,
    /// The journal, open for direct writes.
    pub journal: OwnedFd,
    /// Set if the shard ends with something that only its journal or staging memory has: the next start recovers it.
    pub left_over: Arc<AtomicBool>,
    /// Segment files kept open; at most [`SEGMENT_FILES_OPEN_MAX`](crate::limits::SEGMENT_FILES_OPEN_MAX).
    pub segment_files_open_max: usize,
}

/// The engine of one shard.
pub struct Storage {
    inner: Rc<RefCell<Inner>>,
    shard: Shard,
    settings: StorageSettings,
    journal: Rc<OwnedFd>,
    files: Rc<RefCell<Files>>,
    /// Operations that the ring had no room for, or whose file has just been opened.
    waiting: Rc<RefCell<VecDeque<Effect>>>,
    /// Ends of operations that did not run on the ring.
    ended: Rc<RefCell<Vec<Completion>>>,
    /// What is known of the operations on the ring.
    in_flight: BTreeMap<u64, InFlight>,
    removals: Vec<PartitionId>,
    notices: Rc<Notices>,
    figures: Figures,
    next_tick: Moment,
    expiry: Every,
    stopping: bool,
}

#[derive(Clone, Copy)]
struct InFlight {
    kind: DiskOperation,
    began: Moment,
    bytes: usize,
    partition: Option<PartitionId>,
}

impl Storage {
    /// The storage of `shard` around its core, and the logs as services see them.
    pub fn new(
        shard: &Shard,
        core: Core,
        settings: StorageSettings,
    ) -> std::io::Result<(super::Log, Storage)> {
        let inner = Rc::new(RefCell::new(Inner { core, answers: Answers::default() }));
        let log = super::Log::new(Rc::clone(&inner), shard.clone());
        let journal = Rc::new(settings.journal.try_clone()?);
        let files = Rc::new(RefCell::new(Files::new(settings.segment_files_open_max)));
        let storage = Storage {
            inner,
            shard: shard.clone(),
            settings,
            journal,
            files,
            waiting: Rc::default(),
            ended: Rc::default(),
            in_flight: BTreeMap::new(),
            removals: Vec::new(),
            notices: Rc::new(Notices::new(shard.index())),
            figures: Figures::new(Arc::clone(shard.counters())),
            next_tick: Moment::default(),
            expiry: Every::new(EXPIRY_PAUSE, shard.now()),
            stopping: false,
        };
        Ok((log, storage))
    }

    fn take_ended(&mut self) {
        let ended = std::mem::take(&mut *self.ended.borrow_mut());
        let mut inner = self.inner.borrow_mut();
        for completion in ended {
            inner.core.complete(completion);
        }
    }

    /// Hands answers back and sorts the rest by who carries it out.
    fn take_effects(&mut self) {
        let (effects, notices) = {
            let core = &mut self.inner.borrow_mut().core;
            (core.take_effects(), core.take_notices())
        };
        notices.iter().for_each(|notice| self.notices.tell(self.shard.now(), notice));
        for effect in effects {
            match effect {
                Effect::WriteJournal { .. }
                | Effect::FlushJournal { .. }
                | Effect::WriteSegment { .. }
                | Effect::FlushSegment { .. }
                | Effect::ReadSegment { .. } => self.waiting.borrow_mut().push_back(effect),
                Effect::GrowJournal { .. }
                | Effect::CreateSegment { .. }
                | Effect::FlushDirectory { .. }
                | Effect::TrimSegment { .. }
                | Effect::CommitManifest { .. } => self.run_beside(effect),
                Effect::ReadIndex { operation, file } => self.read_index(operation, file),
                Effect::WriteIndex { operation, file, index } => self.write_index(operation, file, index),
                Effect::RemovePartition { partition } => self.removals.push(partition),
                Effect::Stopped { reason } => {
                    self.figures.stopped();
                    self.notices.shard_stopped(reason);
                }
                answer => self.inner.borrow_mut().hand_back(answer),
            }
        }
    }

    /// Puts waiting operations on the ring while it has room.
    fn submit(&mut self, context: &mut Context<'_>) {
        while context.room() > 0 {
            let Some(effect) = self.waiting.borrow_mut().pop_front() else { return };
            self.start(effect, context);
        }
    }

    fn start(&mut self, effect: Effect, context: &mut Context<'_>) {
        match effect {
            Effect::WriteJournal { operation, position, bytes, durable } => {
                self.note(operation, DiskOperation::JournalWrite, context.now(), bytes.len(), None);
                context.write(operation.0, &self.journal, position, vec![bytes], durable);
            }
            Effect::FlushJournal { operation } => {
                self.note(operation, DiskOperation::JournalFlush, context.now(), 0, None);
                context.flush(operation.0, &self.journal);
            }
            Effect::WriteSegment { file, .. }
            | Effect::FlushSegment { file, .. }
            | Effect::ReadSegment { file, .. } => {
                let found = self.files.borrow_mut().use_for(file, effect);
                match found {
                    Use::Now(descriptor, effect) => self.start_on(&descriptor, effect, context),
                    Use::Later => {}
                    Use::Open => self.open(file),
                }
            }
            other => unreachable!("{other:?} does not run on the ring"),
        }
    }

    fn start_on(&mut self, descriptor: &Rc<OwnedFd>, effect: Effect, context: &mut Context<'_>) {
        match effect {
            Effect::WriteSegment { operation, file, position, bytes } => {
                self.note(
                    operation,
                    DiskOperation::SegmentWrite,
                    context.now(),
                    bytes.len(),
                    Some(file.partition),
                );
                context.write(operation.0, descriptor, position, vec![bytes], false);
            }
            Effect::FlushSegment { operation, file } => {
                self.note(operation, DiskOperation::SegmentFlush, context.now(), 0, Some(file.partition));
                context.flush(operation.0, descriptor);
            }
            Effect::ReadSegment { operation, file, position, buffer } => {
                self.note(operation, DiskOperation::SegmentRead, context.now(), 0, Some(file.partition));
                context.read(operation.0, descriptor, position, buffer);
            }
            other => unreachable!("{other:?} needs no segment file"),
        }
    }

    fn note(
        &mut self,
        operation: Operation,
        kind: DiskOperation,
        began: Moment,
        bytes: usize,
        partition: Option<PartitionId>,
    ) {
        self.in_flight.insert(operation.0, InFlight { kind, began, bytes, partition });
    }

    /// Opens a segment file, then lets go on what waits for it.
    fn open(&mut self, segment: SegmentFile) {
        let layout = self.settings.layout.clone();
        let (files, waiting) = (Rc::clone(&self.files), Rc::clone(&self.waiting));
        let (ended, shard) = (Rc::clone(&self.ended), self.shard.clone());
        let notices = Rc::clone(&self.notices);
        background::run(
            &self.shard,
            move || until_descriptors(|| RealDisk::open_segment(&layout, segment)),
            move |opened| {
                match opened {
                    Ok(file) => waiting.borrow_mut().extend(files.borrow_mut().opened(segment, file)),
                    Err(error) => {
                        notices.file_failed(shard.now(), &error);
                        let failed = files.borrow_mut().not_opened(segment);
                        ended.borrow_mut().extend(failed.into_iter().filter_map(|e| not_started(e, &error)));
                    }
                }
                shard.notify();
            },
        );
    }

    /// Carries out a rare operation on the pool thread.
    fn run_beside(&mut self, effect: Effect) {
        let (layout, manifest) = (self.settings.layout.clone(), self.settings.manifest.clone());
        let (ended, shard, index) = (Rc::clone(&self.ended), self.shard.clone(), self.shard.index());
        let (operation, job) = beside(effect, index, manifest);
        let notices = Rc::clone(&self.notices);
        background::run(
            &self.shard,
            move || until_descriptors(|| job(&mut RealDisk::new(layout.clone(), None))),
            move |result| {
                let result = result.map_err(|error| {
                    notices.file_failed(shard.now(), &error);
                    operation_error(&error)
                });
                ended.borrow_mut().push(Completion::of(operation, result));
                shard.notify();
            },
        );
    }

    /// Reads and decodes index files on the pool thread. What is wrong with them is told here and is no error.
    fn read_index(&mut self, operation: Operation, file: SegmentFile) {
        let layout = self.settings.layout.clone();
        let path = layout.segment(file, SegmentPart::Index);
        let (ended, shard) = (Rc::clone(&self.ended), self.shard.clone());
        background::run(
            &self.shard,
            move || {
                let files = RealDisk::new(layout, None).read_index(file)?;
                Ok::<_, DiskError>(files.map(|files| files.index(file.base)))
            },
            move |read| {
                let index = read.unwrap_or_else(|error| {
                    tracing::warn!(%error, "index files cannot be read; their segment is read instead");
                    None
                });
                let index = index.map(|(index, problems)| {
                    if let Some(first) = problems.first() {
                        tracing::warn!(path = %path.display(), problem = %first, pages = problems.len(), "an index file, or the one by time beside it, is damaged; its segment is read for what it lacks");
                    }
                    Box::new(index)
                });
                ended.borrow_mut().push(Completion { index, ..Completion::of(operation, Ok(())) });
                shard.notify();
            },
        );
    }

    /// Encodes and writes index files on the pool thread.
    fn write_index(&mut self, operation: Operation, file: SegmentFile, index: Box<SparseIndex>) {
        let layout = self.settings.layout.clone();
        let (ended, shard) = (Rc::clone(&self.ended), self.shard.clone());
        background::run(
            &self.shard,
            move || {
                let written = RealDisk::new(layout, None).write_index(file, &IndexFiles::of(&index));
                (written, index)
            },
            move |(written, index)| {
                let result = written.map_err(|error| {
                    tracing::warn!(%error, "an index file cannot be written");
                    operation_error(&error)
                });
                ended
                    .borrow_mut()
                    .push(Completion { index: Some(index), ..Completion::of(operation, result) });
                shard.notify();
            },
        );
    }

    /// Removes the files of deleted logs that nothing is under way on.
    fn remove_files(&mut self) {
        let busy = |id: &PartitionId| self.in_flight.values().any(|op| op.partition == Some(*id));
        let due: Vec<_> = self.removals.extract_if(.., |id| !busy(id)).collect();
        for partition in due {
            self.files.borrow_mut().close(partition);
            let (layout, notices) = (self.settings.layout.clone(), Rc::clone(&self.notices));
            let shard = self.shard.clone();
            background::run(
                &self.shard,
                move || until_descriptors(|| RealDisk::new(layout.clone(), None).remove_partition(partition)),
                move |result| {
                    if let Err(error) = result {
                        // The next start tries again: the metadata still say that the log was deleted.
                        notices.file_failed(shard.now(), &error);
                    }
                },
            );
        }
    }
}

impl Engine for Storage {
    fn turn(&mut self, context: &mut Context<'_>) {
        self.take_ended();
        let now = wall_millis();
        if context.now() >= self.next_tick {
            self.next_tick = Moment(context.now().0 + TICK_NANOSECONDS);
        }
        if self.expiry.is_due(context.now()) {
            self.inner.borrow_mut().core.expire_producers(now);
        }
        if self.stopping {
            self.inner.borrow_mut().core.prepare_stop();
        }
        self.inner.borrow_mut().answers.ring_alarms(context.now());
        self.inner.borrow_mut().retry_appends(now);
        self.inner.borrow_mut().core.turn(now);
        self.take_effects();
        self.submit(context);
        if !self.removals.is_empty() {
            self.remove_files();
        }
        let inner = self.inner.borrow();
        self.figures.turned(context.now(), &inner.core, inner.answers.appends_waiting());
    }

    fn completed(&mut self, tag: u64, event: StorageEvent, context: &mut Context<'_>) {
        let known = self.in_flight.remove(&tag).expect("an operation of the ring ends once");
        self.figures.ended(known.kind, known.began, context.now());
        let (result, buffer) = match event {
            StorageEvent::Written { result, slices } => {
                drop(slices);
                let result = result.map_err(|error| os_error(&error));
                (
                    result.and_then(
                        |bytes| if bytes == known.bytes { Ok(()) } else { Err(OperationError::Short) },
                    ),
                    None,
                )
            }
            StorageEvent::Flushed { result } => (result.map_err(|error| os_error(&error)), None),
            StorageEvent::Read { result, mut buffer } => match result {
                Ok(bytes) => {
                    buffer.set_length(bytes);
                    (Ok(()), Some(buffer))
                }
                Err(error) => (Err(os_error(&error)), Some(buffer)),
            },
        };
        self.inner
            .borrow_mut()
            .core
            .complete(Completion { buffer, ..Completion::of(Operation(tag), result) });
    }

    fn next_deadline(&self) -> Option<Moment> {
        let inner = self.inner.borrow();
        let is_quiet = inner.core.journal().is_idle() && !inner.core.journal().last_is_unvouched();
        let tick = (!is_quiet || self.stopping).then_some(self.next_tick);
        [tick, inner.answers.next_alarm()].into_iter().flatten().min()
    }

    fn stop(&mut self, _context: &mut Context<'_>) {
        self.stopping = true;
    }

    fn is_stopped(&self) -> bool {
        let core = &self.inner.borrow().core;
        let has_ended = core.is_prepared_to_stop() || core.stopped().is_some();
        if !self.stopping || !has_ended || !self.in_flight.is_empty() {
            return false;
        }
        if !core.is_settled() {
            self.settings.left_over.store(true, Ordering::Relaxed);
        }
        true
    }
}

type Job = Box<dyn Fn(&mut RealDisk) -> Result<(), DiskError> + Send>;

fn beside(effect: Effect, shard: ShardIndex, manifest: String) -> (Operation, Job) {
    match effect {
        Effect::GrowJournal { operation, from, to } => {
            (operation, Box::new(move |disk| disk.extend_journal(shard, from, to)))
        }
        Effect::CreateSegment { operation, file } => {
            (operation, Box::new(move |disk| disk.create_segment(file)))
        }
        Effect::FlushDirectory { operation, file } => {
            (operation, Box::new(move |disk| disk.flush_segment_directory(file)))
        }
        Effect::TrimSegment { operation, file, length } => {
            (operation, Box::new(move |disk| disk.trim_segment(file, length)))
        }
        Effect::CommitManifest { operation, manifest: content } => {
            (operation, Box::new(move |disk| disk.replace_manifest(&manifest, &content.encode())))
        }
        other => unreachable!("{other:?} runs on the ring"),
    }
}

/// The end of an operation that was never started because its file could not be opened.
fn not_started(effect: Effect, error: &DiskError) -> Option<Completion> {
    let (operation, buffer) = match effect {
        Effect::WriteSegment { operation, .. } | Effect::FlushSegment { operation, .. } => (operation, None),
        Effect::ReadSegment { operation, buffer, .. } => (operation, Some(buffer)),
        _ => return None,
    };
    Some(Completion { buffer, ..Completion::of(operation, Err(operation_error(error))) })
}

fn operation_error(error: &DiskError) -> OperationError {
    match error {
        DiskError::Io { source, .. } => os_error(source),
        DiskError::Died => OperationError::Os(0),
    }
}

fn os_error(error: &std::io::Error) -> OperationError {
    OperationError::Os(error.raw_os_error().unwrap_or(0))
}
