//! What each target's corpus begins with: captured frames, golden files, what our own code writes, and bytes that mean harm.

mod hostile;
mod shard;
mod store;

use std::collections::BTreeMap;

use corelane_shards::directory::format_file::Format;
use corelane_shards::directory::{ClusterId, DirectoryId, Incarnation};
use corelane_shards::format::batch::HEADER_BYTES;
use corelane_shards::format::index::SparseIndex;
use corelane_shards::types::{Offset, Position, Timestamp};

use super::index::BASE;
use super::input::piece;

#[path = "../../tests/wire/frames.rs"]
#[allow(dead_code, reason = "the wire tests ask more of it")]
mod frames;

/// An input of a target.
pub struct Seed {
    /// The target's name.
    pub target: &'static str,
    /// Its file's name in the corpus.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Batches of a foreign client: the file's name, its bytes, its codec's number.
const BATCHES: [(&str, &[u8], u8); 7] = [
    ("none", include_bytes!("../../shards/src/format/testdata/none.batch"), 0),
    ("gzip", include_bytes!("../../shards/src/format/testdata/gzip.batch"), 1),
    ("snappy", include_bytes!("../../shards/src/format/testdata/snappy.batch"), 2),
    ("lz4", include_bytes!("../../shards/src/format/testdata/lz4.batch"), 3),
    ("zstd", include_bytes!("../../shards/src/format/testdata/zstd.batch"), 4),
    ("idempotent", include_bytes!("../../shards/src/format/testdata/idempotent.batch"), 0),
    ("transactional", include_bytes!("../../shards/src/format/testdata/transactional.batch"), 4),
];

const ROOT: &[u8] = include_bytes!("../../shards/src/format/testdata/root.v1");
const MANIFEST: &[u8] = include_bytes!("../../shards/src/format/testdata/manifest.v1");

/// All seeds.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut put = |target, name: &str, bytes| seeds.push(Seed { target, name: name.to_owned(), bytes });
    captured(&mut put);
    batches(&mut put);
    files(&mut put);
    index(&mut put);
    shard::put(&mut put);
    store::put(&mut put);
    hostile::put(&mut put);
    seeds
}

/// Takes a seed: its target, its name, its bytes.
type Put<'a> = dyn FnMut(&'static str, &str, Vec<u8>) + 'a;

/// The smallest captured request of each API and version, as it came, and the requests of each API as one connection's.
fn captured(put: &mut Put<'_>) {
    let mut smallest: BTreeMap<(&str, i16), Vec<u8>> = BTreeMap::new();
    for exchange in frames::all() {
        let length = u32::try_from(exchange.request.len()).expect("frames are short").to_be_bytes();
        let frame = [&length[..], &exchange.request].concat();
        let known = smallest.entry((exchange.api, exchange.version)).or_insert_with(|| frame.clone());
        if frame.len() < known.len() {
            *known = frame;
        }
    }
    let mut connections: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for ((api, version), frame) in smallest {
        connections.entry(api).or_default().extend(&frame);
        put("frame", &format!("{api}-{version}"), frame);
    }
    for (api, frames) in connections {
        put("frame", &format!("{api}-all"), frames);
    }
}

fn batches(put: &mut Put<'_>) {
    for (name, batch, codec) in BATCHES {
        put("batch", name, batch.to_vec());
        put("decompress", name, [&[codec], &batch[HEADER_BYTES..]].concat());
    }
    put("batch", "two", [BATCHES[0].1, BATCHES[5].1].concat());
}

fn files(put: &mut Put<'_>) {
    let behind_envelope = |file: &[u8]| file[24..].to_vec();
    put("files", "root", [&[0], ROOT].concat());
    put("files", "root-payload", [&[0], &behind_envelope(ROOT)[..]].concat());
    put("files", "manifest", [&[1], MANIFEST].concat());
    put("files", "manifest-payload", [&[1], &behind_envelope(MANIFEST)[..]].concat());
    let incarnation = Incarnation([3; 16]);
    let (cluster, directory) = (ClusterId([1; 16]), DirectoryId([2; 16]));
    for (name, stopped) in [("format", None), ("format-stopped", Some(incarnation))] {
        let text = Format { cluster, directory, incarnation, stopped }.encode();
        let lines = text.split("checksum").next().expect("the lines before it");
        put("files", name, [&[2], text.as_bytes()].concat());
        put("files", &format!("{name}-lines"), [&[2], lines.as_bytes()].concat());
    }
}

fn index(put: &mut Put<'_>) {
    for batches in [0, 1, 40, 2000] {
        let mut index = SparseIndex::new(BASE);
        for number in 0..batches {
            let position = Position(u32::try_from(number * 1500).expect("a segment"));
            index.append(
                Offset(BASE.get() + 10 * number),
                position,
                1500,
                Timestamp(1_700_000_000_000 + number),
            );
        }
        let look_up = [(BASE.get() + 5 * batches).to_le_bytes(), (750 * batches).to_le_bytes()].concat();
        let [offsets, times] =
            [index.encode_offsets(), index.encode_times()].map(|pages| piece(without_end(&pages)));
        put("index", &format!("{batches}-batches"), [look_up, offsets, times].concat());
    }
}

/// Pages without the zeros at their end, which the target puts back.
fn without_end(pages: &[u8]) -> &[u8] {
    let end = pages.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &pages[..end]
}
