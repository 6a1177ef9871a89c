//! Groups of the commit journal, as they lie on disk and in staging memory, and the entries inside them.
//!
//! ```text
//! group   0 magic 8 | 8 generation 8 | 16 sequence 8 | 24 previous checksum 4 | 28 state 4 | 32 length 4 | 36 entries 4
//!        40 durable 8 | 48 settled 8 | 56 checksum 4 | 60 zero 4 | 64 entries ... | zeros up to the next 4 KiB block
//! entry   0 length 4 | 4 kind 1 | 5 zero 3 | 8 topic id 16 | 24 partition 4 | 28 leader epoch 4 | 32 base offset 8
//!        40 last offset 8 | 48 segment base 8 | 56 position 8 | 64 batch length 4 | 68 producer epoch 2 | 70 zero 2
//!        72 producer id 8 | 80 base sequence 4 | 84 head length 4 | 88 max timestamp 8 | 96 digest 16 | 112 bytes ...
//! ```
//!
//! An entry's length covers its header, its bytes and zeros up to a multiple of eight, and is stored last: in a group
//! that was never closed, the first entry of length zero is the end. A small batch carries all its bytes; a large one
//! carries the bytes before its first whole 4 KiB block (the head, of `head length`) and those behind its last one (the
//! tail), and the digest of the blocks in between. The checksum is CRC-32 (IEEE) over the generation, the header before
//! the checksum, and the entries; since the generation is random and secret, no bytes a client sends pass for a group.

use crate::types::{
    Generation, JournalSequence, LeaderEpoch, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId,
    TopicId,
};

/// The bytes before a group's entries.
pub const GROUP_HEADER_BYTES: usize = 64;
/// The bytes before an entry's own.
pub const ENTRY_HEADER_BYTES: usize = 112;
/// Entries start at multiples of this.
pub const ENTRY_ALIGN: usize = 8;

const MAGIC: [u8; 8] = *b"CLJRNL\x00\x01";
const STATE_CLOSED: u32 = 1;
const STATE_AT: usize = 28;
const CHECKSUM_AT: usize = 56;

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The opening of the shard that wrote it.
    pub generation: Generation,
    /// Its number, dense within the shard.
    pub sequence: JournalSequence,
    /// The checksum of the group before it.
    pub previous: u32,
    /// Header and entries, without the zeros behind them. Bytes.
    pub length: u32,
    /// How many entries it holds.
    pub entries: u32,
    /// Every group up to this one was flushed when this group was closed.
    pub durable: JournalSequence,
    /// And so was every large batch digested up to this group.
    pub settled: JournalSequence,
}

impl GroupHeader {
    /// The header where `bytes` begin, by its own word: only the magic was looked at. And whether it says that its group was
    /// closed. For looking at a journal whose opening is not known; recovery asks [`GroupView`] for the one it expects.
    pub fn read(bytes: &[u8]) -> Option<(GroupHeader, bool)> {
        decode_header(bytes).map(|(header, state, _)| (header, state == STATE_CLOSED))
    }

    /// The header of a group that is being filled: no length, no checksum, state open.
    pub fn encode_open(
        generation: Generation,
        sequence: JournalSequence,
        previous: u32,
    ) -> [u8; GROUP_HEADER_BYTES] {
        let header = GroupHeader {
            generation,
            sequence,
            previous,
            length: 0,
            entries: 0,
            durable: JournalSequence(0),
            settled: JournalSequence(0),
        };
        let mut bytes = header.encode();
        bytes[STATE_AT..STATE_AT + 4].fill(0);
        bytes
    }

    /// The closed header, with the checksum over itself and `entries`.
    pub fn encode_closed(&self, entries: &[u8]) -> ([u8; GROUP_HEADER_BYTES], u32) {
        let mut bytes = self.encode();
        let sum = checksum(self.generation, &bytes, entries);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        (bytes, sum)
    }

    /// Where the state word lies, which is published last, and what it says of a closed group.
    pub const CLOSED: (usize, u32) = (STATE_AT, STATE_CLOSED);

    fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        let mut out = Writer { bytes: &mut bytes, at: 0 };
        out.put(&MAGIC);
        out.put(&self.generation.0.to_le_bytes());
        out.put(&self.sequence.0.to_le_bytes());
        out.put(&self.previous.to_le_bytes());
        out.put(&STATE_CLOSED.to_le_bytes());
        out.put(&self.length.to_le_bytes());
        out.put(&self.entries.to_le_bytes());
        out.put(&self.durable.0.to_le_bytes());
        out.put(&self.settled.0.to_le_bytes());
        bytes
    }
}

