//! Root, manifest and format file.

use corelane_shards::directory::format_file::Format;
use corelane_shards::format::envelope::{self, Kind};
use corelane_shards::format::manifest::{self, Manifest};
use corelane_shards::format::root::{self, Root};

use super::input::Input;

/// Reads all but the first byte of `input`, which chooses the file, as it is and under a right checksum. What is read is
/// written as it was read.
pub fn files(input: &[u8]) {
    let mut input = Input(input);
    match input.u8() % 3 {
        0 => root(input.0),
        1 => manifest(input.0),
        _ => format(input.0),
    }
}

fn root(bytes: &[u8]) {
    for file in [bytes, &envelope::seal(Kind::Root, root::VERSION, bytes)] {
        if let Ok(root) = Root::decode(file) {
            assert_eq!(Root::decode(&root.encode()).expect("just written"), root);
        }
    }
}

fn manifest(bytes: &[u8]) {
    for file in [bytes, &envelope::seal(Kind::Manifest, manifest::VERSION, bytes)] {
        if let Ok(manifest) = Manifest::decode(file) {
            assert_eq!(Manifest::decode(&manifest.encode()).expect("just written"), manifest);
        }
    }
}

fn format(bytes: &[u8]) {
    let sealed = [bytes, format!("checksum: {:08x}\n", crc32fast::hash(bytes)).as_bytes()].concat();
    for file in [bytes, &sealed] {
        if let Ok(format) = Format::decode(file) {
            assert_eq!(Format::decode(format.encode().as_bytes()).expect("just written"), format);
        }
    }
}
