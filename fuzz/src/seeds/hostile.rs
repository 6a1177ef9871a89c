//! Bytes that mean harm, written by hand.

use super::Put;

pub(super) fn put(put: &mut Put<'_>) {
    frames(put);
    put("decompress", "snappy-claims-512-kib", vec![2, 0x80, 0x80, 0x20, 0, b'a']);
    put("decompress", "zstd-claims-1-gib-window", vec![4, 0x28, 0xb5, 0x2f, 0xfd, 0, 0xa0, 1, 0, 0]);
    let xerial = [&[2][..], b"\x82SNAPPY\0", &[0, 0, 0, 1, 0, 0, 0, 1], &[0x7f, 0xff, 0xff, 0xff, 1]];
    put("decompress", "xerial-block-beyond-its-body", xerial.concat());
    // A stored gzip block, and a member behind it that ends early.
    let member =
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1, 1, 0, 0xfe, 0xff, b'a', 0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0];
    put("decompress", "gzip-second-member-cut", [&[1], &member[..], &member[..12]].concat());
    let negative = super::BATCHES[0].1.to_vec();
    for (name, at, lie) in [
        ("length-negative", 8, [0xff; 4]),
        ("length-greatest", 8, [0x7f, 0xff, 0xff, 0xff]),
        ("delta-greatest", 23, [0x7f, 0xff, 0xff, 0xff]),
        ("count-greatest", 57, [0x7f, 0xff, 0xff, 0xff]),
        ("offset-greatest", 0, [0x7f, 0xff, 0xff, 0xff]),
    ] {
        let mut batch = negative.clone();
        batch[at..at + 4].copy_from_slice(&lie);
        put("batch", name, batch);
    }
}

/// Frames behind their lengths.
fn frames(put: &mut Put<'_>) {
    let frame = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("frames are short").to_be_bytes();
        [&length[..], bytes].concat()
    };
    let header = |key: u8, version: u8| vec![0, key, 0, version, 0, 0, 0, 7, 0xff, 0xff];
    put("frame", "length-negative", vec![0xff; 8]);
    put("frame", "length-greatest", vec![0x7f, 0xff, 0xff, 0xff]);
    put("frame", "empty", frame(&[]));
    put("frame", "unknown-api", frame(&[&header(0x7f, 0)[..], &[0]].concat()));
    put("frame", "api-versions-of-tomorrow", frame(&[&header(18, 99)[..], &[0]].concat()));
    // Metadata 1 with 2^31-1 topics in no bytes.
    put("frame", "topics-greatest", frame(&[&header(3, 1)[..], &[0x7f, 0xff, 0xff, 0xff]].concat()));
    // Metadata 12 with 2^32-2 topics in a compact array.
    put(
        "frame",
        "topics-greatest-compact",
        frame(&[&header(3, 12)[..], &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat()),
    );
    // Fetch 4 of partition 0 of t, at offset 0, that would wait for 2^31-1 milliseconds.
    let waits = [
        &header(1, 4)[..],
        &[0xff; 4],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 1, 0],
    ];
    let partition =
        [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    put("frame", "fetch-waits-longest", frame(&[&waits.concat()[..], &partition].concat()));
}
