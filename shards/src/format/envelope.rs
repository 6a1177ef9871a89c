//! The fixed header in front of manifests and the root: it says what a file is before anything in it is trusted.
//!
//! ```text
//!  0  magic           8   which kind of file
//!  8  version         2   of the payload
//! 10  header length   2   24; a later version may put more behind these fields, never change them
//! 12  crc             4   CRC-32 (IEEE) of all other bytes, header and payload
//! 16  payload length  8
//! 24  payload
//! ```
//!
//! Integers are little-endian. Because this part is the same in all versions, damage is found before the version is
//! looked at, and "newer" is never a flipped bit. Bytes behind the payload are ignored: a file may end with the padding
//! of its last block. The envelope does not know what a payload means, nor any file's name; the payload needs no
//! alignment, since archives are built of unaligned primitives.

use std::ops::{Range, RangeInclusive};

use crc32fast::Hasher;

/// The fixed part in front of the payload, in bytes.
pub const HEADER_BYTES: usize = 24;

const MAGIC_BYTES: usize = 8;
const VERSION: Range<usize> = 8..10;
const HEADER_LENGTH: Range<usize> = 10..12;
const CRC: Range<usize> = 12..16;
const PAYLOAD_LENGTH: Range<usize> = 16..24;

/// The kinds of file that are kept in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What a shard holds, committed at each checkpoint.
    Manifest,
    /// Which manifests and journals make up a directory.
    Root,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Kind; 2] = [Kind::Manifest, Kind::Root];

    /// The first bytes of such a file.
    pub fn magic(self) -> [u8; MAGIC_BYTES] {
        match self {
            Kind::Manifest => *b"CLmanife",
            Kind::Root => *b"CLroot\0\0",
        }
    }

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Manifest => "manifest",
            Kind::Root => "root",
        }
    }
}

/// Why an envelope was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file is something else, or was never written.
    #[error("this is no {}: it begins with {found:02x?}", kind.name())]
    NotOurs {
        /// What was asked for.
        kind: Kind,
        /// What is there instead of the magic.
        found: [u8; MAGIC_BYTES],
    },
    /// The file ends before the envelope does.
    #[error("the {} is cut short: {needed} bytes are needed and {available} are there", kind.name())]
    Truncated {
        /// What was asked for.
        kind: Kind,
        /// Header and payload, as far as known.
        needed: u64,
        /// In the file.
        available: u64,
    },
    /// The bytes are not those that were sealed.
    #[error("the {} is damaged: its checksum is {stored:#010x} and its bytes give {computed:#010x}", kind.name())]
    Damaged {
        /// What was asked for.
        kind: Kind,
        /// As in the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// Intact, and written by a later release.
    #[error("the {} has version {found}, and this release reads up to version {newest}", kind.name())]
    Newer {
        /// What was asked for.
        kind: Kind,
        /// As in the header.
        found: u16,
        /// The last that this release reads.
        newest: u16,
    },
    /// Intact, and of a version that is read no more.
    #[error("the {} has version {found}, and this release reads from version {oldest}", kind.name())]
    Older {
        /// What was asked for.
        kind: Kind,
        /// As in the header.
        found: u16,
        /// The first that this release reads.
        oldest: u16,
    },
}

/// The payload with its envelope, ready to be written.
pub fn seal(kind: Kind, version: u16, payload: &[u8]) -> Vec<u8> {
    let header_length = u16::try_from(HEADER_BYTES).expect("the header is short");
    let mut sealed = Vec::with_capacity(HEADER_BYTES + payload.len());
    sealed.extend(kind.magic());
    sealed.extend(version.to_le_bytes());
    sealed.extend(header_length.to_le_bytes());
    sealed.extend([0; CRC.end - CRC.start]);
    sealed.extend(wide(payload.len()).to_le_bytes());
    sealed.extend(payload);
    let crc = checksum(&sealed);
    sealed[CRC].copy_from_slice(&crc.to_le_bytes());
    sealed
}

/// The version and the payload of an envelope at the start of `bytes`, if it is whole, intact and of a version in
/// `supported`.
pub fn open(kind: Kind, supported: RangeInclusive<u16>, bytes: &[u8]) -> Result<(u16, &[u8]), Error> {
    check_magic(kind, bytes)?;
    let (sealed, header_bytes) = delimit(kind, bytes)?;
    let (stored, computed) = (u32::from_le_bytes(field(sealed, CRC)), checksum(sealed));
    if stored != computed {
        return Err(Error::Damaged { kind, stored, computed });
    }
    let found = u16::from_le_bytes(field(sealed, VERSION));
    if found > *supported.end() {
        return Err(Error::Newer { kind, found, newest: *supported.end() });
    }
    if found < *supported.start() {
        return Err(Error::Older { kind, found, oldest: *supported.start() });
    }
    Ok((found, &sealed[header_bytes..]))
}

