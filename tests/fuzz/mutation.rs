//! Inputs near to known ones, as a seed draws them.

use corelane_shards::sim::random::Random;

use crate::corpus::Input;

/// No changed input is longer. Bytes.
const BYTES_MAX: usize = 64 << 10;

/// The longest piece that is cut out, doubled, or taken from elsewhere. Bytes.
const PIECE_BYTES_MAX: usize = 256;

/// Numbers at which lengths and counts break, in both byte orders where that makes a difference.
const LIES: [&[u8]; 12] = [
    &[0],
    &[0xff],
    &[0x80],
    &[0xff, 0xff],
    &[0x7f, 0xff],
    &[0, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
];

/// One of `inputs` with a few changes, and its name.
pub(crate) fn change<'a>(random: &mut Random, inputs: &'a [Input]) -> (&'a str, Vec<u8>) {
    let from = &inputs[random.below(inputs.len())];
    let mut bytes = from.bytes.clone();
    for _ in 0..random.between(1, 5) {
        let other = &inputs[random.below(inputs.len())].bytes;
        change_once(random, &mut bytes, other);
        bytes.truncate(BYTES_MAX);
    }
    (&from.name, bytes)
}

fn change_once(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len() + 1);
    let here = at..(at + random.below(PIECE_BYTES_MAX)).min(bytes.len());
    match random.below(8) {
        0 => _ = bytes.drain(here),
        1 => {
            let piece = bytes[here].to_vec();
            bytes.splice(at..at, piece);
        }
        2 => {
            let from = random.below(other.len() + 1);
            let piece = &other[from..(from + random.below(PIECE_BYTES_MAX)).min(other.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        3 => bytes.truncate(at),
        4 | 5 => overwrite(bytes, at, LIES[random.below(LIES.len())]),
        6 => overwrite(bytes, at, &random.bits().to_le_bytes()[..random.between(1, 8)]),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                let step = random.below(16).to_le_bytes()[0];
                *byte =
                    if random.per_mille(500) { *byte ^ (1 << (step % 8)) } else { byte.wrapping_add(step) };
            }
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let there = bytes[at..].len().min(with.len());
    bytes[at..at + there].copy_from_slice(&with[..there]);
}
