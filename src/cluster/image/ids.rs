//! Identities: of the cluster, of its nodes, and of topics.

use std::{fmt, io};

use corelane_shards::types::TopicId;

use crate::cluster::store::random_bytes;

/// The identity of a cluster, drawn once when its metadata is first written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// A new identity.
    pub fn random() -> io::Result<ClusterId> {
        random_uuid().map(ClusterId)
    }
}

impl fmt::Display for ClusterId {
    /// As Kafka prints it: 22 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&uuid_text(self.0))
    }
}

/// Which node of the cluster; not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether Kafka gives this id a meaning of its own: "no topic", and the cluster metadata topic.
pub fn is_reserved_topic_id(id: TopicId) -> bool {
    matches!(u128::from_be_bytes(id.0), 0 | 1)
}

/// An id for a new topic: a random UUID, not reserved, and not one whose text begins with a dash (which
/// command-line tools would take for an option; Kafka avoids those too).
pub fn random_topic_id() -> io::Result<TopicId> {
    random_uuid().map(TopicId)
}

fn random_uuid() -> io::Result<[u8; 16]> {
    loop {
        let bytes = version_4(random_bytes()?);
        if !uuid_text(bytes).starts_with('-') {
            return Ok(bytes);
        }
    }
}

/// Marks the bytes as a random UUID of RFC 9562; which also makes them none of the reserved ones.
fn version_4(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// A UUID as Kafka's tools print it: URL-safe base64 without padding.
pub fn uuid_text(bytes: [u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = u128::from_be_bytes(bytes);
    let sextet = |i: u32| {
        // 22 times 6 bits are 4 more than there are; the last sextet is filled with zeroes.
        let bits = if i < 21 { number >> (122 - 6 * i) } else { number << 4 };
        char::from(ALPHABET[usize::try_from(bits & 63).expect("six bits")])
    };
    (0..22).map(sextet).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn text_is_kafkas() {
        assert_eq!(uuid_text([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(uuid_text(1u128.to_be_bytes()), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(uuid_text([0xff; 16]), "_____________________w");
        let bytes = 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f_u128.to_be_bytes();
        assert_eq!(uuid_text(bytes), "AAECAwQFBgcICQoLDA0ODw");
    }

    #[test]
    fn random_ids_differ_and_are_never_reserved() {
        let ids: HashSet<_> = (0..200).map(|_| random_topic_id().unwrap()).collect();
        assert_eq!(ids.len(), 200);
        assert!(ids.iter().all(|id| !is_reserved_topic_id(*id) && !uuid_text(id.0).starts_with('-')));
        assert!(is_reserved_topic_id(TopicId([0; 16])) && is_reserved_topic_id(TopicId(1u128.to_be_bytes())));
        assert!(
            [[0; 16], 1u128.to_be_bytes()].iter().all(|id| !is_reserved_topic_id(TopicId(version_4(*id))))
        );
    }
}