fn check_magic(kind: Kind, bytes: &[u8]) -> Result<(), Error> {
    let magic = kind.magic();
    let there = bytes.len().min(MAGIC_BYTES);
    if bytes[..there] != magic[..there] {
        let mut found = [0; MAGIC_BYTES];
        found[..there].copy_from_slice(&bytes[..there]);
        return Err(Error::NotOurs { kind, found });
    }
    Ok(())
}

/// Header and payload without what follows them, and the header's length. Both lengths are checked against the bytes.
fn delimit(kind: Kind, bytes: &[u8]) -> Result<(&[u8], usize), Error> {
    let available = wide(bytes.len());
    if bytes.len() < HEADER_BYTES {
        return Err(Error::Truncated { kind, needed: wide(HEADER_BYTES), available });
    }
    // A damaged header length below the fixed part would move the payload into the header; the checksum finds it.
    let header_bytes = usize::from(u16::from_le_bytes(field(bytes, HEADER_LENGTH))).max(HEADER_BYTES);
    let payload_length = u64::from_le_bytes(field(bytes, PAYLOAD_LENGTH));
    let needed = payload_length.saturating_add(wide(header_bytes));
    let whole = usize::try_from(needed).ok().and_then(|needed| bytes.get(..needed));
    let whole = whole.ok_or(Error::Truncated { kind, needed, available })?;
    Ok((whole, header_bytes))
}

fn checksum(sealed: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&sealed[..CRC.start]);
    hasher.update(&sealed[CRC.end..]);
    hasher.finalize()
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("memory has fewer than 2^64 bytes")
}

fn field<const N: usize>(bytes: &[u8], range: Range<usize>) -> [u8; N] {
    bytes[range].try_into().expect("a field's range is as long as its type")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIND: Kind = Kind::Manifest;

    #[test]
    fn the_bytes_are_those_that_the_format_page_shows() {
        let sealed = seal(Kind::Root, 0x0102, b"hi");
        assert_eq!(sealed[..12], *b"CLroot\0\0\x02\x01\x18\0");
        assert_eq!(sealed[16..], *b"\x02\0\0\0\0\0\0\0hi");
        let covered = [&sealed[..12], &sealed[16..]].concat();
        assert_eq!(sealed[12..16], crc32fast::hash(&covered).to_le_bytes());
    }

    #[test]
    fn kinds_do_not_open_each_others_files() {
        for written in Kind::ALL {
            let sealed = seal(written, 1, b"payload");
            for asked in Kind::ALL {
                let opened = open(asked, 1..=1, &sealed);
                if asked == written {
                    assert_eq!(opened, Ok((1, &b"payload"[..])));
                } else {
                    assert_eq!(opened, Err(Error::NotOurs { kind: asked, found: written.magic() }));
                }
            }
        }
    }

    #[test]
    fn versions_outside_the_supported_ones_are_told_apart_from_damage() {
        let sealed = seal(KIND, 3, b"payload");
        assert_eq!(open(KIND, 3..=3, &sealed), Ok((3, &b"payload"[..])));
        assert_eq!(open(KIND, 1..=2, &sealed), Err(Error::Newer { kind: KIND, found: 3, newest: 2 }));
        assert_eq!(open(KIND, 4..=9, &sealed), Err(Error::Older { kind: KIND, found: 3, oldest: 4 }));
        let mut flipped = sealed;
        flipped[VERSION.start] ^= 0x40;
        assert!(matches!(open(KIND, 3..=3, &flipped), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_later_versions_longer_header_is_stepped_over() {
        let mut sealed = seal(KIND, 1, b"12345678payload");
        sealed[HEADER_LENGTH].copy_from_slice(&32u16.to_le_bytes());
        sealed[PAYLOAD_LENGTH].copy_from_slice(&7u64.to_le_bytes());
        let crc = checksum(&sealed);
        sealed[CRC].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(open(KIND, 1..=1, &sealed), Ok((1, &b"payload"[..])));
    }

    #[test]
    fn every_cut_is_noticed_and_padding_is_not_minded() {
        let mut bytes = seal(KIND, 1, b"payload");
        for cut in 0..bytes.len() {
            let opened = open(KIND, 1..=1, &bytes[..cut]);
            assert!(matches!(opened, Err(Error::Truncated { .. })), "{cut} bytes: {opened:?}");
        }
        bytes.resize(4096, 0);
        assert_eq!(open(KIND, 1..=1, &bytes), Ok((1, &b"payload"[..])));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = seal(KIND, 1, b"some payload");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(KIND, 1..=u16::MAX, &bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened(payload in prop::collection::vec(any::<u8>(), 0..2000), version in any::<u16>()) {
            let sealed = seal(KIND, version, &payload);
            prop_assert_eq!(open(KIND, 0..=u16::MAX, &sealed), Ok((version, &payload[..])));
        }

        #[test]
        fn arbitrary_bytes_never_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let there = bytes.len().min(MAGIC_BYTES);
            bytes[..there].copy_from_slice(&KIND.magic()[..there]);
            prop_assert!(open(KIND, 0..=u16::MAX, &bytes).is_err());
        }
    }
}
