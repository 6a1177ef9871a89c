//! Groups in a journal's file, and the chain of those that a start would replay.
//!
//! A group is read with the generation that its own header names, so that groups of former openings can be shown too. That
//! proves less than recovery asks for: bytes that a client sent can pass for a group of an opening that never was. Whether
//! a group belongs to the present opening, only the manifest's generation says.

use std::collections::BTreeSet;
use std::io;

use corelane_shards::core::journal::Geometry;
use corelane_shards::format::journal::{GROUP_HEADER_BYTES, GroupHeader, GroupView};
use corelane_shards::format::manifest::Manifest;
use corelane_shards::limits::{BLOCK_BYTES, JOURNAL_GROUPS_IN_FLIGHT};
use corelane_shards::types::{Generation, JournalSequence};

use super::source::Source;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Longer than any group that a release writes. Bytes.
const GROUP_BYTES_MAX: u64 = 256 << 20;

/// What lies at a block of a journal.
pub(super) enum Found<'b> {
    /// No beginning of a group.
    Nothing,
    /// A group as it was written, by the generation that it names itself.
    Whole(GroupView<'b>),
    /// The header of a group whose checksum does not match.
    Bad(GroupHeader),
}

/// Reads groups one at a time.
pub(super) struct Groups<'s> {
    source: &'s Source,
    buffer: Vec<u8>,
    bytes_max: u64,
}

impl<'s> Groups<'s> {
    /// Of a journal whose groups have at most so many bytes, if that is known: a ring holds two of them.
    pub(super) fn of(source: &'s Source, group_bytes_max: Option<u64>) -> Groups<'s> {
        let fits = (source.length() / 2).min(GROUP_BYTES_MAX);
        Groups { source, buffer: Vec::new(), bytes_max: group_bytes_max.map_or(fits, |max| max.min(fits)) }
    }

    /// What begins at `position`, the beginning of a block.
    pub(super) fn at(&mut self, position: u64) -> io::Result<Found<'_>> {
        let read = self.fill(position, BLOCK_BYTES)?;
        let Some((header, _)) = GroupHeader::read(&self.buffer[..read]) else { return Ok(Found::Nothing) };
        let length = u64::from(header.length);
        let bytes_max = usize::try_from(self.bytes_max).expect("bounded by a constant");
        if length < GROUP_HEADER_BYTES as u64 || length > self.bytes_max {
            return Ok(Found::Bad(header));
        }
        let read = self.fill(position, header.length as usize)?;
        let view = GroupView::closed(&self.buffer[..read], header.generation, bytes_max);
        Ok(view.map_or(Found::Bad(header), Found::Whole))
    }

    fn fill(&mut self, position: u64, bytes: usize) -> io::Result<usize> {
        self.buffer.resize(bytes.max(BLOCK_BYTES), 0);
        self.source.read(position, &mut self.buffer[..bytes])
    }
}

/// The blocks that a group of so many bytes takes. Bytes.
pub(super) fn padded(length: u32) -> u64 {
    u64::from(length).next_multiple_of(BLOCK)
}

/// The groups that a start would replay from this file: those that follow one another from the manifest's tail.
pub(super) struct Chain {
    generation: Generation,
    geometry: Geometry,
    positions: BTreeSet<u64>,
    tail: JournalSequence,
    /// The group that would come next.
    next: JournalSequence,
    /// Where it would begin.
    position: u64,
    previous: u32,
}

impl Chain {
    /// The empty chain at a manifest's tail.
    pub(super) fn of(manifest: &Manifest) -> Chain {
        let geometry = Geometry { capacity: manifest.capacity, group_bytes_max: manifest.group_bytes_max };
        Chain {
            generation: manifest.generation(),
            geometry,
            positions: BTreeSet::new(),
            tail: manifest.tail_sequence(),
            next: manifest.tail_sequence(),
            position: manifest.tail.position,
            previous: manifest.tail.previous,
        }
    }

    /// Goes on as far as the file does.
    pub(super) fn follow(&mut self, groups: &mut Groups<'_>) -> io::Result<()> {
        // A position that comes again would be a chain that runs in a circle.
        while !self.positions.contains(&self.position) {
            let Found::Whole(group) = groups.at(self.position)? else { return Ok(()) };
            let header = &group.header;
            let continues = (header.generation, header.sequence, header.previous)
                == (self.generation, self.next, self.previous);
            if !continues {
                return Ok(());
            }
            self.positions.insert(self.position);
            self.position = self.geometry.next_position(self.position + padded(header.length));
            self.previous = group.checksum;
            self.next = self.next.next();
        }
        Ok(())
    }

    /// The group that is missing at its end, and the place where it would be.
    pub(super) fn end(&self) -> (JournalSequence, u64) {
        (self.next, self.position)
    }

    /// How many groups it has.
    pub(super) fn groups(&self) -> usize {
        self.positions.len()
    }

    /// What a whole group at `position` is to it.
    pub(super) fn state(&self, position: u64, header: &GroupHeader) -> State {
        match header {
            header if header.generation != self.generation => State::Former,
            header if header.sequence < self.tail => State::InManifest,
            _ if self.positions.contains(&position) => State::ToReplay,
            _ => State::Unreached,
        }
    }

    /// Whether a group of this opening that is not whole was whole once: the manifest has it, and no write that was under
    /// way at the chain's end can have begun to replace it.
    pub(super) fn was_whole(&self, position: u64, header: &GroupHeader) -> bool {
        let Geometry { group_bytes_max, .. } = self.geometry;
        let reach = JOURNAL_GROUPS_IN_FLIGHT as u64 * group_bytes_max;
        let is_ahead = |from: u64| (from..from.saturating_add(reach)).contains(&position);
        // Writes that do not fit behind the end go to the ring's beginning.
        let wraps = self.position.saturating_add(reach + group_bytes_max) > self.geometry.capacity;
        let may_be_torn = is_ahead(self.position) || (wraps && is_ahead(0));
        self.state(position, header) == State::InManifest && !may_be_torn
    }
}

/// What a group is to the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The manifest has what it says.
    InManifest,
    /// It would be replayed.
    ToReplay,
    /// It is of the present opening, and no unbroken chain leads to it.
    Unreached,
    /// A former opening left it.
    Former,
}

impl State {
    /// For a table.
    pub(super) fn word(self) -> &'static str {
        match self {
            State::InManifest => "in manifest",
            State::ToReplay => "to replay",
            State::Unreached => "unreached",
            State::Former => "former",
        }
    }
}
