//! The model of a disk with a volatile write cache: what is durable, what is pending, and the cut between
//! them.
//!
//! A write is pending until a flush, and a reader sees it at once. At the cut each pending write is kept,
//! dropped, or torn into its 512-byte sectors, of which each is old or new (or garbage, if asked for) on its
//! own. Then only the durable content is left.
//!
//! Invariants: a flush makes every write that came before it durable; a sector that no pending write touched
//! never changes at a cut; of two kept writes to one sector the later one shows. The model knows no file
//! system, no FUSE and no clock, and draws from its seed alone.

use std::collections::{BTreeMap, VecDeque};
use std::ops::AddAssign;
use std::sync::Arc;

use super::random::Random;

/// The unit that a disk writes whole or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;

/// The unit in which content is kept: pages never written cost nothing.
const PAGE_BYTES: usize = 4096;

/// Pending bytes above which the oldest writes become durable by themselves, as they do in a drive's cache.
/// This bounds memory under a writer that never flushes.
const PENDING_BYTES_MAX: usize = 64 << 20;

type Page = [u8; PAGE_BYTES];

/// Why a request cannot be served; the volume is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("offset or length is not a multiple of a sector")]
    Unaligned,
    #[error("the range ends beyond the volume")]
    BeyondEnd,
}

/// What a cut did to the writes that were pending.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CutReport {
    /// Writes that were not yet flushed.
    pub(crate) writes_pending: u64,
    /// Of these, writes of which nothing survived.
    pub(crate) writes_dropped: u64,
    /// Of these, writes of which some sectors survived and others did not.
    pub(crate) writes_torn: u64,
    /// Sectors that kept their old content, in dropped and torn writes.
    pub(crate) sectors_dropped: u64,
    /// Sectors that hold neither the old nor the new content.
    pub(crate) sectors_garbled: u64,
}

impl AddAssign for CutReport {
    fn add_assign(&mut self, other: Self) {
        self.writes_pending += other.writes_pending;
        self.writes_dropped += other.writes_dropped;
        self.writes_torn += other.writes_torn;
        self.sectors_dropped += other.sectors_dropped;
        self.sectors_garbled += other.sectors_garbled;
    }
}

#[derive(Debug)]
pub(crate) struct Volume {
    bytes: u64,
    /// What a reader sees. Pages are shared with `durable` until one of the two is written.
    current: Pages,
    /// What the next cut cannot touch.
    durable: Pages,
    pending: VecDeque<Write>,
    pending_bytes: usize,
    random: Random,
    garbage: bool,
}

#[derive(Debug)]
struct Write {
    offset: u64,
    data: Box<[u8]>,
}

impl Volume {
    /// A volume of zeros; `bytes` is rounded down to whole pages.
    pub(crate) fn new(bytes: u64, seed: u64) -> Self {
        let bytes = bytes - bytes % PAGE_BYTES as u64;
        Self {
            bytes,
            current: Pages::default(),
            durable: Pages::default(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            random: Random::new(seed),
            garbage: false,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lets sectors of torn writes come out as garbage too. ext4 and XFS rely on a sector being old or new,
    /// so a file system may not survive this: it is for what lies in files.
    pub(crate) fn allow_garbage(&mut self, allowed: bool) {
        self.garbage = allowed;
    }

    pub(crate) fn writes_pending(&self) -> usize {
        self.pending.len()
    }

    /// Reads what was last written, flushed or not; a range that crosses the end is cut short there.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut data = vec![0; length.min(left)];
        self.current.read(offset, &mut data);
        data
    }

    /// Takes a write as pending.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        if !offset.is_multiple_of(SECTOR_BYTES as u64) || !data.len().is_multiple_of(SECTOR_BYTES) {
            return Err(Error::Unaligned);
        }
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(Error::BeyondEnd);
        }
        self.current.write(offset, data);
        self.pending_bytes += data.len();
        self.pending.push_back(Write { offset, data: data.into() });
        while self.pending_bytes > PENDING_BYTES_MAX {
            let oldest = self.pending.pop_front().expect("bytes are pending, so a write is");
            self.pending_bytes -= oldest.data.len();
            self.durable.write(oldest.offset, &oldest.data);
        }
        Ok(())
    }

    /// Makes every pending write durable.
    pub(crate) fn flush(&mut self) {
        for write in self.pending.drain(..) {
            self.durable.share(&self.current, write.offset, write.data.len());
        }
        self.pending_bytes = 0;
    }

    /// Cuts the power: draws what survives of the pending writes and forgets the rest.
    pub(crate) fn cut(&mut self) -> CutReport {
        let odds = Odds::draw(&mut self.random);
        let mut report = CutReport { writes_pending: self.pending.len() as u64, ..CutReport::default() };
        for write in std::mem::take(&mut self.pending) {
            if self.random.chance(odds.torn_percent) {
                self.tear(&write, &mut report);
            } else if self.random.chance(odds.kept_percent) {
                self.durable.write(write.offset, &write.data);
            } else {
                report.writes_dropped += 1;
                report.sectors_dropped += (write.data.len() / SECTOR_BYTES) as u64;
            }
        }
        self.pending_bytes = 0;
        self.current = self.durable.clone();
        report
    }

    fn tear(&mut self, write: &Write, report: &mut CutReport) {
        let before = (report.sectors_dropped, report.sectors_garbled);
        let mut offset = write.offset;
        for sector in write.data.chunks(SECTOR_BYTES) {
            if self.garbage && self.random.chance(10) {
                let mut garbage = [0; SECTOR_BYTES];
                self.random.fill(&mut garbage);
                self.durable.write(offset, &garbage);
                report.sectors_garbled += 1;
            } else if self.random.chance(50) {
                self.durable.write(offset, sector);
            } else {
                report.sectors_dropped += 1;
            }
            offset += SECTOR_BYTES as u64;
        }
        let sectors = (write.data.len() / SECTOR_BYTES) as u64;
        if report.sectors_dropped - before.0 == sectors {
            report.writes_dropped += 1;
        } else if (report.sectors_dropped, report.sectors_garbled) != before {
            report.writes_torn += 1;
        }
    }
}

