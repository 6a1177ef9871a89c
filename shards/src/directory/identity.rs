//! Random names: of a cluster, of a data directory, of one start of the broker.

use std::fmt;

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fresh bytes of the kernel's randomness.
pub(super) fn random<const N: usize>() -> [u8; N] {
    const { assert!(N <= 256, "so few bytes come at once or not at all") };
    let mut bytes = [0; N];
    let count = retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()))
        .expect("the kernel gives randomness to everybody");
    assert_eq!(count, N, "up to 256 bytes come at once");
    bytes
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// One that nobody had before: a random UUID.
            pub fn random() -> $name {
                let mut bytes = random::<16>();
                bytes[6] = bytes[6] & 0x0f | 0x40;
                bytes[8] = bytes[8] & 0x3f | 0x80;
                $name(bytes)
            }

            /// The identity that prints as `text`.
            pub fn parse(text: &str) -> Option<$name> {
                parse(text).map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&crate::types::TopicId(self.0), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

identity! {
    /// The cluster that a directory's data belongs to, for as long as the data lives.
    ClusterId
}
identity! {
    /// One data directory. A copy of the directory has the same one, and must not be used beside it.
    DirectoryId
}
identity! {
    /// One start of the broker on a directory.
    Incarnation
}

/// The sixteen bytes of a UUID in its usual form: 8-4-4-4-12 digits.
pub(super) fn parse(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = groups.concat();
    if lengths != [8, 4, 4, 4, 12] || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_print_and_parse_and_differ() {
        let id = DirectoryId::random();
        assert_eq!(DirectoryId::parse(&id.to_string()), Some(id));
        assert_ne!(DirectoryId::random(), id);
        for text in ["", "0", "+0000000-0000-0000-0000-000000000000", "00000000000000000000000000000000"] {
            assert_eq!(DirectoryId::parse(text), None, "{text}");
        }
    }
}
