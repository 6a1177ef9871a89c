//! The form of an index on disk: pages of 4 KiB that are each checked and used by themselves.
//!
//! ```text
//!  0  magic          8   which of the two files
//!  8  version        2   1
//! 10  entries        2   in this page
//! 12  page number    4   from 0
//! 16  base offset    8   the segment's
//! 24  pages          4   in the whole file
//! 28  crc            4   CRC-32 (IEEE) of all other bytes of the page
//! 32  entries            .index: relative offset 4, position 4; .time: timestamp 8, position 4
//!     zeros              up to 4096
//! ```
//!
//! Integers are little-endian. Every page but the last is full, and even an empty index has one page, so that a file
//! which lost its end, or all of it, is noticed.

use super::{OffsetEntry, TimeEntry};
use crate::types::{Offset, Position, Timestamp};

/// Size of a page: what a disk writes whole or not at all.
pub const PAGE_BYTES: usize = 4096;

/// Entries in a full page of a `.index` file.
pub const ENTRIES_PER_OFFSET_PAGE: usize = (PAGE_BYTES - HEADER_BYTES) / OffsetEntry::BYTES;

/// Entries in a full page of a `.time` file.
pub const ENTRIES_PER_TIME_PAGE: usize = (PAGE_BYTES - HEADER_BYTES) / TimeEntry::BYTES;

const VERSION: u16 = 1;
const HEADER_BYTES: usize = 32;
const CRC: std::ops::Range<usize> = 28..32;

/// Which file a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// `.index`: from offsets to positions.
    Offsets,
    /// `.time`: from times to positions.
    Times,
}

impl File {
    fn magic(self) -> [u8; 8] {
        match self {
            File::Offsets => *b"CLindex\0",
            File::Times => *b"CLtime\0\0",
        }
    }

    /// Which of the two files begins like this, if any does.
    pub fn of(bytes: &[u8]) -> Option<File> {
        [File::Offsets, File::Times].into_iter().find(|file| bytes.starts_with(&file.magic()))
    }

    /// The segment that the first intact page of such a file names.
    pub fn base_offset(self, bytes: &[u8]) -> Option<Offset> {
        let is_whole = |page: &&[u8]| {
            page.starts_with(&self.magic()) && u32::from_le_bytes(field(page, CRC.start)) == checksum(page)
        };
        let page = bytes.chunks_exact(PAGE_BYTES).find(is_whole)?;
        Some(Offset(i64::from_le_bytes(field(page, 16))))
    }

    fn name(self) -> &'static str {
        match self {
            File::Offsets => "offset",
            File::Times => "time",
        }
    }
}

/// A page that was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page {page} of the {} index: {reason}", file.name())]
pub struct PageError {
    /// Of which file.
    pub file: File,
    /// Its place in the file, from 0.
    pub page: u32,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The file ends before this page does.
    #[error("the file ends before it does")]
    Missing,
    /// Never written, or something else.
    #[error("it is no page of such a file")]
    NotOurs,
    /// The bytes are not those that were written.
    #[error("its checksum is {stored:#010x} and its bytes give {computed:#010x}")]
    Damaged {
        /// As in the page.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// Intact, and of another version of the format.
    #[error("it has version {found}, and this release reads version {VERSION}")]
    Version {
        /// As in the page.
        found: u16,
    },
    /// Intact, and another segment's.
    #[error("it belongs to the segment at offset {base_offset}")]
    OtherSegment {
        /// As in the page.
        base_offset: Offset,
    },
    /// Intact, and in the wrong place, or left from a file of another length.
    #[error("it is page {number} of {pages}")]
    OtherPage {
        /// As in the page.
        number: u32,
        /// As in the page.
        pages: u32,
    },
    /// Intact, but its entries are more than fit, or do not increase from the ones before them.
    #[error("its entries do not increase")]
    Entries,
}

/// An entry of one of the two files.
pub(super) trait Entry: Copy {
    const FILE: File;
    const BYTES: usize;

    fn put(self, into: &mut [u8]);
    fn get(from: &[u8]) -> Self;
    /// Both members are greater than the other entry's.
    fn follows(self, before: Self) -> bool;
}

impl Entry for OffsetEntry {
    const FILE: File = File::Offsets;
    const BYTES: usize = 8;

    fn put(self, into: &mut [u8]) {
        into[..4].copy_from_slice(&self.relative_offset.to_le_bytes());
        into[4..].copy_from_slice(&self.position.get().to_le_bytes());
    }

    fn get(from: &[u8]) -> OffsetEntry {
        let relative_offset = u32::from_le_bytes(field(from, 0));
        OffsetEntry { relative_offset, position: Position(u32::from_le_bytes(field(from, 4))) }
    }

    fn follows(self, before: OffsetEntry) -> bool {
        self.relative_offset > before.relative_offset && self.position > before.position
    }
}

impl Entry for TimeEntry {
    const FILE: File = File::Times;
    const BYTES: usize = 12;

    fn put(self, into: &mut [u8]) {
        into[..8].copy_from_slice(&self.timestamp.get().to_le_bytes());
        into[8..].copy_from_slice(&self.position.get().to_le_bytes());
    }

