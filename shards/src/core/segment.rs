//! A segment of a log, as the running shard knows it: its size, its file's state, and what of it is still to be flushed.

use super::effect::{Millis, Operation};
use super::extents::Place;
use super::segment_index::SegmentIndex;
use crate::format::manifest;
use crate::types::{Offset, Timestamp};

/// One segment.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The offset that names it.
    pub base: Offset,
    /// The bytes assigned to it, on disk or not.
    pub length: u64,
    /// The largest timestamp in it, in milliseconds; -1 for none.
    pub max_timestamp: Millis,
    /// When its first batch was appended.
    pub created: Millis,
    /// Whether its file exists.
    pub file: File,
    /// Whether the directory entry of its file is durable.
    pub directory_is_durable: bool,
    /// Whether a write has completed that no flush covers yet.
    pub is_dirty: bool,
    /// The flush in flight.
    pub flush: Option<Operation>,
    /// Large batches that are written and wait for a flush, by base offset.
    pub large_written: Vec<Offset>,
    /// Large batches that the flush in flight covers.
    pub large_flushing: Vec<Offset>,
    /// Large batches that are flushed in a file whose directory entry is not durable yet.
    pub large_without_directory: Vec<Offset>,
    /// Whether a checkpoint waits for a flush that is still to be asked for.
    pub checkpoint_wants_flush: bool,
    /// Whether the flush in flight is the one that a checkpoint waits for.
    pub flushes_for_checkpoint: bool,
    /// Whether it is rolled and its file cut to its length, or about to be.
    pub is_trimmed: bool,
    /// Whether the cut is under way.
    pub is_being_trimmed: bool,
    /// Where batches begin, as far as that is known.
    pub index: SegmentIndex,
}

/// What an index is told of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// Its first record's offset.
    pub base: Offset,
    /// Where in the segment it begins. Bytes.
    pub position: u64,
    /// Its size in bytes.
    pub length: u32,
    /// The largest timestamp of its records.
    pub max_timestamp: Timestamp,
}

/// How far the creation of a segment's file got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// Nobody asked for it.
    Missing,
    /// It is being created.
    Creating,
    /// It can be written.
    Ready,
    /// It could not be created.
    Failed,
}

impl Segment {
    /// A segment that begins with the batch at `base`.
    pub fn new(base: Offset, now: Millis) -> Segment {
        Segment {
            base,
            length: 0,
            max_timestamp: -1,
            created: now,
            file: File::Missing,
            directory_is_durable: false,
            is_dirty: false,
            flush: None,
            large_written: Vec::new(),
            large_flushing: Vec::new(),
            large_without_directory: Vec::new(),
            checkpoint_wants_flush: false,
            flushes_for_checkpoint: false,
            is_trimmed: false,
            is_being_trimmed: false,
            index: SegmentIndex::new(base),
        }
    }

    /// A segment that a manifest knows: its file is there, flushed, and its directory too.
    pub fn recovered(segment: &manifest::Segment) -> Segment {
        Segment {
            length: segment.length,
            max_timestamp: segment.max_timestamp,
            file: File::Ready,
            directory_is_durable: true,
            index: SegmentIndex::recovered(Offset(segment.base)),
            ..Segment::new(Offset(segment.base), segment.created)
        }
    }

    /// Whether a checkpoint that covers it has to wait, given that it is rolled and all of it is on disk: what a manifest
    /// has before its last segment is cut, so that no start has to look.
    pub fn is_to_be_cut(&self) -> bool {
        !self.is_trimmed || self.is_being_trimmed
    }

    /// The place behind its last byte.
    pub fn end_place(&self) -> Place {
        Place { segment: self.base, position: self.length }
    }

    /// Its part of a manifest whose log ends at `end`.
    pub fn to_manifest(&self, end: Place) -> manifest::Segment {
        let length = if end.segment == self.base { end.position } else { self.length };
        manifest::Segment {
            base: self.base.get(),
            length,
            max_timestamp: self.max_timestamp,
            created: self.created,
        }
    }
}