/// How a cut treats its pending writes. Each cut draws its own, because losing everything, losing one write
/// in ten and losing half of them find different mistakes.
struct Odds {
    torn_percent: u64,
    /// Of the writes that are not torn.
    kept_percent: u64,
}

impl Odds {
    fn draw(random: &mut Random) -> Self {
        let (torn_percent, kept_percent) = match random.below(4) {
            0 => (0, 0),
            1 => (20, 10),
            2 => (40, 50),
            _ => (10, 90),
        };
        Self { torn_percent, kept_percent }
    }
}

/// Sparse content, copied page by page only when written.
#[derive(Debug, Default, Clone)]
struct Pages(BTreeMap<u64, Arc<Page>>);

impl Pages {
    fn read(&self, offset: u64, data: &mut [u8]) {
        for piece in pieces(offset, data.len()) {
            let target = &mut data[piece.at..piece.at + piece.length];
            match self.0.get(&piece.page) {
                Some(page) => target.copy_from_slice(&page[piece.within..piece.within + piece.length]),
                None => target.fill(0),
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for piece in pieces(offset, data.len()) {
            let source = &data[piece.at..piece.at + piece.length];
            // A page that was never written reads as zeros, so zeros need no page: file systems clear their
            // logs.
            if !self.0.contains_key(&piece.page) && source.iter().all(|&byte| byte == 0) {
                continue;
            }
            let page = self.0.entry(piece.page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[piece.within..piece.within + piece.length].copy_from_slice(source);
        }
    }

    /// Takes over the pages of a range from `other`, which holds everything that was written to them.
    fn share(&mut self, other: &Self, offset: u64, length: usize) {
        for piece in pieces(offset, length) {
            if let Some(page) = other.0.get(&piece.page) {
                self.0.insert(piece.page, Arc::clone(page));
            }
        }
    }
}

/// The part of a range that lies in one page.
struct Piece {
    page: u64,
    /// Where it begins in the page.
    within: usize,
    /// Where it begins in the range.
    at: usize,
    length: usize,
}

fn pieces(offset: u64, length: usize) -> impl Iterator<Item = Piece> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let position = offset + at as u64;
        let within = usize::try_from(position % PAGE_BYTES as u64).expect("below a page");
        let piece = Piece {
            page: position / PAGE_BYTES as u64,
            within,
            at,
            length: (length - at).min(PAGE_BYTES - within),
        };
        at += piece.length;
        (piece.length > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME_BYTES: u64 = 1 << 20;

    fn block(value: u8) -> Vec<u8> {
        vec![value; PAGE_BYTES]
    }

    fn sectors(data: &[u8]) -> impl Iterator<Item = &[u8]> {
        data.chunks(SECTOR_BYTES)
    }

    #[test]
    fn a_pending_write_is_read_at_once() {
        let mut volume = Volume::new(VOLUME_BYTES, 1);
        volume.write(512, &block(7)).expect("inside the volume");
        assert_eq!(volume.writes_pending(), 1);
        assert_eq!(volume.read(512, PAGE_BYTES), block(7));
        assert_eq!(volume.read(0, 512), vec![0; 512]);
        assert_eq!(volume.read(512 + PAGE_BYTES as u64, 512), vec![0; 512]);
    }

    #[test]
    fn flushed_writes_survive_every_cut() {
        for seed in 0..200 {
            let mut volume = Volume::new(VOLUME_BYTES, seed);
            volume.write(4096, &block(1)).expect("inside the volume");
            volume.write(8192, &block(2)).expect("inside the volume");
            volume.flush();
            assert_eq!(volume.writes_pending(), 0, "seed {seed}");
            volume.write(16384, &block(3)).expect("inside the volume");
            volume.cut();
            assert_eq!(volume.read(4096, PAGE_BYTES), block(1), "seed {seed}");
            assert_eq!(volume.read(8192, PAGE_BYTES), block(2), "seed {seed}");
        }
    }

    #[test]
    fn unflushed_writes_are_kept_dropped_and_torn() {
        let (mut kept, mut dropped, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut volume = Volume::new(VOLUME_BYTES, seed);
            volume.write(0, &block(1)).expect("inside the volume");
            volume.flush();
            volume.write(0, &block(2)).expect("inside the volume");
            let report = volume.cut();
            let left = volume.read(0, PAGE_BYTES);
            assert!(sectors(&left).all(|sector| sector == [1; 512] || sector == [2; 512]), "seed {seed}");
            let old = sectors(&left).filter(|sector| sector[0] == 1).count() as u64;
            assert_eq!(report.sectors_dropped, old, "seed {seed}");
            assert_eq!(report.writes_pending, 1, "seed {seed}");
            assert_eq!(report.writes_dropped, u64::from(old == 8), "seed {seed}");
            assert_eq!(report.writes_torn, u64::from((1..8).contains(&old)), "seed {seed}");
            match old {
                0 => kept += 1,
                8 => dropped += 1,
                _ => torn += 1,
            }
        }
        assert!(kept > 20 && dropped > 20 && torn > 20, "kept {kept}, dropped {dropped}, torn {torn}");
    }

    #[test]
    fn an_earlier_write_can_survive_a_later_one_to_the_same_sector() {
        let mut seen = [false; 4];
        for seed in 0..400 {
            let mut volume = Volume::new(VOLUME_BYTES, seed);
            for value in 1..4 {
                volume.write(512, &[value; 512]).expect("inside the volume");
            }
            volume.cut();
            seen[usize::from(volume.read(512, 512)[0])] = true;
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn garbage_comes_only_when_allowed_and_only_over_pending_sectors() {
        let mut garbled = 0;
        for seed in 0..200 {
            let mut volume = Volume::new(VOLUME_BYTES, seed);
            volume.allow_garbage(true);
            volume.write(0, &[1; 3 * PAGE_BYTES]).expect("inside the volume");
            volume.flush();
            volume.write(PAGE_BYTES as u64, &block(2)).expect("inside the volume");
            garbled += volume.cut().sectors_garbled;
            assert_eq!(volume.read(0, PAGE_BYTES), block(1), "seed {seed}");
            assert_eq!(volume.read(2 * PAGE_BYTES as u64, PAGE_BYTES), block(1), "seed {seed}");
        }
        assert!(garbled > 0);
    }

    #[test]
    fn the_same_seed_makes_the_same_cut() {
        let run = |seed| {
            let mut volume = Volume::new(VOLUME_BYTES, seed);
            let mut reports = Vec::new();
            for round in 0..5 {
                for number in 0..50 {
                    volume.write(number * 4096, &block(round)).expect("inside the volume");
                }
                reports.push(volume.cut());
            }
            (reports, volume.read(0, 50 * PAGE_BYTES))
        };
        assert_eq!(run(9), run(9));
        assert_ne!(run(9), run(10));
    }

    #[test]
    fn a_writer_that_never_flushes_cannot_fill_memory() {
        let mut volume = Volume::new(256 << 20, 1);
        let data = vec![5; 1 << 20];
        for number in 0..100 {
            volume.write(number << 20, &data).expect("inside the volume");
        }
        assert_eq!(volume.writes_pending(), PENDING_BYTES_MAX >> 20);
        volume.cut();
        assert_eq!(volume.read(35 << 20, 1 << 20), data);
    }

    #[test]
    fn requests_outside_the_volume_or_off_the_sectors_are_refused() {
        let mut volume = Volume::new(VOLUME_BYTES + 1, 1);
        assert_eq!(volume.bytes(), VOLUME_BYTES);
        assert_eq!(volume.write(1, &[0; 512]), Err(Error::Unaligned));
        assert_eq!(volume.write(0, &[0; 511]), Err(Error::Unaligned));
        assert_eq!(volume.write(VOLUME_BYTES, &[0; 512]), Err(Error::BeyondEnd));
        assert_eq!(volume.write(u64::MAX - 511, &[0; 512]), Err(Error::BeyondEnd));
        assert_eq!(volume.writes_pending(), 0);
        assert_eq!(volume.read(VOLUME_BYTES - 512, 4096).len(), 512);
        assert_eq!(volume.read(u64::MAX, 4096).len(), 0);
    }
}