    fn get(from: &[u8]) -> TimeEntry {
        let timestamp = Timestamp(i64::from_le_bytes(field(from, 0)));
        TimeEntry { timestamp, position: Position(u32::from_le_bytes(field(from, 8))) }
    }

    fn follows(self, before: TimeEntry) -> bool {
        self.timestamp > before.timestamp && self.position > before.position
    }
}

/// All entries as whole pages.
pub(super) fn encode<E: Entry>(base_offset: Offset, entries: &[E]) -> Vec<u8> {
    let per_page = (PAGE_BYTES - HEADER_BYTES) / E::BYTES;
    let pages = entries.len().div_ceil(per_page).max(1);
    let mut bytes = vec![0; pages * PAGE_BYTES];
    let pages = u32::try_from(pages).expect("positions of 32 bits make fewer pages");
    let mut chunks = entries.chunks(per_page);
    for (number, page) in (0..).zip(bytes.chunks_exact_mut(PAGE_BYTES)) {
        encode_page(page, base_offset, number, pages, chunks.next().unwrap_or_default());
    }
    bytes
}

fn encode_page<E: Entry>(page: &mut [u8], base_offset: Offset, number: u32, pages: u32, entries: &[E]) {
    let count = u16::try_from(entries.len()).expect("a page holds few entries");
    page[..8].copy_from_slice(&E::FILE.magic());
    page[8..10].copy_from_slice(&VERSION.to_le_bytes());
    page[10..12].copy_from_slice(&count.to_le_bytes());
    page[12..16].copy_from_slice(&number.to_le_bytes());
    page[16..24].copy_from_slice(&base_offset.get().to_le_bytes());
    page[24..28].copy_from_slice(&pages.to_le_bytes());
    for (entry, place) in entries.iter().zip(page[HEADER_BYTES..].chunks_exact_mut(E::BYTES)) {
        entry.put(place);
    }
    let crc = checksum(page);
    page[CRC].copy_from_slice(&crc.to_le_bytes());
}

/// The entries of all good pages, and an error for every other page that the file has or should have.
pub(super) fn decode<E: Entry>(base_offset: Offset, bytes: &[u8]) -> (Vec<E>, Vec<PageError>) {
    let mut entries = Vec::new();
    let mut errors = Vec::new();
    // Also a piece of a page, and the one page that even an empty index has, are looked for.
    let due = u32::try_from(bytes.len().div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX).max(1);
    let mut known = None;
    for number in 0..due {
        let at = number as usize * PAGE_BYTES;
        let page = bytes.get(at..at + PAGE_BYTES).ok_or(Reason::Missing);
        match page.and_then(|page| decode_page(page, base_offset, number, known, &mut entries)) {
            Ok(pages) => known = Some(pages),
            Err(reason) => errors.push(PageError { file: E::FILE, page: number, reason }),
        }
    }
    // One error stands for all pages that the file should have beyond its end.
    if known.is_some_and(|pages| pages > due) {
        errors.push(PageError { file: E::FILE, page: due, reason: Reason::Missing });
    }
    (entries, errors)
}

/// Appends the page's entries and returns how many pages the file has, or leaves the entries as they were.
fn decode_page<E: Entry>(
    page: &[u8],
    base_offset: Offset,
    number: u32,
    pages_known: Option<u32>,
    entries: &mut Vec<E>,
) -> Result<u32, Reason> {
    if page[..8] != E::FILE.magic() {
        return Err(Reason::NotOurs);
    }
    let (stored, computed) = (u32::from_le_bytes(field(page, CRC.start)), checksum(page));
    if stored != computed {
        return Err(Reason::Damaged { stored, computed });
    }
    let found = u16::from_le_bytes(field(page, 8));
    if found != VERSION {
        return Err(Reason::Version { found });
    }
    let found = Offset(i64::from_le_bytes(field(page, 16)));
    if found != base_offset {
        return Err(Reason::OtherSegment { base_offset: found });
    }
    let (found, pages) = (u32::from_le_bytes(field(page, 12)), u32::from_le_bytes(field(page, 24)));
    if found != number || number >= pages || pages_known.is_some_and(|known| known != pages) {
        return Err(Reason::OtherPage { number: found, pages });
    }
    take_entries(page, entries)?;
    Ok(pages)
}

fn take_entries<E: Entry>(page: &[u8], entries: &mut Vec<E>) -> Result<(), Reason> {
    let count = usize::from(u16::from_le_bytes(field(page, 10)));
    let (before, mut last) = (entries.len(), entries.last().copied());
    if count > (PAGE_BYTES - HEADER_BYTES) / E::BYTES {
        return Err(Reason::Entries);
    }
    for place in page[HEADER_BYTES..].chunks_exact(E::BYTES).take(count) {
        let entry = E::get(place);
        if last.is_some_and(|last| !entry.follows(last)) {
            entries.truncate(before);
            return Err(Reason::Entries);
        }
        entries.push(entry);
        last = Some(entry);
    }
    Ok(())
}

fn checksum(page: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page[..CRC.start]);
    hasher.update(&page[CRC.end..]);
    hasher.finalize()
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes is an array of N bytes")
}