/// A group read back.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    /// Its header; of an open group `length`, `entries`, `durable` and `settled` say nothing.
    pub header: GroupHeader,
    /// Its checksum, which the next group names; zero for an open group, which has no next one.
    pub checksum: u32,
    /// Whether it was closed, or taken from staging memory as its writer left it.
    pub closed: bool,
    body: &'a [u8],
}

impl<'a> GroupView<'a> {
    /// The closed group of `generation` that begins where `bytes` does, checked by its checksum; `None` if there is
    /// none. `bytes` may run on behind the group; `bytes_max` bounds a group's length.
    pub fn closed(bytes: &'a [u8], generation: Generation, bytes_max: usize) -> Option<GroupView<'a>> {
        let (header, state, sum) = decode_header(bytes)?;
        let length = header.length as usize;
        let fits = (GROUP_HEADER_BYTES..=bytes_max.min(bytes.len())).contains(&length);
        if header.generation != generation || state != STATE_CLOSED || !fits {
            return None;
        }
        let body = &bytes[GROUP_HEADER_BYTES..length];
        let header_bytes =
            bytes[..GROUP_HEADER_BYTES].try_into().expect("decode_header found a whole header");
        (checksum(generation, header_bytes, body) == sum).then_some(GroupView {
            header,
            checksum: sum,
            closed: true,
            body,
        })
    }

    /// The group that begins where `bytes` does in staging memory, closed or still open.
    pub fn staged(bytes: &'a [u8], generation: Generation, bytes_max: usize) -> Option<GroupView<'a>> {
        let (header, state, _) = decode_header(bytes)?;
        if state == STATE_CLOSED {
            return GroupView::closed(bytes, generation, bytes_max);
        }
        let body = &bytes[GROUP_HEADER_BYTES..bytes_max.min(bytes.len())];
        (header.generation == generation && state == 0).then_some(GroupView {
            header,
            checksum: 0,
            closed: false,
            body,
        })
    }

    /// The bytes behind the header that may hold entries.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The entries in order. A closed group that holds something else than entries ends with an error; an open one just
    /// ends at its first unpublished entry.
    pub fn entries(&self) -> Entries<'a> {
        Entries { rest: self.body, closed: self.closed }
    }
}

fn decode_header(bytes: &[u8]) -> Option<(GroupHeader, u32, u32)> {
    let mut bytes = Reader(bytes.get(..GROUP_HEADER_BYTES)?);
    if bytes.take::<8>() != MAGIC {
        return None;
    }
    let (generation, sequence, previous) =
        (Generation(bytes.u64()), JournalSequence(bytes.u64()), bytes.u32());
    let (state, length, entries) = (bytes.u32(), bytes.u32(), bytes.u32());
    let (durable, settled, sum) = (JournalSequence(bytes.u64()), JournalSequence(bytes.u64()), bytes.u32());
    Some((GroupHeader { generation, sequence, previous, length, entries, durable, settled }, state, sum))
}

fn checksum(generation: Generation, header: &[u8; GROUP_HEADER_BYTES], entries: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.0.to_le_bytes());
    hasher.update(&header[..CHECKSUM_AT]);
    hasher.update(entries);
    hasher.finalize()
}

/// What both kinds of batch entry say of their batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    /// The log it belongs to.
    pub partition: PartitionId,
    /// The leader epoch stamped into it.
    pub epoch: LeaderEpoch,
    /// Its first record's offset.
    pub base_offset: Offset,
    /// Its last record's offset.
    pub last_offset: Offset,
    /// The segment it lies in, named by the segment's first offset.
    pub segment: Offset,
    /// Where in the segment its first byte lies.
    pub position: u64,
    /// Its size in bytes.
    pub length: u32,
    /// Its producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// Its producer's incarnation.
    pub producer_epoch: ProducerEpoch,
    /// The sequence number of its first record.
    pub base_sequence: i32,
    /// The largest timestamp of its records, in milliseconds since 1970.
    pub max_timestamp: i64,
}

