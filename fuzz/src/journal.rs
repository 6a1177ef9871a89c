//! Journal groups and their entries.

use corelane_shards::format::journal::{Entry, GROUP_HEADER_BYTES, GroupHeader, GroupView};
use corelane_shards::types::{Generation, JournalSequence};

/// The generation of all groups here, and of the groups among the seeds.
pub(crate) const GENERATION: Generation = Generation(0x1234_5678_9abc_def0);

/// Reads `input` as a group, closed or left open, and as the entries of a group that is closed around them.
pub fn journal(input: &[u8]) {
    for view in [GroupView::closed, GroupView::staged] {
        if let Some(view) = view(input, GENERATION, input.len()) {
            look_at(&view);
        }
    }
    let group = close(JournalSequence(1), 0, input);
    let view = GroupView::closed(&group, GENERATION, group.len()).expect("it was just closed");
    assert_eq!(view.body_bytes(), input.len());
    look_at(&view);
}

/// A closed group around `entries`.
pub(crate) fn close(sequence: JournalSequence, previous: u32, entries: &[u8]) -> Vec<u8> {
    let header = GroupHeader {
        generation: GENERATION,
        sequence,
        previous,
        length: u32::try_from(GROUP_HEADER_BYTES + entries.len()).expect("an input is small"),
        entries: 0,
        durable: JournalSequence(0),
        settled: JournalSequence(0),
    };
    [&header.encode_closed(entries).0[..], entries].concat()
}

fn look_at(view: &GroupView<'_>) {
    let mut read_bytes = 0;
    for entry in view.entries().map_while(Result::ok) {
        read_bytes += entry.encoded_bytes();
        assert!(read_bytes <= view.body_bytes(), "entries do not overlap");
        let group = close(JournalSequence(2), 1, &encode(&entry));
        let again = GroupView::closed(&group, GENERATION, group.len()).expect("it was just closed");
        let entries: Vec<_> = again.entries().collect();
        assert_eq!(entries, [Ok(entry)], "an entry is read as it was written");
    }
}

/// An entry as a group holds it.
pub(crate) fn encode(entry: &Entry<'_>) -> Vec<u8> {
    let (header, length) = entry.encode_header();
    let mut bytes = [&header[..], &entry.payload().concat()].concat();
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes.resize(length as usize, 0);
    bytes
}
