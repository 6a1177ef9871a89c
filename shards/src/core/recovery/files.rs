//! Whether each log's segment files are as long as its manifest vouches for.
//!
//! Everything below a log's flushed position was flushed before the manifest said so, but for the last partial block,
//! which the manifest holds by value. So a file that is missing or shorter is damage and no torn end: it is found before
//! anything is written, since writing that last block would make a missing file anew, with zeros for its records. What
//! the files hold is not looked at here; each batch is checked when it is read.

use super::disk::Disk;
use super::error::Error;
use crate::core::effect::SegmentFile;
use crate::format::manifest;
use crate::types::{Offset, ShardIndex};

/// Measures every segment file of a log: one look at the directory for each.
pub(super) fn check(
    disk: &mut impl Disk,
    shard: ShardIndex,
    part: &manifest::Partition,
) -> Result<(), Error> {
    for (segment, vouched) in vouched(part) {
        let file = SegmentFile { partition: part.id(), base: Offset(segment.base) };
        let found = disk.segment_bytes(file)?;
        if vouched > 0 && found.is_none_or(|bytes| bytes < vouched) {
            return Err(Error::SegmentCut { shard, file, vouched, found });
        }
    }
    Ok(())
}

/// The segments of a log, and how many bytes of each must be in its file.
pub(crate) fn vouched(part: &manifest::Partition) -> impl Iterator<Item = (&manifest::Segment, u64)> {
    let last = part.segments.len().saturating_sub(1);
    part.segments.iter().enumerate().map(move |(at, segment)| {
        let by_value = if at == last { part.tail_fragment.len() as u64 } else { 0 };
        (segment, segment.length.saturating_sub(by_value))
    })
}
