//! The file `format`: whose directory this is, in which layout, and whether the last start was stopped cleanly.
//!
//! Text, so that a person can read it; the last line is a checksum of all before it, so that a flipped digit is found
//! before anything is believed. First and last line are the same in every version. `docs/formats/directory.md` shows it
//! byte by byte. The file is replaced at every start and every clean stop.

use std::fmt::Write;

use super::files::{self, FileError};
use super::identity::{ClusterId, DirectoryId, Incarnation};
use super::layout::Layout;

/// The version of the directory's layout.
pub const VERSION: u32 = 1;

/// A format file is some 300 bytes; nothing longer is read. Bytes.
const BYTES_MAX: u64 = 4096;
const TITLE: &str = "Corelane data directory";
const CHECKSUM: &str = "checksum: ";
const NEVER: &str = "none";

/// The content of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The cluster that the data belongs to.
    pub cluster: ClusterId,
    /// This directory.
    pub directory: DirectoryId,
    /// The last start of a broker here.
    pub incarnation: Incarnation,
    /// The start that was stopped cleanly: everything it appended is in its manifests, and its journals are empty.
    pub stopped: Option<Incarnation>,
}

/// Why a file is no format file that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or replaced.
    #[error(transparent)]
    File(#[from] FileError),
    /// Intact, and written by a later release.
    #[error("the directory has format version {found}, and this release knows up to version {VERSION}")]
    Newer {
        /// As in the file.
        found: u32,
    },
    /// Not what was written.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
}

impl Format {
    /// What a new directory says of itself.
    pub fn new(incarnation: Incarnation) -> Format {
        let (cluster, directory) = (ClusterId::random(), DirectoryId::random());
        Format { cluster, directory, incarnation, stopped: None }
    }

    /// Whether the last start was stopped cleanly.
    pub fn was_stopped_cleanly(&self) -> bool {
        self.stopped == Some(self.incarnation)
    }

    /// The bytes of the file.
    pub fn encode(&self) -> String {
        let Format { cluster, directory, incarnation, stopped } = self;
        let stopped = stopped.map_or_else(|| NEVER.to_owned(), |incarnation| incarnation.to_string());
        let mut text = format!(
            "{TITLE}\nversion: {VERSION}\ncluster: {cluster}\ndirectory: {directory}\n\
             incarnation: {incarnation}\nstopped: {stopped}\n"
        );
        let sum = crc32fast::hash(text.as_bytes());
        writeln!(text, "{CHECKSUM}{sum:08x}").expect("writing into memory cannot fail");
        text
    }

    /// Whether bytes begin as such a file does.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(TITLE.as_bytes())
    }

    /// The format in a file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Format, Error> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::Damaged("it is no text"))?;
        let mut lines = checked(text)?.lines();
        if lines.next() != Some(TITLE) {
            return Err(Error::Damaged("its first line is another one"));
        }
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(": ");
        let version =
            field("version").and_then(|v| v.parse().ok()).ok_or(Error::Damaged("it has no version"))?;
        match version {
            0 => return Err(Error::Damaged("there is no version 0")),
            VERSION => {}
            found => return Err(Error::Newer { found }),
        }
        let malformed = || Error::Damaged("its fields are not those of its version");
        let cluster = field("cluster").and_then(ClusterId::parse).ok_or_else(malformed)?;
        let directory = field("directory").and_then(DirectoryId::parse).ok_or_else(malformed)?;
        let incarnation = field("incarnation").and_then(Incarnation::parse).ok_or_else(malformed)?;
        let stopped = match field("stopped").ok_or_else(malformed)? {
            NEVER => None,
            text => Some(Incarnation::parse(text).ok_or_else(malformed)?),
        };
        if lines.next().is_some() {
            return Err(malformed());
        }
        Ok(Format { cluster, directory, incarnation, stopped })
    }

    /// The format of a directory; `None` if it has no such file.
    pub fn read(layout: &Layout) -> Result<Option<Format>, Error> {
        files::read(&layout.format(), BYTES_MAX)?.map(|bytes| Format::decode(&bytes)).transpose()
    }

    /// Replaces a directory's format file, durably.
    pub fn replace(&self, layout: &Layout) -> Result<(), Error> {
        Ok(files::replace(&layout.format(), self.encode().as_bytes())?)
    }
}

/// The lines in front of the checksum, which is theirs.
fn checked(text: &str) -> Result<&str, Error> {
    let unchecked = Error::Damaged("it does not end with a checksum");
    let Some(at) = text.rfind(CHECKSUM) else { return Err(unchecked) };
    let (lines, last) = text.split_at(at);
    let digits = last[CHECKSUM.len()..].strip_suffix('\n').filter(|digits| digits.len() == 8);
    let Some(stored) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
        return Err(unchecked);
    };
    if stored == crc32fast::hash(lines.as_bytes()) {
        Ok(lines)
    } else {
        Err(Error::Damaged("its checksum does not match"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format() -> Format {
        let incarnation = Incarnation([3; 16]);
        Format {
            cluster: ClusterId([1; 16]),
            directory: DirectoryId([2; 16]),
            incarnation,
            stopped: Some(incarnation),
        }
    }

    fn sealed(lines: &str) -> Vec<u8> {
        format!("{lines}checksum: {:08x}\n", crc32fast::hash(lines.as_bytes())).into_bytes()
    }

    #[test]
    fn the_file_is_the_one_in_the_documents() {
        let expected = "Corelane data directory\n\
            version: 1\n\
            cluster: 01010101-0101-0101-0101-010101010101\n\
            directory: 02020202-0202-0202-0202-020202020202\n\
            incarnation: 03030303-0303-0303-0303-030303030303\n\
            stopped: 03030303-0303-0303-0303-030303030303\n";
        assert_eq!(format().encode().into_bytes(), sealed(expected));
    }

    #[test]
    fn it_comes_back_as_it_was_written() {
        for stopped in [None, Some(Incarnation([3; 16])), Some(Incarnation([4; 16]))] {
            let format = Format { stopped, ..format() };
            let read = Format::decode(format.encode().as_bytes()).unwrap();
            assert_eq!(read, format);
            assert_eq!(read.was_stopped_cleanly(), stopped == Some(format.incarnation));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let bytes = format().encode().into_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let result = Format::decode(&flipped);
            // The case of a digit of the checksum says nothing.
            let is_same = result.as_ref().is_ok_and(|read| *read == format());
            assert!(matches!(result, Err(Error::Damaged(_))) || is_same, "bit {bit}: {result:?}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(Format::decode(&bytes[..length]), Err(Error::Damaged(_))), "{length} bytes");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let newer = sealed("Corelane data directory\nversion: 2\nsomething: else\n");
        assert!(matches!(Format::decode(&newer), Err(Error::Newer { found: 2 })));
        let zero = sealed("Corelane data directory\nversion: 0\n");
        assert!(matches!(Format::decode(&zero), Err(Error::Damaged(_))));
        let other = sealed("Another data directory\nversion: 2\n");
        assert!(matches!(Format::decode(&other), Err(Error::Damaged(_))));
    }

    #[test]
    fn a_field_too_many_is_not_of_this_version() {
        let text = format().encode();
        let lines = text.split_at(text.find("checksum").unwrap()).0;
        let longer = sealed(&format!("{lines}more: fields\n"));
        assert!(matches!(Format::decode(&longer), Err(Error::Damaged(_))));
    }
}
