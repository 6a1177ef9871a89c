//! The bodies of compressed batches.

use std::io::Read;

use corelane::records::open_capped;
use corelane_shards::format::batch::Codec;

use super::input::Input;

/// The most that is decompressed, in bytes: no whole number of any codec's blocks.
const BYTES_MAX: usize = 300_001;

/// How much is read at a time. Bytes.
const READ_BYTES: usize = 4096;

/// Decompresses all but the first byte of `input`, which chooses the codec. No more than the cap comes out.
pub fn decompress(input: &[u8]) {
    let mut input = Input(input);
    let codec = Codec::from_id(input.u8() % 5).expect("there are five codecs");
    let Some(mut stream) = open_capped(codec, input.0, BYTES_MAX) else { return };
    let (mut buffer, mut bytes) = ([0; READ_BYTES], 0);
    while let Ok(read) = stream.read(&mut buffer) {
        bytes += read;
        if read == 0 {
            break;
        }
    }
    assert!(bytes <= BYTES_MAX || codec == Codec::None, "{bytes} bytes of {codec:?}");
}