/// One entry of a group, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A batch by value.
    Small(BatchEntry, &'a [u8]),
    /// A batch whose whole blocks went to the segment directly.
    Large {
        /// What is said of the batch.
        batch: BatchEntry,
        /// The digest of its whole blocks.
        digest: [u8; 16],
        /// Its bytes before the first whole block.
        head: &'a [u8],
        /// Its bytes behind the last whole block.
        tail: &'a [u8],
    },
    /// The log starts at this offset from now on: what lies before it is deleted.
    LogStart(PartitionId, Offset),
    /// The large batch at this offset failed to be written; a digest that does not match is no damage.
    Void(PartitionId, Offset),
}

const KIND_SMALL: u8 = 1;
const KIND_LARGE: u8 = 2;
const KIND_LOG_START: u8 = 3;
const KIND_VOID: u8 = 4;

impl Entry<'_> {
    /// The entry's header with a length of zero, to be followed by [`Entry::payload`]; and the length to publish.
    pub fn encode_header(&self) -> ([u8; ENTRY_HEADER_BYTES], u32) {
        let mut bytes = [0; ENTRY_HEADER_BYTES];
        let mut out = Writer { bytes: &mut bytes, at: 4 };
        match *self {
            Entry::Small(batch, _) => out.batch(KIND_SMALL, &batch, 0, &[0; 16]),
            Entry::Large { batch, digest, head, .. } => {
                let head = u32::try_from(head.len()).expect("a head fragment is shorter than a block");
                out.batch(KIND_LARGE, &batch, head, &digest);
            }
            Entry::LogStart(partition, offset) => out.mark(KIND_LOG_START, partition, offset),
            Entry::Void(partition, offset) => out.mark(KIND_VOID, partition, offset),
        }
        let length = u32::try_from(self.encoded_bytes()).expect("an entry fits into a group");
        (bytes, length)
    }

    /// The parts that follow the header.
    pub fn payload(&self) -> [&[u8]; 2] {
        match *self {
            Entry::Small(_, bytes) => [bytes, &[]],
            Entry::Large { head, tail, .. } => [head, tail],
            Entry::LogStart(..) | Entry::Void(..) => [&[], &[]],
        }
    }

    /// The space it takes in a group: header, payload, zeros up to [`ENTRY_ALIGN`].
    pub fn encoded_bytes(&self) -> usize {
        let payload: usize = self.payload().iter().map(|part| part.len()).sum();
        (ENTRY_HEADER_BYTES + payload).next_multiple_of(ENTRY_ALIGN)
    }

    /// The log it speaks of.
    pub fn partition(&self) -> PartitionId {
        match *self {
            Entry::Small(batch, _) | Entry::Large { batch, .. } => batch.partition,
            Entry::LogStart(partition, _) | Entry::Void(partition, _) => partition,
        }
    }
}

/// Why a closed group's bytes are no entries: the checksum was right, so a writer of ours wrote nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a journal entry is malformed {at_end} bytes before its group's end")]
pub struct MalformedEntry {
    at_end: usize,
}

/// Iterates over a group's entries.
pub struct Entries<'a> {
    rest: &'a [u8],
    closed: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, MalformedEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = self.rest.get(..4).map_or(0, |word| Reader(word).u32() as usize);
        if self.rest.is_empty() || (length == 0 && !self.closed) {
            return None;
        }
        let entry = self.rest.get(..length).and_then(decode_entry);
        let malformed = MalformedEntry { at_end: self.rest.len() };
        self.rest = if entry.is_some() { &self.rest[length..] } else { &[] };
        Some(entry.ok_or(malformed))
    }
}

fn decode_entry(bytes: &[u8]) -> Option<Entry<'_>> {
    if bytes.len() < ENTRY_HEADER_BYTES || !bytes.len().is_multiple_of(ENTRY_ALIGN) {
        return None;
    }
    let mut header = Reader(&bytes[4..ENTRY_HEADER_BYTES]);
    let kind = header.take::<4>()[0];
    let partition = PartitionId {
        topic: TopicId(header.take::<16>()),
        index: PartitionIndex(header.u32().cast_signed()),
    };
    let epoch = LeaderEpoch(header.u32().cast_signed());
    let (base_offset, last_offset) = (Offset(header.u64().cast_signed()), Offset(header.u64().cast_signed()));
    let (segment, position, length) = (Offset(header.u64().cast_signed()), header.u64(), header.u32());
    let producer_epoch = ProducerEpoch(i16::from_le_bytes(header.take::<2>()));
    header.take::<2>();
    let producer_id = ProducerId(header.u64().cast_signed());
    let (base_sequence, head_length) = (header.u32().cast_signed(), header.u32() as usize);
    let (max_timestamp, digest) = (header.u64().cast_signed(), header.take::<16>());
    let batch = BatchEntry {
        partition,
        epoch,
        base_offset,
        last_offset,
        segment,
        position,
        length,
        producer_id,
        producer_epoch,
        base_sequence,
        max_timestamp,
    };
    let payload = &bytes[ENTRY_HEADER_BYTES..];
    match kind {
        KIND_SMALL => Some(Entry::Small(batch, payload.get(..length as usize)?)),
        KIND_LARGE => {
            let tail_length = fragments(position, length)?.1;
            let (head, rest) = payload.split_at_checked(head_length)?;
            Some(Entry::Large { batch, digest, head, tail: rest.get(..tail_length)? })
        }
        KIND_LOG_START => Some(Entry::LogStart(partition, base_offset)),
        KIND_VOID => Some(Entry::Void(partition, base_offset)),
        _ => None,
    }
}

