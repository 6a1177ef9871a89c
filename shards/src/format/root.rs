//! The root of a data directory: which manifests count. Replacing it is the commit point of every opening, over all
//! shards at once.

use rkyv::rancor;

use crate::format::envelope::{self, Kind};

/// The version of this layout; see `docs/formats/root.md`.
pub const VERSION: u16 = 1;

/// The content of the file `root`.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Root {
    /// The leader epoch of the opening that wrote it; the next opening takes a larger one.
    pub epoch: i32,
    /// The file name of each shard's manifest, in shard order.
    pub manifests: Vec<String>,
}

impl Root {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let payload = rkyv::to_bytes::<rancor::Error>(self).expect("writing into memory cannot fail");
        envelope::seal(Kind::Root, VERSION, &payload)
    }

    /// The root in a file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Root, Error> {
        let (_, payload) = envelope::open(Kind::Root, VERSION..=VERSION, bytes)?;
        let root = rkyv::from_bytes::<Root, rancor::Error>(payload).map_err(|_| Error::Malformed)?;
        let shards = root.manifests.len();
        let is_usable = (1..=usize::from(u16::MAX)).contains(&shards) && root.epoch >= 0;
        if is_usable && root.manifests.iter().all(|name| is_name(name)) {
            Ok(root)
        } else {
            Err(Error::Malformed)
        }
    }
}

/// Whether a manifest may be called so: a name can lead nowhere else than to the directory of manifests.
fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain)
}

/// Why a file is no root that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The envelope around it is not whole.
    #[error(transparent)]
    Envelope(#[from] envelope::Error),
    /// The checksum is right and the content is not what the version promises.
    #[error("the root's content does not have the layout its version promises")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Root {
        Root { epoch: 7, manifests: vec!["0000000007-0".to_owned(), "0000000007-1".to_owned()] }
    }

    #[test]
    fn version_1_is_read_and_written_byte_for_byte() {
        let golden = include_bytes!("testdata/root.v1");
        assert_eq!(Root::decode(golden).expect("a root of version 1"), sample());
        assert_eq!(sample().encode(), golden, "the layout changed: it needs a new version");
    }

    #[test]
    fn a_name_leads_to_no_other_directory() {
        for name in ["", "..", "../root", "a/b", "0000000007 0", &"0".repeat(65)] {
            let root = Root { manifests: vec![name.to_owned()], ..sample() };
            assert!(matches!(Root::decode(&root.encode()), Err(Error::Malformed)), "{name:?}");
        }
        let empty = Root { manifests: Vec::new(), ..sample() };
        assert!(matches!(Root::decode(&empty.encode()), Err(Error::Malformed)));
        let before_all = Root { epoch: -1, ..sample() };
        assert!(matches!(Root::decode(&before_all.encode()), Err(Error::Malformed)));
    }
}