/// How many bytes of a batch lie before its first whole 4 KiB block and behind its last one, if it has a whole block.
pub fn fragments(position: u64, length: u32) -> Option<(usize, usize)> {
    const BLOCK: u64 = crate::limits::BLOCK_BYTES as u64;
    let end = position.checked_add(u64::from(length))?;
    let (first, last) = (position.checked_next_multiple_of(BLOCK)?, end - end % BLOCK);
    (first < last).then(|| {
        let to_usize = |bytes: u64| usize::try_from(bytes).expect("a fragment is shorter than a block");
        (to_usize(first - position), to_usize(end - last))
    })
}

/// Appends to a fixed array; the layouts above bound what is put.
struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn name(&mut self, kind: u8, partition: PartitionId) {
        self.put(&[kind, 0, 0, 0]);
        self.put(&partition.topic.0);
        self.put(&partition.index.0.to_le_bytes());
    }

    fn mark(&mut self, kind: u8, partition: PartitionId, offset: Offset) {
        self.name(kind, partition);
        self.put(&[0; 4]);
        self.put(&offset.0.to_le_bytes());
    }

    fn batch(&mut self, kind: u8, batch: &BatchEntry, head_length: u32, digest: &[u8; 16]) {
        self.name(kind, batch.partition);
        self.put(&batch.epoch.0.to_le_bytes());
        self.put(&batch.base_offset.0.to_le_bytes());
        self.put(&batch.last_offset.0.to_le_bytes());
        self.put(&batch.segment.0.to_le_bytes());
        self.put(&batch.position.to_le_bytes());
        self.put(&batch.length.to_le_bytes());
        self.put(&batch.producer_epoch.0.to_le_bytes());
        self.put(&[0; 2]);
        self.put(&batch.producer_id.0.to_le_bytes());
        self.put(&batch.base_sequence.to_le_bytes());
        self.put(&head_length.to_le_bytes());
        self.put(&batch.max_timestamp.to_le_bytes());
        self.put(digest);
    }
}

/// Reads from a slice whose length its maker has checked.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk::<N>().expect("the caller checked the length");
        self.0 = rest;
        *head
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTITION: PartitionId = PartitionId { topic: TopicId([7; 16]), index: PartitionIndex(3) };

    fn batch(position: u64, length: u32) -> BatchEntry {
        BatchEntry {
            partition: PARTITION,
            epoch: LeaderEpoch(5),
            base_offset: Offset(100),
            last_offset: Offset(109),
            segment: Offset(90),
            position,
            length,
            producer_id: ProducerId(77),
            producer_epoch: ProducerEpoch(2),
            base_sequence: 40,
            max_timestamp: 1_700_000_000_000,
        }
    }

    /// A closed group of `entries`, padded with a stranger's bytes.
    fn group(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut body = Vec::new();
        for entry in entries {
            let start = body.len();
            let (mut header, length) = entry.encode_header();
            header[..4].copy_from_slice(&length.to_le_bytes());
            body.extend_from_slice(&header);
            entry.payload().iter().for_each(|part| body.extend_from_slice(part));
            body.resize(start + length as usize, 0);
        }
        let header = GroupHeader {
            generation: Generation(11),
            sequence: JournalSequence(4),
            previous: 9,
            length: u32::try_from(GROUP_HEADER_BYTES + body.len()).expect("small"),
            entries: u32::try_from(entries.len()).expect("small"),
            durable: JournalSequence(2),
            settled: JournalSequence(1),
        };
        let (head, _) = header.encode_closed(&body);
        [&head[..], &body, &[0xee; 50]].concat()
    }

    fn four() -> Vec<u8> {
        let (head, tail) = fragments(4000, 10_000).expect("two whole blocks inside");
        group(&[
            Entry::Small(batch(0, 3), b"abc"),
            Entry::Large {
                batch: batch(4000, 10_000),
                digest: [9; 16],
                head: &vec![1; head],
                tail: &vec![2; tail],
            },
            Entry::LogStart(PARTITION, Offset(55)),
            Entry::Void(PARTITION, Offset(56)),
        ])
    }

    #[test]
    fn a_group_reads_back_as_it_was_written() {
        let bytes = four();
        let view = GroupView::closed(&bytes, Generation(11), 1 << 20).expect("a closed group");
        assert_eq!(
            (view.header.sequence, view.header.previous, view.header.entries),
            (JournalSequence(4), 9, 4)
        );
        assert_eq!((view.header.durable, view.header.settled), (JournalSequence(2), JournalSequence(1)));
        let entries: Vec<_> = view.entries().collect::<Result<_, _>>().expect("well-formed");
        assert_eq!(entries[0], Entry::Small(batch(0, 3), b"abc"));
        let Entry::Large { batch: large, digest, head, tail } = entries[1] else {
            panic!("{:?}", entries[1])
        };
        assert_eq!((large, digest, head, tail), (batch(4000, 10_000), [9; 16], &[1; 96][..], &[2; 1712][..]));
        assert_eq!(
            entries[2..],
            [Entry::LogStart(PARTITION, Offset(55)), Entry::Void(PARTITION, Offset(56))]
        );
    }

    #[test]
    fn another_generation_or_any_flipped_bit_is_no_group() {
        let good = four();
        assert!(GroupView::closed(&good, Generation(12), 1 << 20).is_none());
        let length = good.len() - 50;
        assert!(GroupView::closed(&good, Generation(11), length - 1).is_none(), "longer than a group may be");
        assert!(GroupView::closed(&good[..length - 1], Generation(11), 1 << 20).is_none(), "cut short");
        let (mut flipped, zero_word) = (0, 60..64);
        for at in (0..length).filter(|at| !zero_word.contains(at)) {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(GroupView::closed(&bad, Generation(11), 1 << 20).is_none(), "byte {at} bit {bit}");
                flipped += 1;
            }
        }
        assert!(flipped > 80_000 / 8, "{flipped} flips compared");
    }

    #[test]
    fn an_open_group_shows_its_published_entries_only() {
        let mut bytes = four();
        bytes[..GROUP_HEADER_BYTES].copy_from_slice(&GroupHeader::encode_open(
            Generation(11),
            JournalSequence(4),
            9,
        ));
        let second = GROUP_HEADER_BYTES + Entry::Small(batch(0, 3), b"abc").encoded_bytes();
        bytes[second..second + 4].fill(0);
        let view = GroupView::staged(&bytes, Generation(11), 1 << 20).expect("an open group");
        assert!(!view.closed && GroupView::closed(&bytes, Generation(11), 1 << 20).is_none());
        let entries: Vec<_> = view.entries().collect::<Result<_, _>>().expect("well-formed");
        assert_eq!(entries, [Entry::Small(batch(0, 3), b"abc")]);
    }

    proptest! {
        #![proptest_config(crate::testing::seeded())]

        #[test]
        fn any_bytes_decode_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), open: bool) {
            if open && bytes.len() >= GROUP_HEADER_BYTES {
                let header = GroupHeader::encode_open(Generation(1), JournalSequence(1), 0);
                bytes[..GROUP_HEADER_BYTES].copy_from_slice(&header);
            }
            if let Some(view) = GroupView::staged(&bytes, Generation(1), 512) {
                prop_assert!(view.entries().count() <= 600 / ENTRY_HEADER_BYTES + 1);
            }
        }

        #[test]
        fn fragments_and_whole_blocks_add_up(position in 0u64..100_000, length in 1u32..100_000) {
            match fragments(position, length) {
                None => prop_assert!(length < 2 * 4096),
                Some((head, tail)) => {
                    let whole = length as usize - head - tail;
                    prop_assert!(whole >= 4096 && whole.is_multiple_of(4096));
                    prop_assert_eq!((position + head as u64) % 4096, 0);
                    prop_assert!(head < 4096 && tail < 4096);
                }
            }
        }
    }
}
